<?php
/**
 * The values of one site in its memcached nodes: names, deletions and what is read ahead.
 *
 * A deleted value is replaced by a tombstone for a while. Whoever read the database before the
 * deletion finds it in the way when he stores what he read; whoever found the tombstone first may
 * store over that very one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

require_once __DIR__ . '/cache-codec.php';
require_once __DIR__ . '/cache-generation.php';

final class Store {
	/** Changes with the way values are stored, so that an older flotilla reads nothing of a newer one. */
	const FORMAT = '1';

	/** Seconds that a tombstone stays: longer than between a page's query and its storing the result. */
	const TOMBSTONE_SECONDS = 10;

	/** Bytes of a name beside which prefix and generations fit into the 250 of a key. */
	const NAME_BYTES_MAX = 180;

	/** How often a change that others get in the way of is tried. */
	const TRIES = 5;

	/**
	 * What the site's keys begin with.
	 *
	 * @var string
	 */
	private $prefix;

	/**
	 * The nodes, by address.
	 *
	 * @var array<string, Generation>
	 */
	private $nodes = array();

	/**
	 * What was read ahead: name => item, or null when there is none.
	 *
	 * @var array<string, array|null>
	 */
	private $ahead = array();

	/**
	 * Names the nodes; nothing is connected yet.
	 *
	 * @param string   $prefix    What tells this site from others, at most 32 letters and digits.
	 * @param string[] $addresses The nodes.
	 * @param callable $on_flush  Called when somebody else has flushed.
	 */
	public function __construct( $prefix, array $addresses, callable $on_flush ) {
		sort( $addresses );
		// A node that leaves and comes back would bring what was changed elsewhere meanwhile.
		$this->prefix = $prefix . self::FORMAT . substr( hash( 'sha256', implode( ' ', $addresses ) ), 0, 6 );
		$forget       = function () use ( $on_flush ) {
			$this->ahead = array();
			$on_flush();
		};
		foreach ( $addresses as $address ) {
			$this->nodes[ $address ] = new Generation( $address, $this->prefix, $forget );
		}
	}

	/**
	 * Makes the name of a value; it begins with its group.
	 *
	 * @param string $group The group.
	 * @param string $id    The value's key, with the site's number where sites have their own values.
	 * @return string
	 */
	public static function name( $group, $id ) {
		$head = rawurlencode( $group );
		if ( strlen( $head ) > self::NAME_BYTES_MAX / 2 ) {
			$head = hash( 'sha256', $group );
		}
		$name = $head . ':' . $id;
		// Memcached knows no key with a blank or a control character.
		if ( strlen( $name ) > self::NAME_BYTES_MAX || preg_match( '/[^\x21-\x7e]/', $name ) ) {
			$name = $head . ':#' . hash( 'sha256', $id );
		}
		return $name;
	}

	/**
	 * Reads values.
	 *
	 * @param string[] $names Their names.
	 * @return array Name => `array( 'value' =>, 'cas' => )` of those that are there.
	 */
	public function read( array $names ) {
		$items = array();
		$asked = array();
		foreach ( $names as $name ) {
			if ( array_key_exists( $name, $this->ahead ) ) {
				if ( null !== $this->ahead[ $name ] ) {
					$items[ $name ] = $this->ahead[ $name ];
				}
				unset( $this->ahead[ $name ] );
			} else {
				$asked[] = $name;
			}
		}
		return $asked ? $items + $this->read_anew( $asked ) : $items;
	}

	/**
	 * Reads values as they are now.
	 *
	 * @param string[] $names Their names.
	 * @return array As of read().
	 */
	public function read_anew( array $names ) {
		$by_node = array();
		foreach ( $names as $name ) {
			unset( $this->ahead[ $name ] );
			$address = $this->address_of( $name );
			$key     = $this->nodes[ $address ]->key( $name );
			if ( null !== $key ) {
				$by_node[ $address ][ $key ] = $name;
			}
		}
		$items = array();
		foreach ( $by_node as $address => $names_by_key ) {
			$found = $this->nodes[ $address ]->node->fetch( array_keys( $names_by_key ) );
			foreach ( (array) $found as $key => $item ) {
				$items[ $names_by_key[ $key ] ] = $item;
			}
		}
		return $items;
	}

	/**
	 * Reads values that will be wanted soon.
	 *
	 * @param string[] $names Their names.
	 */
	public function read_ahead( array $names ) {
		$items = $this->read_anew( $names );
		foreach ( $names as $name ) {
			$this->ahead[ $name ] = isset( $items[ $name ] ) ? $items[ $name ] : null;
		}
	}

	/**
	 * Reads a hint together with the generation, which the first call of a request reads anyway.
	 *
	 * @param string $name The hint's name; no flush reaches it.
	 * @return mixed Its value, or null.
	 */
	public function read_hint( $name ) {
		$key   = $this->prefix . ':' . $name;
		$found = $this->node_of( $name )->look( array( $key ) );
		return isset( $found[ $key ] ) ? Codec::decode( $found[ $key ]['value'], $is_whole ) : null;
	}

	/**
	 * Stores a hint.
	 *
	 * @param string $name  As of read_hint().
	 * @param mixed  $value Any value.
	 * @param int    $ttl   Seconds, at most thirty days.
	 */
	public function write_hint( $name, $value, $ttl ) {
		$stored = Codec::encode( $value );
		if ( null !== $stored ) {
			$this->node_of( $name )->node->store( 'set', $this->prefix . ':' . $name, $stored, $ttl );
		}
	}

	/**
	 * Stores a value whatever is there.
	 *
	 * @param string          $name   Its name.
	 * @param int|string|null $stored What Codec made of it. Null, what cannot be stored, is deleted.
	 * @param int             $ttl    Seconds; 0 for ever.
	 * @return bool|null Null: the node failed.
	 */
	public function set( $name, $stored, $ttl ) {
		return null === $stored ? $this->bury( $name ) : $this->change( 'set', $name, $stored, $ttl );
	}

	/**
	 * Stores a value where there is none.
	 *
	 * @param string     $name   Its name.
	 * @param int|string $stored What Codec made of it.
	 * @param int        $ttl    Seconds; 0 for ever.
	 * @return bool|null False: there is one. Null: the node failed.
	 */
	public function add( $name, $stored, $ttl ) {
		$node = $this->node_of( $name );
		$key  = $node->key( $name );
		return null === $key ? null : $node->node->store( 'add', $key, $stored, self::date( $ttl ) );
	}

	/**
	 * Stores a value over the one that was read, or over its tombstone.
	 *
	 * @param string     $name   Its name.
	 * @param int|string $stored What Codec made of it.
	 * @param int        $ttl    Seconds; 0 for ever.
	 * @param int|float  $token  The `cas` of what was read.
	 * @return bool|null False: it is another one now. Null: the node failed.
	 */
	public function swap( $name, $stored, $ttl, $token ) {
		$node    = $this->node_of( $name );
		$key     = $node->key( $name );
		$outcome = null === $key ? null : $node->node->swap( $key, $stored, self::date( $ttl ), $token );
		$node->was_changed( $name, null !== $outcome );
		return $outcome;
	}

	/**
	 * Deletes a value and keeps others from putting an old one in its place.
	 *
	 * @param string $name Its name.
	 * @return bool|null Whether there was something. Null: the node failed.
	 */
	public function bury( $name ) {
		$outcome = $this->change( 'replace', $name, Codec::TOMBSTONE, self::TOMBSTONE_SECONDS );
		if ( false === $outcome ) {
			$is_stored = $this->change( 'set', $name, Codec::TOMBSTONE, self::TOMBSTONE_SECONDS );
			return null === $is_stored ? null : false;
		}
		return $outcome;
	}

	/**
	 * Makes sure that there is something to swap: the value, or a tombstone.
	 *
	 * @param string $name Its name.
	 * @return array|null The item. Null: the node failed.
	 */
	public function reserve( $name ) {
		$this->add( $name, Codec::TOMBSTONE, self::TOMBSTONE_SECONDS );
		$items = $this->read_anew( array( $name ) );
		return isset( $items[ $name ] ) ? $items[ $name ] : null;
	}

	/**
	 * Counts a number up or down.
	 *
	 * @param string $name Its name.
	 * @param int    $by   How far.
	 * @return int|false|null False: there is no number. Null: the node failed.
	 */
	public function count( $name, $by ) {
		unset( $this->ahead[ $name ] );
		$node   = $this->node_of( $name );
		$key    = $node->key( $name );
		$number = null === $key ? null : $node->node->count( $key, $by );
		$node->was_changed( $name, null !== $number );
		return $number;
	}

	/**
	 * Forgets all values of the site.
	 */
	public function flush() {
		$this->ahead = array();
		foreach ( $this->nodes as $node ) {
			$node->flush();
		}
	}

	/**
	 * Forgets the values of a group.
	 *
	 * @param string $group The group.
	 */
	public function flush_group( $group ) {
		$this->ahead = array();
		foreach ( $this->nodes as $node ) {
			$node->flush_group( strstr( self::name( $group, '' ), ':', true ) );
		}
	}

	/**
	 * Makes sure that what this process has changed is changed in spite of others' flushes.
	 */
	public function settle() {
		foreach ( $this->nodes as $node ) {
			$node->settle();
		}
	}

	/**
	 * Changes a value.
	 *
	 * @param string     $how    As of Node::store().
	 * @param string     $name   Its name.
	 * @param int|string $stored What to store.
	 * @param int        $ttl    Seconds; 0 for ever.
	 * @return bool|null
	 */
	private function change( $how, $name, $stored, $ttl ) {
		unset( $this->ahead[ $name ] );
		$node    = $this->node_of( $name );
		$key     = $node->key( $name );
		$outcome = null === $key ? null : $node->node->store( $how, $key, $stored, self::date( $ttl ) );
		$node->was_changed( $name, null !== $outcome );
		return $outcome;
	}

	/**
	 * Returns the node of a value.
	 *
	 * @param string $name Its name.
	 * @return Generation
	 */
	private function node_of( $name ) {
		return $this->nodes[ $this->address_of( $name ) ];
	}

	/**
	 * Chooses the node of a value: the one that wins a draw of all nodes, so that only the values of
	 * a lost node move.
	 *
	 * @param string $name Its name.
	 * @return string
	 */
	private function address_of( $name ) {
		if ( 1 === count( $this->nodes ) ) {
			return (string) key( $this->nodes );
		}
		$best   = '';
		$chosen = '';
		foreach ( $this->nodes as $address => $node ) {
			$draw = hash( 'sha1', $address . ' ' . $name );
			if ( strcmp( $draw, $best ) > 0 ) {
				$best   = $draw;
				$chosen = $address;
			}
		}
		return $chosen;
	}

	/**
	 * Makes of seconds what memcached takes: beyond thirty days it wants a date.
	 *
	 * @param int $ttl Seconds.
	 * @return int
	 */
	private static function date( $ttl ) {
		return $ttl > 30 * 86400 ? time() + $ttl : $ttl;
	}
}
