<?php
/**
 * Empties the directories that a slot has for itself, before it serves another release: what is
 * cached of one release must not be shown by the next.
 *
 * The agent calls it over FastCGI while nobody is served from the slot.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/opcache.php';

const SCRATCH = '/srv/flotilla/scratch';

( static function () {
	$removed = 0;
	$failed  = 0;
	foreach ( glob( SCRATCH . '/*', GLOB_ONLYDIR ) as $place ) {
		$found = new \RecursiveIteratorIterator(
			new \RecursiveDirectoryIterator( $place, \FilesystemIterator::SKIP_DOTS ),
			\RecursiveIteratorIterator::CHILD_FIRST
		);
		foreach ( $found as $path => $entry ) {
			// A link is removed, never what it leads to.
			$is_directory = $entry->isDir() && ! $entry->isLink();
			if ( $is_directory ? @rmdir( $path ) : @unlink( $path ) ) {
				++$removed;
			} else {
				++$failed;
			}
		}
	}
	answer(
		$failed > 0 ? 500 : 200,
		array(
			'removed' => $removed,
			'failed'  => $failed,
		)
	);
} )();
