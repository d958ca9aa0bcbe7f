<?php
/**
 * The values that all instances share, by group and id: what WordPress' calls mean for the store.
 *
 * Each value that is read, added or changed goes through here once a request; what the request has
 * seen already is answered by the object cache itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

require_once __DIR__ . '/layout.php';
require_once __DIR__ . '/cache-store.php';
require_once __DIR__ . '/cache-options.php';
require_once __DIR__ . '/cache-pages.php';

final class Shared {
	/** Groups without a database behind them, whose values live until they are deleted. */
	const ENDLESS_GROUPS = array(
		'transient'      => true,
		'site-transient' => true,
	);

	/** Groups that are made from code: each release has its own. */
	const CODE_GROUPS = array(
		'themes'            => true,
		'theme_files'       => true,
		'translation_files' => true,
	);

	/**
	 * Seconds that other values live: so long at most is somebody served what a process that was
	 * killed between its write to the database and the cache has left.
	 */
	const TTL_SECONDS = 86400;

	/**
	 * The values.
	 *
	 * @var Store
	 */
	private $store;

	/**
	 * The rules for options.
	 *
	 * @var Options
	 */
	private $options;

	/**
	 * What the page wants.
	 *
	 * @var Pages
	 */
	private $pages;

	/**
	 * Tombstones that were found: name => token, or null for one that this request has made.
	 *
	 * @var array
	 */
	private $tombstones = array();

	/**
	 * Names that were found missing, as keys.
	 *
	 * @var array<string, true>
	 */
	private $missing = array();

	/**
	 * Names that were read, as keys.
	 *
	 * @var array<string, true>
	 */
	private $wanted = array();

	/**
	 * The release, for groups that are made from code; null when there is none.
	 *
	 * @var string|false|null
	 */
	private $revision = false;

	/**
	 * Begins a request.
	 *
	 * @param string   $prefix   What tells this site from others.
	 * @param string[] $nodes    The memcached nodes.
	 * @param callable $on_flush Called when somebody else has flushed.
	 */
	public function __construct( $prefix, array $nodes, callable $on_flush ) {
		$this->store   = new Store( $prefix, $nodes, $on_flush );
		$this->options = new Options( $this->store );
		$this->pages   = new Pages( $this->store );
	}

	/**
	 * Tells whether the values of a group can be shared.
	 *
	 * @param string $group The group.
	 * @return bool Not when it is made from code that is of no release.
	 */
	public function has_group( $group ) {
		return ! isset( self::CODE_GROUPS[ $group ] ) || null !== $this->revision();
	}

	/**
	 * Reads values.
	 *
	 * @param string         $group    Their group.
	 * @param (int|string)[] $ids      Their ids.
	 * @param bool           $is_fresh Whether what was read ahead must not be used.
	 * @return array Id => value of those that are there.
	 */
	public function read( $group, array $ids, $is_fresh ) {
		$names = array();
		foreach ( $ids as $id ) {
			$name                  = $this->name( $group, $id );
			$names[ $id ]          = $name;
			$this->wanted[ $name ] = true;
		}
		$items  = $is_fresh ? $this->store->read_anew( $names ) : $this->store->read( $names );
		$values = array();
		foreach ( $names as $id => $name ) {
			$item         = isset( $items[ $name ] ) ? $items[ $name ] : null;
			$is_aggregate = Options::has( $group, $id );
			if ( $is_aggregate ) {
				$item = $this->options->was_read( $name, $item, $is_fresh );
			}
			if ( $this->take( $name, $item, $value ) ) {
				$values[ $id ] = $value;
			}
		}
		return $values;
	}

	/**
	 * Stores a value where there is none.
	 *
	 * @param string     $group  Its group.
	 * @param int|string $id     Its id.
	 * @param mixed      $value  The value.
	 * @param int        $expire Seconds that it lives; 0 for as long as may be.
	 * @return bool|null Null: only this request shall have it.
	 */
	public function add( $group, $id, $value, $expire ) {
		$name   = $this->name( $group, $id );
		$stored = Codec::encode( $value );
		if ( Options::has( $group, $id ) ) {
			// What does not fit is read from the database by each request.
			return null === $stored ? null : $this->options->fill( $name, $stored );
		}
		if ( null === $stored ) {
			return null;
		}
		$ttl = $this->ttl( $group, $expire );
		if ( isset( $this->tombstones[ $name ] ) ) {
			$token = $this->tombstones[ $name ];
			unset( $this->tombstones[ $name ], $this->missing[ $name ] );
			return $this->store->swap( $name, $stored, $ttl, $token );
		}
		$is_added = $this->store->add( $name, $stored, $ttl );
		if ( false === $is_added && ! isset( $this->missing[ $name ] ) ) {
			// Nothing was read before, so there is nothing that could be old.
			$item = $this->item( $name );
			if ( null !== $item && Codec::TOMBSTONE === $item['value'] ) {
				$is_added = $this->store->swap( $name, $stored, $ttl, $item['cas'] );
			}
		}
		unset( $this->missing[ $name ] );
		if ( $is_added ) {
			unset( $this->tombstones[ $name ] );
		}
		return $is_added;
	}

	/**
	 * Stores a value.
	 *
	 * @param string     $group  Its group.
	 * @param int|string $id     Its id.
	 * @param mixed      $value  The value.
	 * @param int        $expire As of add().
	 */
	public function set( $group, $id, $value, $expire ) {
		$name = $this->name( $group, $id );
		unset( $this->tombstones[ $name ], $this->missing[ $name ] );
		$this->store->set( $name, Codec::encode( $value ), $this->ttl( $group, $expire ) );
	}

	/**
	 * Stores a value that is made of options.
	 *
	 * @param string     $group  Its group.
	 * @param int|string $id     Its id.
	 * @param mixed      $value  The value.
	 * @param mixed      $before What the request has read, or null.
	 * @return array `array( value )` that the request may go on with, or nothing.
	 */
	public function set_aggregate( $group, $id, $value, $before ) {
		$name      = $this->name( $group, $id );
		$is_all    = 'alloptions' === Options::option( $id );
		$is_stored = $this->options->write( $name, Codec::encode( $value ), ! $is_all );
		$kept      = null === $is_stored ? array( $value ) : array();
		if ( $is_stored ) {
			// For the token of what is there now.
			$kept = $this->read( $group, array( $id ), false );
		}
		$written = $is_all ? Options::written( $value, $before ) : array();
		if ( $written ) {
			$this->take_out( $group, Options::beside( $id, 'notoptions' ), $written );
		}
		return array_values( $kept );
	}

	/**
	 * Takes options out of a value that is made of them.
	 *
	 * @param string     $group   The group.
	 * @param int|string $id      The value's id.
	 * @param string[]   $options The options.
	 */
	public function take_out( $group, $id, array $options ) {
		$this->options->take_out( $this->name( $group, $id ), $options );
	}

	/**
	 * Deletes a value.
	 *
	 * @param string     $group Its group.
	 * @param int|string $id    Its id.
	 * @return bool|null Whether there was one. Null: the node failed.
	 */
	public function delete( $group, $id ) {
		$name = $this->name( $group, $id );
		// One that this request has deleted before is there as a tombstone.
		$is_gone = array_key_exists( $name, $this->tombstones );
		$was     = $this->store->bury( $name );

		$this->tombstones[ $name ] = null;
		unset( $this->missing[ $name ] );
		return null === $was ? null : $was && ! $is_gone;
	}

	/**
	 * Counts a number up or down.
	 *
	 * @param string     $group Its group.
	 * @param int|string $id    Its id.
	 * @param int        $by    How far.
	 * @return int|float|false|null False: there is no value. Null: the node failed.
	 */
	public function count( $group, $id, $by ) {
		$name   = $this->name( $group, $id );
		$number = $this->store->count( $name, $by );
		for ( $try = 0; false === $number && $try < Store::TRIES; $try++ ) {
			// There is nothing, or something that memcached cannot count with.
			$item = $this->item( $name );
			if ( null === $item || Codec::TOMBSTONE === $item['value'] ) {
				return false;
			}
			$counted   = self::counted( Codec::decode( $item['value'], $is_whole ), $by );
			$is_stored = $this->store->swap( $name, Codec::encode( $counted ), self::TTL_SECONDS, $item['cas'] );
			$number    = $is_stored ? $counted : $is_stored;
		}
		return $number;
	}

	/**
	 * Counts as WordPress does.
	 *
	 * @param mixed $value What there is.
	 * @param int   $by    How far.
	 * @return int|float
	 */
	public static function counted( $value, $by ) {
		return max( 0, ( is_numeric( $value ) ? $value : 0 ) + $by );
	}

	/**
	 * Forgets all values.
	 */
	public function flush() {
		$this->store->flush();
	}

	/**
	 * Forgets the values of a group.
	 *
	 * @param string $group The group.
	 */
	public function flush_group( $group ) {
		$this->store->flush_group( $this->group( $group ) );
	}

	/**
	 * Forgets what was read in this request.
	 */
	public function forget() {
		$this->tombstones = array();
		$this->missing    = array();
		$this->options->forget();
	}

	/**
	 * Ends a request.
	 */
	public function close() {
		$this->pages->learn( $this->wanted );
		$this->store->settle();
	}

	/**
	 * Takes what was read.
	 *
	 * @param string     $name  Its name.
	 * @param array|null $item  What was read.
	 * @param mixed      $value Becomes the value.
	 * @return bool Whether there is one.
	 */
	private function take( $name, $item, &$value ) {
		unset( $this->tombstones[ $name ], $this->missing[ $name ] );
		if ( null !== $item ) {
			if ( Codec::TOMBSTONE !== $item['value'] ) {
				$value = Codec::decode( $item['value'], $is_whole );
				if ( $is_whole ) {
					return true;
				}
			}
			// What cannot be read is in the way of what replaces it, too.
			$this->tombstones[ $name ] = $item['cas'];
		}
		$this->missing[ $name ] = true;
		return false;
	}

	/**
	 * Reads what is in the store now.
	 *
	 * @param string $name Its name.
	 * @return array|null
	 */
	private function item( $name ) {
		$items = $this->store->read_anew( array( $name ) );
		return isset( $items[ $name ] ) ? $items[ $name ] : null;
	}

	/**
	 * Names a value in the store.
	 *
	 * @param string     $group Its group.
	 * @param int|string $id    Its id.
	 * @return string
	 */
	private function name( $group, $id ) {
		return Store::name( $this->group( $group ), (string) $id );
	}

	/**
	 * Names a group in the store.
	 *
	 * @param string $group The group.
	 * @return string
	 */
	private function group( $group ) {
		return isset( self::CODE_GROUPS[ $group ] ) ? $group . '@' . $this->revision() : $group;
	}

	/**
	 * Returns the release.
	 *
	 * @return string|null
	 */
	private function revision() {
		if ( false === $this->revision ) {
			$this->revision = \Flotilla\revision();
		}
		return $this->revision;
	}

	/**
	 * Decides how long a value lives in memcached.
	 *
	 * @param string $group  Its group.
	 * @param int    $expire What was asked for.
	 * @return int Seconds; 0 for ever, negative for not at all.
	 */
	private function ttl( $group, $expire ) {
		if ( 0 !== $expire || isset( self::ENDLESS_GROUPS[ $group ] ) ) {
			return $expire;
		}
		return isset( Options::GROUPS[ $group ] ) ? Options::TTL_SECONDS : self::TTL_SECONDS;
	}
}
