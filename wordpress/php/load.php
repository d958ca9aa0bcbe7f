<?php
/**
 * Runs before WordPress, from wp-config.php: puts in what a drop-in and a must-use plugin would do,
 * without a file in the site.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/refused.php';
require_once __DIR__ . '/uploads.php';
require_once __DIR__ . '/workshop.php';

( static function () {
	if ( FLOTILLA_IS_WORKSHOP ) {
		Workshop::enter();
	}

	// WordPress makes hooks of what it finds here.
	$all = array( array( Uploads::class, Uploads::HOOKS ), array( Refused::class, Refused::HOOKS ) );
	if ( '' !== FLOTILLA_WORKSHOP_KEY ) {
		$all[] = array( Workshop::class, Workshop::HOOKS );
		if ( FLOTILLA_IS_WORKSHOP ) {
			require_once __DIR__ . '/trial.php';
			$all[] = array( Workshop::class, Workshop::WORKSHOP_HOOKS );
			$all[] = array( Trial::class, Trial::HOOKS );
		}
	}
	foreach ( $all as list( $class, $hooks ) ) {
		foreach ( $hooks as $hook => list( $priority, $method, $accepted_args ) ) {
			$GLOBALS['wp_filter'][ $hook ][ $priority ][] = array(
				'function'      => array( $class, $method ),
				'accepted_args' => $accepted_args,
			);
		}
	}

	$content = defined( 'WP_CONTENT_DIR' ) ? WP_CONTENT_DIR : ABSPATH . 'wp-content';
	if ( 'off' === FLOTILLA_CACHE || ( 'auto' === FLOTILLA_CACHE && is_file( $content . '/object-cache.php' ) ) ) {
		return;
	}
	if ( ! extension_loaded( 'memcached' ) || ! extension_loaded( 'igbinary' ) ) {
		// Without the cache this PHP cannot tell the others what it changes.
		error_log( 'flotilla: PHP has no `memcached` or no `igbinary`, so others may go on with what this request changes' );
		return;
	}
	require_once __DIR__ . '/object-cache.php';
	$GLOBALS['wp_filter']['deleted_option'][0][] = array(
		'function'      => static function ( $option ) {
			$GLOBALS['wp_object_cache']->option_was_deleted( $option );
		},
		'accepted_args' => 1,
	);
	$GLOBALS['_wp_using_ext_object_cache'] = true;
} )();
