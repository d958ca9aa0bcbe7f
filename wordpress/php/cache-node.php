<?php
/**
 * One memcached: every call ends within a bounded time and none is an error.
 *
 * A node that fails is not asked again in the same request, and by the slot's other workers only
 * after a while (see Trouble).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

require_once __DIR__ . '/cache-trouble.php';

final class Node {
	/** Milliseconds until a node that does not accept counts as down. */
	const CONNECT_MILLIS = 100;

	/**
	 * Milliseconds until a node that does not answer counts as down.
	 *
	 * @var int
	 */
	public static $answer_millis = 200;

	/** What a healthy node answers, whether it did what it was told or not. */
	const ANSWERS = array(
		\Memcached::RES_SUCCESS           => true,
		\Memcached::RES_NOTFOUND          => true,
		\Memcached::RES_NOTSTORED         => true,
		\Memcached::RES_DATA_EXISTS       => true,
		\Memcached::RES_E2BIG             => true,
		\Memcached::RES_CLIENT_ERROR      => true,
		\Memcached::RES_SERVER_ERROR      => true,
		\Memcached::RES_PAYLOAD_FAILURE   => true,
		\Memcached::RES_BAD_KEY_PROVIDED  => true,
	);

	/**
	 * Its shared trouble.
	 *
	 * @var Trouble
	 */
	public $trouble;

	/**
	 * Host and port, or the absolute path of a socket and 0.
	 *
	 * @var array{string, int}
	 */
	private $address;

	/**
	 * The connection, made at the first call.
	 *
	 * @var \Memcached|null
	 */
	private $memcached;

	/**
	 * Whether this process has given it up; null until the first call.
	 *
	 * @var bool|null
	 */
	private $is_down;

	/**
	 * When it was last decided whether it is given up.
	 *
	 * @var float
	 */
	private $asked_at = 0.0;

	/**
	 * Whether it was given up only because a connection broke that can be made anew.
	 *
	 * @var bool
	 */
	private $is_broken = false;

	/**
	 * Whether there was trouble when it was first asked.
	 *
	 * @var bool
	 */
	private $had_trouble = false;

	/**
	 * Names a node; nothing is connected yet.
	 *
	 * @param string $address `host:port`, or the absolute path of a socket.
	 * @param string $prefix  What the names of all values begin with.
	 */
	public function __construct( $address, $prefix ) {
		$colon         = strrpos( $address, ':' );
		$this->address = '/' === $address[0] || false === $colon
			? array( $address, 0 )
			: array( trim( substr( $address, 0, $colon ), '[]' ), (int) substr( $address, $colon + 1 ) );
		$this->trouble = new Trouble( $prefix . ' ' . $address );
	}

	/**
	 * Tells whether it is given up for now.
	 *
	 * @return bool
	 */
	public function is_down() {
		// A process that runs for long may try again.
		if ( $this->is_down && microtime( true ) - $this->asked_at > Trouble::RETRY_SECONDS ) {
			$this->is_down = null;
		}
		if ( null === $this->is_down ) {
			$this->asked_at    = microtime( true );
			$this->had_trouble = $this->trouble->is_there();
			$this->is_down     = $this->had_trouble && ! $this->trouble->may_try();
		}
		return $this->is_down;
	}

	/**
	 * Tells, once, whether there was trouble that has not been ended yet.
	 *
	 * @return bool
	 */
	public function had_trouble() {
		$had_trouble       = $this->had_trouble;
		$this->had_trouble = false;
		return $had_trouble;
	}

	/**
	 * Reads values.
	 *
	 * @param string[] $keys Their keys.
	 * @return array|null Of those that are there: key => `array( 'value' =>, 'cas' => )`. Null: it failed.
	 */
	public function fetch( array $keys ) {
		if ( $this->is_down() ) {
			return null;
		}
		$memcached = $this->memcached();
		if ( 1 === count( $keys ) ) {
			$key   = reset( $keys );
			$item  = $memcached->get( $key, null, \Memcached::GET_EXTENDED );
			$found = is_array( $item ) ? array( $key => $item ) : array();
		} else {
			$found = $memcached->getMulti( $keys, \Memcached::GET_EXTENDED );
		}
		return $this->has_answered() ? (array) $found : null;
	}

	/**
	 * Reads values as the first call of a request: a connection that broke while it was idle is
	 * made anew.
	 *
	 * @param string[] $keys Their keys.
	 * @return array|null As of fetch().
	 */
	public function greet( array $keys ) {
		$found = $this->fetch( $keys );
		if ( null === $found && $this->is_broken ) {
			$this->is_down   = false;
			$this->is_broken = false;
			$found           = $this->fetch( $keys );
		}
		return $found;
	}

	/**
	 * Changes a value.
	 *
	 * @param string         $how   `set`, `add` or `replace`.
	 * @param string         $key   Its key.
	 * @param int|string     $value What to store.
	 * @param int            $ttl   As memcached takes it: seconds up to thirty days, else a date.
	 * @return bool|null Whether it was stored. Null: the node failed, and it is not known.
	 */
	public function store( $how, $key, $value, $ttl ) {
		if ( $this->is_down() ) {
			return null;
		}
		$is_stored = $this->memcached()->$how( $key, $value, $ttl );
		return $this->has_answered() ? $is_stored : null;
	}

	/**
	 * Changes a value if it is still the one that was read.
	 *
	 * @param string     $key   Its key.
	 * @param int|string $value What to store.
	 * @param int        $ttl   As of store().
	 * @param int|float  $token The `cas` that was read with it.
	 * @return bool|null As of store().
	 */
	public function swap( $key, $value, $ttl, $token ) {
		if ( $this->is_down() ) {
			return null;
		}
		$is_stored = $this->memcached()->cas( $token, $key, $value, $ttl );
		return $this->has_answered() ? $is_stored : null;
	}

	/**
	 * Counts up, or down with a negative number, but not below 0.
	 *
	 * @param string $key Its key.
	 * @param int    $by  How far.
	 * @return int|false|null The new number; false: there is none. Null: the node failed.
	 */
	public function count( $key, $by ) {
		if ( $this->is_down() ) {
			return null;
		}
		$memcached = $this->memcached();
		$number    = $by < 0 ? $memcached->decrement( $key, -$by ) : $memcached->increment( $key, $by );
		return $this->has_answered() ? $number : null;
	}

	/**
	 * Tells whether the last call was answered; else gives the node up.
	 *
	 * @return bool
	 */
	private function has_answered() {
		if ( isset( self::ANSWERS[ $this->memcached->getResultCode() ] ) ) {
			return true;
		}
		$this->is_down  = true;
		$this->asked_at = microtime( true );
		$is_slow        = \Memcached::RES_TIMEOUT === $this->memcached->getResultCode();
		$this->connect();
		$this->is_broken = ! $is_slow && false !== $this->memcached->getVersion();
		if ( ! $this->is_broken ) {
			$this->trouble->begin();
		}
		return false;
	}

	/**
	 * Returns the connection.
	 *
	 * @return \Memcached
	 */
	private function memcached() {
		if ( null === $this->memcached ) {
			list( $host, $port ) = $this->address;
			// On the command line a process may fork, and two of them must not share a connection.
			$this->memcached = PHP_SAPI === 'cli'
				? new \Memcached()
				: new \Memcached( "flotilla-cache $host $port" );
			if ( ! $this->memcached->getServerList() ) {
				$this->memcached->setOptions(
					array(
						\Memcached::OPT_BINARY_PROTOCOL => false,
						\Memcached::OPT_COMPRESSION     => false,
						\Memcached::OPT_TCP_NODELAY     => true,
						// Without it the limits of time below do not hold.
						\Memcached::OPT_NO_BLOCK        => true,
						\Memcached::OPT_CONNECT_TIMEOUT => self::CONNECT_MILLIS,
						\Memcached::OPT_POLL_TIMEOUT    => self::$answer_millis,
						\Memcached::OPT_SEND_TIMEOUT    => 1000 * self::$answer_millis,
						\Memcached::OPT_RECV_TIMEOUT    => 1000 * self::$answer_millis,
					)
				);
				$this->connect();
			}
		}
		return $this->memcached;
	}

	/**
	 * Forgets the connection and what the library thinks of the node.
	 */
	private function connect() {
		$this->memcached->resetServerList();
		$this->memcached->addServer( $this->address[0], $this->address[1] );
	}
}
