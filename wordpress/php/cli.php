<?php
/**
 * What the command-line scripts share: loading WordPress without its plugins, one at a time, and
 * telling the truth by the exit code.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/layout.php';

if ( PHP_SAPI !== 'cli' ) {
	http_response_code( 404 );
	exit;
}

/** Seconds to wait for another installation or upgrade of the same site. */
const LOCK_WAIT = 60;

// wp_die() ends with exit code 0, whatever happened: only succeed() ends well.
final class Outcome {
	/**
	 * Whether the script has done its work.
	 *
	 * @var bool
	 */
	public static $is_done = false;
}

error_reporting( E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED );
ini_set( 'display_errors', 'stderr' );
ini_set( 'html_errors', '0' );
// WordPress may print; stdout is for the answer.
ob_start();
register_shutdown_function(
	static function () {
		if ( Outcome::$is_done ) {
			return;
		}
		$said = '';
		while ( ob_get_level() > 0 ) {
			$said = ob_get_clean() . $said;
		}
		$said = trim( preg_replace( '/\s+/', ' ', strip_tags( $said ) ) );
		if ( '' === $said ) {
			$said = error_get_last()['message'] ?? 'the script ended early';
		}
		fwrite( STDERR, 'error: ' . $said . "\n" );
		exit( 1 );
	}
);

/**
 * Ends the script with its answer.
 *
 * @param array $answer What to print as JSON.
 */
function succeed( array $answer ) {
	while ( ob_get_level() > 0 ) {
		$said = trim( (string) ob_get_clean() );
		if ( '' !== $said ) {
			fwrite( STDERR, $said . "\n" );
		}
	}
	fwrite( STDOUT, json_encode( $answer, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE ) . "\n" );
	Outcome::$is_done = true;
	exit( 0 );
}

/**
 * Ends the script because it cannot do its work.
 *
 * @param string $message What is wrong.
 * @param int    $code    Exit code.
 */
function fail( $message, $code = 1 ) {
	fwrite( STDERR, 'error: ' . $message . "\n" );
	Outcome::$is_done = true;
	exit( $code );
}

/**
 * Lets only one such script work on a database; the lock ends with the connection.
 *
 * @param \wpdb $wpdb The database.
 * @param int   $wait Seconds to wait for another one.
 */
function lock( $wpdb, $wait = LOCK_WAIT ) {
	$name = 'flotilla-' . md5( DB_NAME . '/' . $wpdb->prefix );
	$got  = $wpdb->get_var( $wpdb->prepare( 'SELECT GET_LOCK( %s, %d )', $name, $wait ) );
	if ( '1' !== (string) $got ) {
		fail( 'another installation or upgrade of this database has not ended' );
	}
}
