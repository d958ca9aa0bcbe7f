<?php
/**
 * Upgrades the database to the version of the code, once; with `--check` only tells whether it would,
 * with `--settled` the same once no other upgrade works on the database, with `--flush` makes caches
 * of the database void in any case: it was exchanged.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/cli.php';

/** Seconds that scheduled events may go on. */
const RUNNERS_WAIT = 5;

/** Seconds that the last statement of an upgrade that was killed may go on. */
const SETTLE_WAIT = 5;

// Keeps plugins out: theirs is the code that must not run between two versions of the database.
define( 'WP_INSTALLING', true );
$_SERVER['REQUEST_METHOD'] = 'GET';
$_SERVER['REQUEST_URI']    = '/wp-admin/upgrade.php';
$_SERVER['PHP_SELF']       = '/wp-admin/upgrade.php';

require SITE . '/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';

// Reads past caches: another instance may have upgraded a moment ago.
$read = static function () {
	global $wpdb;
	$suppressed = $wpdb->suppress_errors();
	$version    = $wpdb->get_var(
		"SELECT option_value FROM $wpdb->options WHERE option_name = 'db_version'"
	);
	$wpdb->suppress_errors( $suppressed );
	return $version;
};

/**
 * Waits until no scheduled event of the old code runs any more, as long as a held visitor can bear.
 *
 * @param \wpdb $wpdb The database.
 */
function wait_for_runners( $wpdb ) {
	$table      = $wpdb->prefix . 'flotilla_cron';
	$suppressed = $wpdb->suppress_errors();
	for ( $until = microtime( true ) + RUNNERS_WAIT; microtime( true ) < $until; usleep( 100000 ) ) {
		$runners = $wpdb->get_col(
			"SELECT runner FROM `$table` WHERE begun_at IS NOT NULL AND ended_at IS NULL
				AND NOT IS_FREE_LOCK( CONCAT( 'flotilla-run-', runner ) )"
		);
		if ( array() === (array) $runners ) {
			break;
		}
	}
	$wpdb->suppress_errors( $suppressed );
}

/**
 * Ends the script before its next statement when whoever started it is gone: the next foreman looks
 * at the database anew, and an upgrade that nobody watches must not go on behind it.
 */
function end_with_parent() {
	if ( ! function_exists( 'posix_getppid' ) ) {
		return;
	}
	$parent = posix_getppid();
	add_filter(
		'query',
		static function ( $query ) use ( $parent ) {
			if ( posix_getppid() !== $parent ) {
				fail( 'the foreman that started this upgrade is gone' );
			}
			return $query;
		}
	);
}

$is_settled = in_array( '--settled', $GLOBALS['argv'], true );
$is_check   = $is_settled || in_array( '--check', $GLOBALS['argv'], true );
end_with_parent();
if ( $is_settled ) {
	lock( $GLOBALS['wpdb'], SETTLE_WAIT );
} elseif ( ! $is_check ) {
	lock( $GLOBALS['wpdb'] );
}

$to   = (int) $GLOBALS['wp_db_version'];
$from = $read();
if ( null === $from ) {
	fail( 'WordPress is not installed in the database' );
}
$from    = (int) $from;
$changed = false;
if ( in_array( '--flush', $GLOBALS['argv'], true ) ) {
	wp_cache_flush();
}

if ( $from < $to && ! $is_check ) {
	wait_for_runners( $GLOBALS['wpdb'] );
	wp_cache_flush();
	delete_site_transient( 'update_core' );
	wp_upgrade();
	// Plugins may have changed options since WordPress' own flush, past the cache.
	wp_cache_flush();
	$after = (int) $read();
	if ( $after !== $to ) {
		fail( "the upgrade ended with database version $after instead of $to" );
	}
	$changed = true;
}

succeed(
	array(
		'from'     => $from,
		'to'       => $to,
		'needed'   => $from !== $to,
		'changed'  => $changed,
		'is_ahead' => $from > $to,
		'version'  => $GLOBALS['wp_version'],
	)
);
