<?php
/**
 * Answers the revision of the slot, and that nginx and php-fpm work; without WordPress or database.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/layout.php';

header( 'Content-Type: text/plain; charset=utf-8' );
header( 'Cache-Control: no-store' );

$revision = revision();
if ( null === $revision ) {
	http_response_code( 503 );
	echo "no revision\n";
	return;
}
header( 'X-Flotilla-Revision: ' . $revision );
echo $revision, "\n";
