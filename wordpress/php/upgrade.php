<?php
/**
 * Upgrades the database to the version of the code, once; with `--check` only tells whether it would.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/cli.php';

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

$is_check = in_array( '--check', $GLOBALS['argv'], true );
if ( ! $is_check ) {
	lock( $GLOBALS['wpdb'] );
}

$to   = (int) $GLOBALS['wp_db_version'];
$from = $read();
if ( null === $from ) {
	fail( 'WordPress is not installed in the database' );
}
$from    = (int) $from;
$changed = false;

if ( $from < $to && ! $is_check ) {
	wp_cache_flush();
	delete_site_transient( 'update_core' );
	wp_upgrade();
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
