<?php
/**
 * How values look in memcached: numbers and ordinary text as they are, everything else serialized.
 *
 * The extension's own serializer is not used: it would unserialize a value when it arrives, and the
 * values of a whole page arrive before the plugins whose classes they are of.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

final class Codec {
	/** Stands where a value was deleted, so that a slow reader cannot put an old one back. */
	const TOMBSTONE = "\0gone";

	/** What every text of igbinary begins with. */
	const SERIALIZED = "\0\0\0";

	/** Bytes; memcached takes 1 MiB for an item, of which its name and head are a part. */
	const BYTES_MAX = 1040000;

	/**
	 * Digits of the numbers that memcached can count with. Such a text is serialized: counted up, it
	 * would come back as a text although WordPress makes a number of it.
	 */
	const DIGITS_MAX = 20;

	/**
	 * Makes what is stored.
	 *
	 * @param mixed $value Any value.
	 * @return int|string|null Null when it cannot be stored: a closure, say, or too much.
	 */
	public static function encode( $value ) {
		if ( is_int( $value ) ) {
			return $value;
		}
		if ( ! is_string( $value ) || ! self::is_plain( $value ) ) {
			try {
				$value = igbinary_serialize( $value );
			} catch ( \Throwable $error ) {
				return null;
			}
		}
		return is_string( $value ) && strlen( $value ) <= self::BYTES_MAX ? $value : null;
	}

	/**
	 * Reads what was stored.
	 *
	 * @param mixed $stored   What memcached answered.
	 * @param bool  $is_whole Becomes false when that is no value of ours.
	 * @return mixed
	 */
	public static function decode( $stored, &$is_whole ) {
		$is_whole = true;
		if ( is_int( $stored ) ) {
			return $stored;
		}
		if ( is_string( $stored ) ) {
			if ( '' === $stored || "\0" !== $stored[0] ) {
				return $stored;
			}
			if ( 0 === strncmp( $stored, self::SERIALIZED, 3 ) ) {
				try {
					$value = @igbinary_unserialize( $stored );
					if ( false !== $value || igbinary_serialize( false ) === $stored ) {
						return $value;
					}
				} catch ( \Throwable $error ) {
					// A class that can no longer be made from what an older one stored.
					$is_whole = false;
					return false;
				}
			}
		}
		$is_whole = false;
		return false;
	}

	/**
	 * Tells whether a text can be stored as it is.
	 *
	 * @param string $text The text.
	 * @return bool
	 */
	private static function is_plain( $text ) {
		if ( '' === $text ) {
			return true;
		}
		return "\0" !== $text[0] && ! ( strlen( $text ) <= self::DIGITS_MAX && ctype_digit( $text ) );
	}
}
