<?php
/**
 * The paths that are the same in every slot, and the mark of the slot's revision.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

const SITE      = '/srv/flotilla/site';
const WP_CONFIG = '/srv/flotilla/wp-config.php';
const MARK      = '/srv/flotilla/run/revision';

/**
 * Reads the revision that the agent has marked the slot with.
 *
 * The mark is away while the slot is changed.
 *
 * @return string|null 40 hexadecimal digits.
 */
function revision() {
	$mark = @file_get_contents( MARK, false, null, 0, 64 );
	if ( ! is_string( $mark ) ) {
		return null;
	}
	$mark = trim( $mark );
	return preg_match( '/^[0-9a-f]{40}$/', $mark ) ? $mark : null;
}
