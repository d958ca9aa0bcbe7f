<?php
/**
 * One of many that ask for the same name at once; writes the name into the file and prints it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

require __DIR__ . '/../php/uploads.php';

function wp_get_upload_dir() {
	return array( 'basedir' => $GLOBALS['argv'][1] );
}

function _wp_check_existing_file_names() {
	return false;
}

$name = Flotilla\Uploads::reserve( 'same.jpg', '.jpg', $argv[1] );
file_put_contents( "$argv[1]/$name", $name );
echo $name;
