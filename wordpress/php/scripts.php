<?php
/**
 * Lists the scripts of the site that opcache holds, hottest first, so that the agent can have the
 * other slot compile them before it serves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/opcache.php';

const LIMIT_MAX = 50000;

( static function () {
	$request = request();
	$limit   = min( LIMIT_MAX, max( 0, (int) ( $request['limit'] ?? 5000 ) ) );
	$scripts = array();
	foreach ( cached_scripts() as $path => $script ) {
		$scripts[] = array(
			'path'  => $path,
			'hits'  => $script['hits'],
			'bytes' => $script['memory_consumption'],
		);
	}
	usort(
		$scripts,
		static function ( $one, $other ) {
			return array( $other['hits'], $one['path'] ) <=> array( $one['hits'], $other['path'] );
		}
	);
	answer(
		200,
		array(
			'revision' => revision(),
			'scripts'  => array_slice( $scripts, 0, $limit ),
			'total'    => count( $scripts ),
			'opcache'  => opcache_state(),
		)
	);
} )();
