<?php
/**
 * The generation of one site's values in one node: it is a part of every key, and to flush is to
 * begin a new one, so that another site of the same memcached loses nothing.
 *
 * A process that changed a value while somebody else flushed must not leave its change in the old
 * generation only: what was changed since the generation was last looked at is deleted in the new
 * one. A group has a generation of its own once it was flushed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

require_once __DIR__ . '/cache-codec.php';
require_once __DIR__ . '/cache-node.php';

final class Generation {
	/** Seconds after which the node is asked again. */
	const FRESH_SECONDS = 1;

	/** Changes that are remembered until the node is asked. */
	const CHANGES_MAX = 1000;

	/** Groups that can be flushed one by one before all are flushed at once. */
	const FLUSHED_GROUPS_MAX = 100;

	/** How often a flush of a group that others get in the way of is tried. */
	const TRIES = 5;

	/**
	 * The node.
	 *
	 * @var Node
	 */
	public $node;

	/**
	 * What the site's keys begin with.
	 *
	 * @var string
	 */
	private $prefix;

	/**
	 * The generation. Null: not known yet. False: the node could not be asked.
	 *
	 * @var string|false|null
	 */
	private $current;

	/**
	 * Flushed groups, and the generation of each.
	 *
	 * @var array<string, string>
	 */
	private $groups = array();

	/**
	 * When the node was asked.
	 *
	 * @var float
	 */
	private $asked_at = 0.0;

	/**
	 * Names whose values were changed since then.
	 *
	 * @var array<string, true>
	 */
	private $changes = array();

	/**
	 * Called when somebody else has flushed.
	 *
	 * @var callable
	 */
	private $on_flush;

	/**
	 * Names the node; nothing is asked yet.
	 *
	 * @param string   $address  The node.
	 * @param string   $prefix   What the site's keys begin with.
	 * @param callable $on_flush Called when somebody else has flushed.
	 */
	public function __construct( $address, $prefix, callable $on_flush ) {
		$this->node     = new Node( $address, $prefix );
		$this->prefix   = $prefix;
		$this->on_flush = $on_flush;
	}

	/**
	 * Makes the key of a value.
	 *
	 * @param string $name The value's name, which begins with its group.
	 * @return string|null Null: the node cannot be asked.
	 */
	public function key( $name ) {
		if ( ! $this->current || microtime( true ) - $this->asked_at > self::FRESH_SECONDS ) {
			if ( false === $this->current && $this->node->is_down() ) {
				return null;
			}
			$this->look( array() );
			if ( ! $this->current ) {
				return null;
			}
		}
		$key = $this->prefix . ':' . $this->current;
		if ( $this->groups ) {
			$group = strstr( $name, ':', true );
			if ( isset( $this->groups[ $group ] ) ) {
				$key .= '.' . $this->groups[ $group ];
			}
		}
		return $key . ':' . $name;
	}

	/**
	 * Asks the node for its generation, and for further keys in the same call.
	 *
	 * @param string[] $keys Further keys.
	 * @return array As of Node::fetch().
	 */
	public function look( array $keys ) {
		$keys[] = $this->own_key();
		$found  = $this->node->greet( $keys );
		$stored = isset( $found[ $this->own_key() ] ) ? $found[ $this->own_key() ]['value'] : null;
		$before = array( $this->current, $this->groups );
		if ( null === $found || ! ( $this->read( $stored ) || $this->begin() ) ) {
			$this->current = false;
			return array();
		}
		if ( $before[0] ) {
			$changes       = array_keys( $this->changes );
			$this->changes = array();
			if ( array( $this->current, $this->groups ) !== $before ) {
				call_user_func( $this->on_flush );
				$this->bury( $changes );
			}
		}
		if ( $this->node->had_trouble() ) {
			$this->node->trouble->end(
				function ( $names ) {
					return null === $names ? $this->flush() : $this->bury( $names );
				}
			);
		}
		return $found;
	}

	/**
	 * Remembers that a value was changed, or that it could not be.
	 *
	 * @param string $name     The value.
	 * @param bool   $has_node Whether the node has answered.
	 */
	public function was_changed( $name, $has_node ) {
		if ( ! $has_node ) {
			$this->node->trouble->lose( $name );
			return;
		}
		$this->changes[ $name ] = true;
		if ( count( $this->changes ) > self::CHANGES_MAX ) {
			$this->settle();
		}
	}

	/**
	 * Makes sure that what this process has changed is changed in the present generation.
	 */
	public function settle() {
		if ( $this->changes ) {
			$this->look( array() );
		}
	}

	/**
	 * Begins a new generation.
	 *
	 * @return bool
	 */
	public function flush() {
		$this->changes  = array();
		$this->groups   = array();
		$this->current  = self::fresh();
		$this->asked_at = microtime( true );
		if ( $this->node->store( 'set', $this->own_key(), $this->written(), 0 ) ) {
			return true;
		}
		$this->current = false;
		$this->node->trouble->lose( Trouble::EVERYTHING );
		return false;
	}

	/**
	 * Begins a new generation of a group.
	 *
	 * @param string $group What the names of its values begin with.
	 */
	public function flush_group( $group ) {
		for ( $try = 0; $try < self::TRIES; $try++ ) {
			$found = $this->look( array() );
			if ( ! isset( $found[ $this->own_key() ] ) || count( $this->groups ) >= self::FLUSHED_GROUPS_MAX ) {
				break;
			}
			$this->groups[ $group ] = self::fresh();
			if ( $this->node->swap( $this->own_key(), $this->written(), 0, $found[ $this->own_key() ]['cas'] ) ) {
				return;
			}
		}
		$this->flush();
	}

	/**
	 * Deletes values.
	 *
	 * @param string[] $names Their names.
	 * @return bool Whether the node has done it.
	 */
	private function bury( array $names ) {
		foreach ( $names as $name ) {
			$key = $this->key( (string) $name );
			if ( null === $key || ! $this->node->store( 'set', $key, Codec::TOMBSTONE, Store::TOMBSTONE_SECONDS ) ) {
				$this->node->trouble->lose( (string) $name );
				return false;
			}
		}
		return true;
	}

	/**
	 * Begins the first generation of a node that knows none, unless somebody else just did.
	 *
	 * @return bool
	 */
	private function begin() {
		$this->groups   = array();
		$this->current  = self::fresh();
		$this->asked_at = microtime( true );
		$is_added       = $this->node->store( 'add', $this->own_key(), $this->written(), 0 );
		if ( false !== $is_added ) {
			return (bool) $is_added;
		}
		$found = $this->node->fetch( array( $this->own_key() ) );
		return $found && $this->read( reset( $found )['value'] );
	}

	/**
	 * The key under which a node keeps the generation.
	 *
	 * @return string
	 */
	private function own_key() {
		return $this->prefix . '/generation';
	}

	/**
	 * Makes a generation that never was: a node that was emptied must not go on with an old one.
	 *
	 * @return string
	 */
	private static function fresh() {
		return base_convert( (string) (int) ( microtime( true ) * 1e6 ), 10, 36 )
			. base_convert( (string) random_int( 0, 46655 ), 10, 36 );
	}

	/**
	 * Writes the generation as it is stored.
	 *
	 * @return string
	 */
	private function written() {
		return json_encode( array( $this->current, (object) $this->groups ) );
	}

	/**
	 * Reads the generation as it was stored.
	 *
	 * @param mixed $stored What the node holds.
	 * @return bool
	 */
	private function read( $stored ) {
		$parts = is_string( $stored ) ? json_decode( $stored, true ) : null;
		if ( ! isset( $parts[0], $parts[1] ) || ! is_string( $parts[0] ) || ! is_array( $parts[1] ) ) {
			return false;
		}
		list( $this->current, $this->groups ) = $parts;
		$this->asked_at                       = microtime( true );
		return true;
	}
}
