<?php
/**
 * Makes opcache follow a change of the slot's code: drops what changed, compiles what will be needed.
 *
 * The agent calls it over FastCGI while nobody is served from the slot, after the files are in
 * place. See wordpress/README.md for the request and the answer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/opcache.php';

const LIMIT_MILLIS_DEFAULT = 20000;
const LIMIT_MILLIS_MAX     = 50000;
const ERRORS_MAX           = 100;

/**
 * Takes a list of paths below the site out of the request.
 *
 * @param array  $request The request.
 * @param string $key     Its key.
 * @return string[]
 */
function paths( array $request, $key ) {
	$paths = $request[ $key ] ?? array();
	if ( ! is_array( $paths ) ) {
		answer( 400, array( 'error' => "`$key` is not a list" ) );
	}
	foreach ( $paths as $path ) {
		if ( ! is_string( $path ) || ! preg_match( '~^(?!/)(?!(.*/)?\.\.?(/|$))[^\0]+$~sD', $path ) ) {
			answer( 400, array( 'error' => "`$key` has a path that is not below the site" ) );
		}
	}
	return $paths;
}

/**
 * Drops scripts from opcache, also such that no longer exist.
 *
 * @param string[] $paths Relative to the site.
 * @return int How many are surely not cached any more.
 */
function invalidate( array $paths ) {
	$invalidated = 0;
	foreach ( $paths as $path ) {
		opcache_invalidate( SITE . '/' . $path, true );
		if ( ! opcache_is_script_cached( SITE . '/' . $path ) ) {
			++$invalidated;
		}
	}
	return $invalidated;
}

/**
 * Compiles scripts until the time is over or the memory is full.
 *
 * Compiling a script declares its functions, so of two that are never loaded together and declare
 * the same one the second cannot be compiled in this request: it is deferred.
 *
 * @param string[] $paths    Relative to the site.
 * @param float    $deadline In seconds, as microtime( true ).
 * @return array The counts of the answer.
 */
function compile( array $paths, $deadline ) {
	$result = array(
		'compiled'       => 0,
		'already_cached' => 0,
		'missing'        => 0,
		'deferred'       => array(),
		'errors'         => array(),
		'error_count'    => 0,
		'is_complete'    => true,
	);
	foreach ( $paths as $number => $path ) {
		$file = SITE . '/' . $path;
		if ( opcache_is_script_cached( $file ) ) {
			++$result['already_cached'];
			continue;
		}
		if ( ! is_file( $file ) ) {
			++$result['missing'];
			continue;
		}
		if ( microtime( true ) > $deadline || ( 0 === $number % 50 && opcache_state()['is_full'] ) ) {
			$result['is_complete'] = false;
			break;
		}
		$message = compile_one( $file );
		if ( null === $message ) {
			++$result['compiled'];
		} elseif ( $result['compiled'] > 0 && preg_match( '/Cannot (re)?declare/', $message ) ) {
			$result['deferred'][] = $path;
		} else {
			++$result['error_count'];
			if ( count( $result['errors'] ) < ERRORS_MAX ) {
				$result['errors'][ $path ] = $message;
			}
		}
	}
	$result['errors'] = (object) $result['errors'];
	return $result;
}

/**
 * Compiles one script.
 *
 * @param string $file Absolute path.
 * @return string|null Why opcache does not have it.
 */
function compile_one( $file ) {
	ob_start();
	try {
		@opcache_compile_file( $file );
		$message = '';
	} catch ( \Throwable $error ) {
		$message = $error->getMessage() . ' on line ' . $error->getLine();
	}
	// A fatal error of the script is printed, and does not end this one.
	$message .= trim( (string) ob_get_clean() );
	if ( opcache_is_script_cached( $file ) ) {
		return null;
	}
	return '' === $message ? 'opcache did not keep it' : $message;
}

( static function () {
	$started = microtime( true );
	// What compiling says about scripts goes into the answer, not into the site's log.
	ini_set( 'log_errors', '0' );
	ini_set( 'display_errors', '1' );
	ini_set( 'memory_limit', '512M' );
	ob_start();
	set_time_limit( 0 );
	clearstatcache( true );

	$request = request();
	opcache_state();
	$limit   = (int) ( $request['limit_millis'] ?? LIMIT_MILLIS_DEFAULT );
	$limit   = min( LIMIT_MILLIS_MAX, max( 0, $limit ) );
	$changed = paths( $request, 'invalidate' );
	$compile = paths( $request, 'compile' );
	if ( true === ( $request['invalidate_all'] ?? false ) ) {
		$changed = array_merge( $changed, array_keys( cached_scripts() ) );
	}

	$answer = array(
		'revision'    => revision(),
		'invalidated' => invalidate( array_unique( $changed ) ),
	);
	opcache_invalidate( WP_CONFIG, true );

	$gone = array_filter(
		array_keys( cached_scripts() ),
		static function ( $path ) {
			return ! is_file( SITE . '/' . $path );
		}
	);
	$answer['swept'] = invalidate( $gone );

	$answer += compile( $compile, $started + $limit / 1000 );
	$answer += array(
		'elapsed_millis' => (int) round( ( microtime( true ) - $started ) * 1000 ),
		'opcache'        => opcache_state(),
	);
	answer( 200, $answer );
} )();
