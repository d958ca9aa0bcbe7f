<?php
/**
 * What warm.php and scripts.php share: reading a JSON request, answering, and the state of opcache.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/layout.php';

/**
 * Answers with JSON and ends the request.
 *
 * @param int   $status HTTP status.
 * @param array $answer What to tell.
 */
function answer( $status, array $answer ) {
	while ( ob_get_level() > 0 ) {
		ob_end_clean();
	}
	http_response_code( $status );
	header( 'Content-Type: application/json' );
	header( 'Cache-Control: no-store' );
	echo json_encode(
		$answer,
		JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE
	), "\n";
	exit;
}

/**
 * Reads the request's JSON object; an empty body is an empty object.
 *
 * @return array
 */
function request() {
	$body = (string) file_get_contents( 'php://input' );
	if ( '' === trim( $body ) ) {
		return array();
	}
	$request = json_decode( $body, true );
	if ( ! is_array( $request ) ) {
		answer( 400, array( 'error' => 'the body is not a JSON object' ) );
	}
	return $request;
}

/**
 * Tells how full opcache is.
 *
 * @return array
 */
function opcache_state() {
	$status = opcache_get_status( false );
	if ( ! is_array( $status ) ) {
		answer( 503, array( 'error' => 'opcache is off' ) );
	}
	$memory     = $status['memory_usage'];
	$statistics = $status['opcache_statistics'];
	return array(
		'used_bytes'   => $memory['used_memory'],
		'free_bytes'   => $memory['free_memory'],
		'wasted_bytes' => $memory['wasted_memory'],
		'is_full'      => $status['cache_full'],
		'scripts'      => $statistics['num_cached_scripts'],
		'scripts_max'  => $statistics['max_cached_keys'],
		'restarts'     => $statistics['oom_restarts'] + $statistics['hash_restarts']
			+ $statistics['manual_restarts'],
	);
}

/**
 * Lists the cached scripts below the site.
 *
 * @return array Relative path => what opcache knows of it.
 */
function cached_scripts() {
	$status = opcache_get_status( true );
	$below  = SITE . '/';
	$cached = array();
	foreach ( is_array( $status ) ? ( $status['scripts'] ?? array() ) : array() as $path => $script ) {
		// Opcache goes on listing what was invalidated.
		if ( 0 === strpos( $path, $below ) && opcache_is_script_cached( $path ) ) {
			$cached[ substr( $path, strlen( $below ) ) ] = $script;
		}
	}
	return $cached;
}
