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
	} )();
}
