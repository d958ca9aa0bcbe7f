<?php
/**
 * Runs before every PHP script of a slot, and defines nothing the site could meet by name.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/layout.php';

if ( PHP_SAPI !== 'cli' ) {
	( static function () {
		$revision = revision();
		if ( null !== $revision ) {
			header( 'X-Flotilla-Revision: ' . $revision );
		}

		// A worker keeps resolved paths for two minutes, and it may have served another release a
		// moment ago. Forgetting them costs each page a twentieth of its time, so a worker notes for
		// which release it has done so.
		$note = '/srv/flotilla/run/seen-' . getmypid();
		if ( null !== $revision && @file_get_contents( $note, false, null, 0, 64 ) === $revision ) {
			return;
		}
		clearstatcache( true );
		if ( null === $revision ) {
			return;
		}
		@file_put_contents( $note, $revision );
		// Of workers that are gone; where one is not, it forgets its paths once more.
		foreach ( (array) glob( '/srv/flotilla/run/seen-*' ) as $old ) {
			if ( @filemtime( $old ) < time() - 86400 ) {
				@unlink( $old );
			}
		}
	} )();
}
