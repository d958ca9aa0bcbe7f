<?php
/**
 * WordPress' object cache: what one request has seen, backed by values that all instances share.
 *
 * To WordPress it behaves as its own cache does, whatever happens to memcached: then it is a cache
 * of this request only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

use Flotilla\Cache\Options;
use Flotilla\Cache\Shared;

require_once __DIR__ . '/cache-shared.php';

class WP_Object_Cache {
	/**
	 * What this request has seen: group => id => value. Emptying it is harmless.
	 *
	 * @var array
	 */
	public $cache = array();

	/**
	 * Values found, for whoever shows statistics.
	 *
	 * @var int
	 */
	public $cache_hits = 0;

	/**
	 * Values not found.
	 *
	 * @var int
	 */
	public $cache_misses = 0;

	/**
	 * Groups that all sites of a network share, as keys.
	 *
	 * @var array<string, true>
	 */
	public $global_groups = array();

	/**
	 * Groups that are for one request only, as keys.
	 *
	 * @var array<string, true>
	 */
	private $own_groups = array();

	/**
	 * What was not there when it was asked for: group => id => true.
	 *
	 * @var array
	 */
	private $missing = array();

	/**
	 * Whether there are several sites.
	 *
	 * @var bool
	 */
	private $is_network;

	/**
	 * What the ids of a network's site begin with.
	 *
	 * @var string
	 */
	private $blog_prefix;

	/**
	 * Whether WordPress is being installed or upgraded: then it changes options past the cache.
	 *
	 * @var bool
	 */
	private $is_installing;

	/**
	 * What all instances share.
	 *
	 * @var Shared
	 */
	private $shared;

	/**
	 * Begins a request.
	 *
	 * @param string   $prefix What tells this site from others.
	 * @param string[] $nodes  The memcached nodes.
	 */
	public function __construct( $prefix = '', array $nodes = array() ) {
		$this->is_network    = is_multisite();
		$this->blog_prefix   = $this->is_network ? get_current_blog_id() . ':' : '';
		$this->is_installing = defined( 'WP_INSTALLING' ) && WP_INSTALLING;

		$prefix       = '' === $prefix ? FLOTILLA_CACHE_PREFIX : $prefix;
		$nodes        = $nodes ? $nodes : explode( ',', FLOTILLA_CACHE_NODES );
		$this->shared = new Shared(
			$prefix,
			$nodes,
			function () {
				$this->forget_shared();
			}
		);
	}

	/**
	 * Reads a value.
	 *
	 * @param int|string $key      Its key.
	 * @param string     $group    Its group.
	 * @param bool       $is_fresh Whether what this request has seen must not be used.
	 * @param bool       $found    Becomes whether there is one.
	 * @return mixed False when there is none.
	 */
	public function get( $key, $group = 'default', $is_fresh = false, &$found = null ) {
		if ( '' === $group || null === $group ) {
			$group = 'default';
		}
		$id = $this->is_network && ! isset( $this->global_groups[ $group ] ) ? $this->blog_prefix . $key : $key;
		// The way of nearly all calls.
		if ( ! $is_fresh && isset( $this->cache[ $group ][ $id ] ) ) {
			$found = true;
			++$this->cache_hits;
			$value = $this->cache[ $group ][ $id ];
			return is_object( $value ) ? clone $value : $value;
		}
		$found = $this->is_valid_key( $key ) && $this->has( $id, $group, $is_fresh );
		if ( ! $found ) {
			++$this->cache_misses;
			return false;
		}
		++$this->cache_hits;
		$value = $this->cache[ $group ][ $id ];
		return is_object( $value ) ? clone $value : $value;
	}

	/**
	 * Reads values in one call.
	 *
	 * @param array  $keys     Their keys.
	 * @param string $group    Their group.
	 * @param bool   $is_fresh As of get().
	 * @return array Key => value, or false.
	 */
	public function get_multiple( $keys, $group = 'default', $is_fresh = false ) {
		$group = $this->group( $group );
		$ids   = array();
		foreach ( $this->is_own( $group ) ? array() : $keys as $key ) {
			$id = $this->id( $key, $group );
			if ( $is_fresh || ! $this->is_known( $id, $group ) ) {
				$ids[] = $id;
			}
		}
		if ( count( $ids ) > 1 ) {
			$this->read( $ids, $group, $is_fresh );
			$is_fresh = false;
		}
		$values = array();
		foreach ( $keys as $key ) {
			$values[ $key ] = $this->get( $key, $group, $is_fresh );
		}
		return $values;
	}

	/**
	 * Stores a value where there is none.
	 *
	 * @param int|string $key    Its key.
	 * @param mixed      $value  The value.
	 * @param string     $group  Its group.
	 * @param int        $expire Seconds that it lives; 0 for as long as may be.
	 * @return bool
	 */
	public function add( $key, $value, $group = 'default', $expire = 0 ) {
		if ( wp_suspend_cache_addition() || ! $this->is_valid_key( $key ) ) {
			return false;
		}
		$group = $this->group( $group );
		$id    = $this->id( $key, $group );
		if ( $this->is_seen( $id, $group ) ) {
			return false;
		}
		if ( ! $this->is_own( $group ) && ! $this->is_installing ) {
			$is_added = $this->shared->add( $group, $id, $value, (int) $expire );
			if ( false === $is_added ) {
				unset( $this->missing[ $group ][ $id ] );
				return false;
			}
		}
		$this->see( $id, $group, $value );
		return true;
	}

	/**
	 * Stores values where there are none.
	 *
	 * @param array  $values Key => value.
	 * @param string $group  Their group.
	 * @param int    $expire As of add().
	 * @return bool[]
	 */
	public function add_multiple( array $values, $group = '', $expire = 0 ) {
		foreach ( $values as $key => $value ) {
			$values[ $key ] = $this->add( $key, $value, $group, $expire );
		}
		return $values;
	}

	/**
	 * Stores a value where there is one.
	 *
	 * @param int|string $key    Its key.
	 * @param mixed      $value  The value.
	 * @param string     $group  Its group.
	 * @param int        $expire As of add().
	 * @return bool
	 */
	public function replace( $key, $value, $group = 'default', $expire = 0 ) {
		if ( ! $this->is_valid_key( $key ) ) {
			return false;
		}
		$group = $this->group( $group );
		if ( ! $this->has( $this->id( $key, $group ), $group, false ) ) {
			return false;
		}
		return $this->set( $key, $value, $group, $expire );
	}

	/**
	 * Stores a value.
	 *
	 * @param int|string $key    Its key.
	 * @param mixed      $value  The value.
	 * @param string     $group  Its group.
	 * @param int        $expire As of add().
	 * @return bool
	 */
	public function set( $key, $value, $group = 'default', $expire = 0 ) {
		if ( ! $this->is_valid_key( $key ) ) {
			return false;
		}
		$group = $this->group( $group );
		$id    = $this->id( $key, $group );
		if ( $this->is_own( $group ) ) {
			$this->see( $id, $group, $value );
			return true;
		}
		if ( $this->is_installing ) {
			$this->shared->delete( $group, $id );
		} elseif ( isset( Options::GROUPS[ $group ] ) ) {
			$this->set_option( $id, $group, $value );
			return true;
		} else {
			$this->shared->set( $group, $id, $value, (int) $expire );
		}
		$this->see( $id, $group, $value );
		return true;
	}

	/**
	 * Stores values.
	 *
	 * @param array  $values Key => value.
	 * @param string $group  Their group.
	 * @param int    $expire As of add().
	 * @return bool[]
	 */
	public function set_multiple( array $values, $group = '', $expire = 0 ) {
		foreach ( $values as $key => $value ) {
			// WordPress stores several options only after it has read them from the database.
			$is_fill        = isset( Options::GROUPS[ $group ] ) && ! Options::has( $group, $key );
			$values[ $key ] = $is_fill
				? $this->add( $key, $value, $group, $expire ) || $this->is_valid_key( $key )
				: $this->set( $key, $value, $group, $expire );
		}
		return $values;
	}

	/**
	 * Deletes a value.
	 *
	 * @param int|string $key   Its key.
	 * @param string     $group Its group.
	 * @return bool Whether there was one.
	 */
	public function delete( $key, $group = 'default' ) {
		if ( ! $this->is_valid_key( $key ) ) {
			return false;
		}
		$group    = $this->group( $group );
		$id       = $this->id( $key, $group );
		$was_seen = $this->is_seen( $id, $group );
		unset( $this->cache[ $group ][ $id ], $this->missing[ $group ][ $id ] );
		$was = $this->is_own( $group ) ? null : $this->shared->delete( $group, $id );
		return null === $was ? $was_seen : $was || $was_seen;
	}

	/**
	 * Deletes values.
	 *
	 * @param array  $keys  Their keys.
	 * @param string $group Their group.
	 * @return bool[]
	 */
	public function delete_multiple( array $keys, $group = '' ) {
		$outcomes = array();
		foreach ( $keys as $key ) {
			$outcomes[ $key ] = $this->delete( $key, $group );
		}
		return $outcomes;
	}

	/**
	 * Counts a number up, not below 0.
	 *
	 * @param int|string $key    Its key.
	 * @param int        $offset How far.
	 * @param string     $group  Its group.
	 * @return int|false False when there is no value.
	 */
	public function incr( $key, $offset = 1, $group = 'default' ) {
		if ( ! $this->is_valid_key( $key ) ) {
			return false;
		}
		$group = $this->group( $group );
		$id    = $this->id( $key, $group );
		if ( ! $this->is_own( $group ) ) {
			$number = $this->shared->count( $group, $id, (int) $offset );
			if ( false === $number ) {
				unset( $this->cache[ $group ][ $id ] );
				return false;
			}
			if ( null !== $number ) {
				$this->see( $id, $group, $number );
				return $number;
			}
		}
		if ( ! $this->is_seen( $id, $group ) ) {
			return false;
		}
		$this->see( $id, $group, Shared::counted( $this->cache[ $group ][ $id ], (int) $offset ) );
		return $this->cache[ $group ][ $id ];
	}

	/**
	 * Counts a number down, not below 0.
	 *
	 * @param int|string $key    Its key.
	 * @param int        $offset How far.
	 * @param string     $group  Its group.
	 * @return int|false False when there is no value.
	 */
	public function decr( $key, $offset = 1, $group = 'default' ) {
		return $this->incr( $key, -(int) $offset, $group );
	}

	/**
	 * Forgets everything of the site, on all instances.
	 *
	 * @return bool
	 */
	public function flush() {
		$this->shared->flush();
		return $this->flush_runtime();
	}

	/**
	 * Forgets what this request has seen.
	 *
	 * @return bool
	 */
	public function flush_runtime() {
		$this->cache = array();
		$this->forget_shared();
		return true;
	}

	/**
	 * Forgets a group, on all instances.
	 *
	 * @param string $group The group.
	 * @return bool
	 */
	public function flush_group( $group ) {
		$group = $this->group( $group );
		if ( ! $this->is_own( $group ) ) {
			$this->shared->flush_group( $group );
			$this->forget_shared();
		}
		unset( $this->cache[ $group ] );
		return true;
	}

	/**
	 * Names groups that all sites of a network share.
	 *
	 * @param string|string[] $groups The groups.
	 */
	public function add_global_groups( $groups ) {
		$this->global_groups += array_fill_keys( (array) $groups, true );
	}

	/**
	 * Names groups that are for one request only.
	 *
	 * @param string|string[] $groups The groups.
	 */
	public function add_non_persistent_groups( $groups ) {
		$this->own_groups += array_fill_keys( (array) $groups, true );
	}

	/**
	 * Changes the site of a network.
	 *
	 * @param int $blog_id Its number.
	 */
	public function switch_to_blog( $blog_id ) {
		$this->blog_prefix = $this->is_network ? (int) $blog_id . ':' : '';
	}

	/**
	 * Says that an option was deleted from the database. WordPress itself tells the cache only when
	 * it finds the option there.
	 *
	 * @param string $option The option.
	 */
	public function option_was_deleted( $option ) {
		if ( ! $this->is_installing ) {
			$this->delete( $option, 'options' );
			$this->take_out( $this->id( $option, 'options' ), 'options', 'alloptions' );
		}
	}

	/**
	 * Ends a request.
	 *
	 * @return bool
	 */
	public function close() {
		$this->shared->close();
		return true;
	}

	/**
	 * Prints statistics, as WordPress' own cache does.
	 */
	public function stats() {
		printf(
			'<p><strong>Cache Hits:</strong> %d<br /><strong>Cache Misses:</strong> %d<br /></p>',
			(int) $this->cache_hits,
			(int) $this->cache_misses
		);
	}

	/**
	 * Tells whether there is a value, and sees it.
	 *
	 * @param int|string $id       Its id.
	 * @param string     $group    Its group.
	 * @param bool       $is_fresh As of get().
	 * @return bool
	 */
	private function has( $id, $group, $is_fresh ) {
		if ( $this->is_own( $group ) ) {
			return $this->is_seen( $id, $group );
		}
		// Writing what is made of options shows whether it was fresh.
		if ( $this->is_known( $id, $group ) && ( ! $is_fresh || Options::has( $group, $id ) ) ) {
			return $this->is_seen( $id, $group );
		}
		$this->read( array( $id ), $group, $is_fresh );
		return $this->is_seen( $id, $group );
	}

	/**
	 * Reads shared values.
	 *
	 * @param array  $ids      Their ids.
	 * @param string $group    Their group.
	 * @param bool   $is_fresh As of get().
	 */
	private function read( array $ids, $group, $is_fresh ) {
		$values = $this->shared->read( $group, $ids, $is_fresh );
		foreach ( $ids as $id ) {
			unset( $this->cache[ $group ][ $id ] );
			if ( array_key_exists( $id, $values ) ) {
				unset( $this->missing[ $group ][ $id ] );
				$this->cache[ $group ][ $id ] = $values[ $id ];
			} else {
				$this->missing[ $group ][ $id ] = true;
			}
		}
	}

	/**
	 * Stores what is an option, or made of options.
	 *
	 * @param int|string $id    Its id.
	 * @param string     $group Its group.
	 * @param mixed      $value The value.
	 */
	private function set_option( $id, $group, $value ) {
		if ( ! Options::has( $group, $id ) ) {
			// Of two who write it nobody knows who was the last.
			$this->shared->delete( $group, $id );
			$this->see( $id, $group, $value );
			$this->take_out( $id, $group, 'alloptions' );
			$this->take_out( $id, $group, 'notoptions' );
			return;
		}
		$before = isset( $this->cache[ $group ][ $id ] ) ? $this->cache[ $group ][ $id ] : null;
		$kept   = $this->shared->set_aggregate( $group, $id, $value, $before );
		unset( $this->cache[ $group ][ $id ], $this->missing[ $group ][ $id ] );
		if ( $kept ) {
			$this->see( $id, $group, $kept[0] );
		}
		$absences = Options::beside( $id, 'notoptions' );
		if ( (string) $id !== $absences ) {
			unset( $this->cache[ $group ][ $absences ], $this->missing[ $group ][ $absences ] );
		}
	}

	/**
	 * Takes an option out of a value that is made of options.
	 *
	 * @param int|string $id        The option's id.
	 * @param string     $group     Its group.
	 * @param string     $aggregate Which value.
	 */
	private function take_out( $id, $group, $aggregate ) {
		if ( 'alloptions' === $aggregate && 'options' !== $group ) {
			// A network has none.
			return;
		}
		$beside = Options::beside( $id, $aggregate );
		$this->shared->take_out( $group, $beside, array( Options::option( $id ) ) );
		unset( $this->cache[ $group ][ $beside ], $this->missing[ $group ][ $beside ] );
	}

	/**
	 * Sees a value.
	 *
	 * @param int|string $id    Its id.
	 * @param string     $group Its group.
	 * @param mixed      $value The value.
	 */
	private function see( $id, $group, $value ) {
		unset( $this->missing[ $group ][ $id ] );
		$this->cache[ $group ][ $id ] = is_object( $value ) ? clone $value : $value;
	}

	/**
	 * Tells whether this request has seen a value.
	 *
	 * @param int|string $id    Its id.
	 * @param string     $group Its group.
	 * @return bool
	 */
	private function is_seen( $id, $group ) {
		return isset( $this->cache[ $group ][ $id ] )
			|| ( isset( $this->cache[ $group ] ) && array_key_exists( $id, $this->cache[ $group ] ) );
	}

	/**
	 * Tells whether this request knows of a value whether it is there.
	 *
	 * @param int|string $id    Its id.
	 * @param string     $group Its group.
	 * @return bool
	 */
	private function is_known( $id, $group ) {
		return isset( $this->missing[ $group ][ $id ] ) || $this->is_seen( $id, $group );
	}

	/**
	 * Forgets what was seen of the store.
	 */
	private function forget_shared() {
		$this->cache   = array_intersect_key( $this->cache, $this->own_groups );
		$this->missing = array();
		$this->shared->forget();
	}

	/**
	 * Tells whether a group is for this request only.
	 *
	 * @param string $group The group.
	 * @return bool
	 */
	private function is_own( $group ) {
		return isset( $this->own_groups[ $group ] ) || ! $this->shared->has_group( $group );
	}

	/**
	 * Makes the id of a value: of a network's site, it begins with the site.
	 *
	 * @param int|string $key   Its key.
	 * @param string     $group Its group.
	 * @return int|string
	 */
	private function id( $key, $group ) {
		return $this->is_network && ! isset( $this->global_groups[ $group ] ) ? $this->blog_prefix . $key : $key;
	}

	/**
	 * Names a group whose name may have been left out.
	 *
	 * @param string|null $group The group.
	 * @return string
	 */
	private function group( $group ) {
		return empty( $group ) ? 'default' : $group;
	}

	/**
	 * Tells whether a key can be one, as WordPress' own cache does.
	 *
	 * @param mixed $key The key.
	 * @return bool
	 */
	private function is_valid_key( $key ) {
		if ( is_int( $key ) || ( is_string( $key ) && '' !== trim( $key ) ) ) {
			return true;
		}
		if ( ! function_exists( '__' ) ) {
			wp_load_translations_early();
		}
		$message = is_string( $key )
			? __( 'Cache key must not be an empty string.' )
			/* translators: %s: Type of the given cache key. */
			: sprintf( __( 'Cache key must be an integer or a non-empty string, %s given.' ), gettype( $key ) );
		$caller  = debug_backtrace( DEBUG_BACKTRACE_IGNORE_ARGS, 2 )[1]['function'];
		_doing_it_wrong( __CLASS__ . '::' . $caller, $message, '6.1.0' );
		return false;
	}
}
