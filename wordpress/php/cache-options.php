<?php
/**
 * Options in the cache: no write of one instance is lost or hidden by that of another.
 *
 * WordPress keeps all autoloaded options in one value, `alloptions`, and the names of options that do
 * not exist in another, `notoptions`; it reads such a value, changes it and writes it back, so of two
 * who do that at once one loses, and everybody is served an old option until the next flush. Here
 * both are only swapped for the very value that was read before the database was written; whoever
 * was not quick enough deletes the value, and the next reader makes it anew from the database. A
 * single option that is written is deleted too: of two writers nobody knows who was the last.
 *
 * An option that was written exists, so its name is taken out of `notoptions`, and whoever found it
 * missing a moment before cannot put it there any more. One that was deleted, or is not among the
 * autoloaded ones, is taken out of `alloptions` in the same way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

require_once __DIR__ . '/cache-store.php';

final class Options {
	/** Groups whose values are options: of a site, and of a network of sites. */
	const GROUPS = array(
		'options'      => true,
		'site-options' => true,
	);

	/** Seconds after which they are read from the database in any case, as after a writer was killed. */
	const TTL_SECONDS = 900;

	/**
	 * The values.
	 *
	 * @var Store
	 */
	private $store;

	/**
	 * The tokens with which values may be swapped.
	 *
	 * @var array<string, int|float>
	 */
	private $tokens = array();

	/**
	 * What was read only after the database had been written, as keys.
	 *
	 * @var array<string, true>
	 */
	private $late = array();

	/**
	 * Works with a store.
	 *
	 * @param Store $store The values.
	 */
	public function __construct( Store $store ) {
		$this->store = $store;
	}

	/**
	 * Tells whether a value is made of many options.
	 *
	 * @param string     $group Its group.
	 * @param int|string $id    Its id, perhaps with the number of a site or network before it.
	 * @return bool
	 */
	public static function has( $group, $id ) {
		if ( ! isset( self::GROUPS[ $group ] ) ) {
			return false;
		}
		$option = self::option( $id );
		return 'alloptions' === $option || 'notoptions' === $option;
	}

	/**
	 * Remembers what an aggregate was read as; a missing one is reserved for whoever fills it.
	 *
	 * @param string     $name    Of the value.
	 * @param array|null $item    What was read.
	 * @param bool       $is_late Whether the database may have been written before: then somebody else
	 *                            may have written since, and what follows from the value is not stored.
	 * @return array|null What may be used.
	 */
	public function was_read( $name, $item, $is_late ) {
		unset( $this->tokens[ $name ], $this->late[ $name ] );
		if ( null === $item ) {
			$item = $this->store->reserve( $name );
		}
		if ( null !== $item ) {
			$this->tokens[ $name ] = $item['cas'];
		}
		if ( $is_late ) {
			$this->late[ $name ] = true;
		}
		return $item;
	}

	/**
	 * Forgets what was read.
	 */
	public function forget() {
		$this->tokens = array();
		$this->late   = array();
	}

	/**
	 * Stores an aggregate if nobody has changed it since it was read, else deletes it.
	 *
	 * `notoptions` is left as it is: readers add to it all the time, and if each of two deleted what the
	 * other has found, a busy site would never know. An absence that is not stored is no harm, and an
	 * option that was written is taken out in any case.
	 *
	 * @param string          $name       Its name.
	 * @param int|string|null $stored     What Codec made of it.
	 * @param bool            $is_absence Whether it is `notoptions`.
	 * @return bool|null False: it was not stored. Null: the node failed.
	 */
	public function write( $name, $stored, $is_absence ) {
		$token = isset( $this->late[ $name ] ) || ! isset( $this->tokens[ $name ] ) ? null : $this->tokens[ $name ];
		unset( $this->tokens[ $name ], $this->late[ $name ] );
		if ( null !== $token && null !== $stored ) {
			$is_stored = $this->store->swap( $name, $stored, self::TTL_SECONDS, $token );
			if ( false !== $is_stored || $is_absence ) {
				return $is_stored;
			}
		}
		return null === $this->store->bury( $name ) ? null : false;
	}

	/**
	 * Fills an aggregate with what was read from the database.
	 *
	 * @param string     $name   Its name.
	 * @param int|string $stored What Codec made of it.
	 * @return bool|null False: somebody has changed it. Null: the node failed.
	 */
	public function fill( $name, $stored ) {
		$token = isset( $this->tokens[ $name ] ) ? $this->tokens[ $name ] : null;
		unset( $this->tokens[ $name ] );
		if ( null === $token ) {
			// The node failed as it was read, or it never was: the request goes on with its own.
			return null;
		}
		$is_filled = $this->store->swap( $name, $stored, self::TTL_SECONDS, $token );
		if ( $is_filled && ! isset( $this->late[ $name ] ) ) {
			// For the token of what is there now.
			$items = $this->store->read_anew( array( $name ) );
			$this->was_read( $name, isset( $items[ $name ] ) ? $items[ $name ] : null, false );
		}
		return $is_filled;
	}

	/**
	 * Takes options out of an aggregate; also when it has none of them, it becomes another value for
	 * whoever read it before.
	 *
	 * @param string   $name    The aggregate's name.
	 * @param string[] $options The options.
	 */
	public function take_out( $name, array $options ) {
		unset( $this->tokens[ $name ], $this->late[ $name ] );
		for ( $try = 0; $try < Store::TRIES; $try++ ) {
			$items = $this->store->read_anew( array( $name ) );
			if ( ! isset( $items[ $name ] ) ) {
				break;
			}
			$aggregate = Codec::decode( $items[ $name ]['value'], $is_whole );
			if ( ! is_array( $aggregate ) ) {
				break;
			}
			$stored = Codec::encode( array_diff_key( $aggregate, array_flip( $options ) ) );
			if ( null === $stored ) {
				break;
			}
			if ( false !== $this->store->swap( $name, $stored, self::TTL_SECONDS, $items[ $name ]['cas'] ) ) {
				return;
			}
		}
		$this->store->bury( $name );
	}

	/**
	 * Returns the names of options that an `alloptions` has and an older one had not so.
	 *
	 * @param mixed $options The newer one.
	 * @param mixed $before  The older one.
	 * @return string[]
	 */
	public static function written( $options, $before ) {
		$written = array();
		foreach ( is_array( $options ) ? $options : array() as $option => $value ) {
			if ( ! is_array( $before ) || ! isset( $before[ $option ] ) || $before[ $option ] !== $value ) {
				$written[] = (string) $option;
			}
		}
		return $written;
	}

	/**
	 * Returns the option in the key of a value.
	 *
	 * @param int|string $id The value's key.
	 * @return string
	 */
	public static function option( $id ) {
		$id    = (string) $id;
		$colon = strpos( $id, ':' );
		return false === $colon || ! ctype_digit( substr( $id, 0, $colon ) ) ? $id : substr( $id, $colon + 1 );
	}

	/**
	 * Returns the key of an aggregate that belongs to the key of an option.
	 *
	 * @param int|string $id    The option's key.
	 * @param string $aggregate `alloptions` or `notoptions`.
	 * @return string
	 */
	public static function beside( $id, $aggregate ) {
		return substr( (string) $id, 0, strlen( $id ) - strlen( self::option( $id ) ) ) . $aggregate;
	}
}
