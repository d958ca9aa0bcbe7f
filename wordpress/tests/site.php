<?php
/**
 * What the tests of the object cache share: as much of WordPress as the cache calls, and checks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

error_reporting( E_ALL );
set_error_handler(
	static function ( $level, $message, $file, $line ) {
		if ( error_reporting() & $level ) {
			throw new ErrorException( $message, 0, $level, $file, $line );
		}
		return false;
	}
);

/** A memcached of the test's own, on a socket in the directory that the test is given. */
final class Memory {
	private static $running = array();
	public $socket;
	private $process;

	public function __construct( $name ) {
		$this->socket = $GLOBALS['argv'][1] . "/$name.sock";
		$this->start();
		self::$running[] = $this;
	}

	public function start() {
		$command = array( 'memcached', '-s', $this->socket, '-U', '0', '-m', '64' );
		if ( 0 === posix_geteuid() ) {
			array_push( $command, '-u', 'root' );
		}
		$this->process = proc_open( $command, array(), $pipes );
		until(
			'memcached accepts',
			function () {
				return false !== @stream_socket_client( 'unix://' . $this->socket );
			}
		);
	}

	public function signal( $signal ) {
		posix_kill( proc_get_status( $this->process )['pid'], $signal );
	}

	public function kill() {
		$this->signal( SIGKILL );
		proc_close( $this->process );
	}

	public static function end() {
		foreach ( self::$running as $memory ) {
			$memory->kill();
		}
	}
}

/** Waits for something, ten seconds at most. */
function until( $what, callable $holds ) {
	for ( $tries = 0; $tries < 1000; $tries++ ) {
		if ( $holds() ) {
			return;
		}
		usleep( 10000 );
	}
	same( $what, true, false );
}

/** Which of WordPress' answers the tests change. */
final class Wordpress {
	public static $is_network = false;
	public static $is_suspended = false;
	public static $complaints = array();
	public static $failed = 0;
}

function is_multisite() {
	return Wordpress::$is_network;
}

function get_current_blog_id() {
	return 1;
}

function wp_suspend_cache_addition() {
	return Wordpress::$is_suspended;
}

function _doing_it_wrong( $where, $message ) {
	Wordpress::$complaints[] = "$where: $message";
}

function __( $text ) {
	return $text;
}

/**
 * Begins a request: as on another instance, it has seen nothing yet.
 *
 * @return WP_Object_Cache
 */
function request() {
	$cache = new WP_Object_Cache();
	$cache->add_global_groups( array( 'users', 'site-options', 'site-transient' ) );
	$cache->add_non_persistent_groups( array( 'counts', 'plugins' ) );
	$GLOBALS['wp_object_cache'] = $cache;
	return $cache;
}

/**
 * Notes a check that fails.
 *
 * @param string $promise  What should hold.
 * @param mixed  $expected The value that was expected.
 * @param mixed  $actual   The one there is.
 */
function same( $promise, $expected, $actual ) {
	$is_same = is_object( $expected ) ? $expected == $actual : $expected === $actual;
	if ( ! $is_same ) {
		++Wordpress::$failed;
		printf( "%s: expected %s, but it is %s\n", $promise, json_encode( $expected ), json_encode( $actual ) );
	}
}

/** Ends the test with the exit code that says whether it failed. */
function finish() {
	exit( Wordpress::$failed > 0 ? 1 : 0 );
}

define( 'FLOTILLA_CACHE_PREFIX', 'test' );
$memory = new Memory( 'one' );
define( 'FLOTILLA_CACHE_NODES', $memory->socket );
register_shutdown_function( array( Memory::class, 'end' ) );

require __DIR__ . '/../php/object-cache.php';

// A machine that is busy with other tests must not look like a memcached that hangs.
Flotilla\Cache\Node::$answer_millis = 10000;
