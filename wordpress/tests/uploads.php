<?php
/**
 * A name of an upload is given once, whoever asks for it at the same time, and freed when the upload
 * fails.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

const DAY_IN_SECONDS = 86400;

require __DIR__ . '/../php/uploads.php';

use Flotilla\Uploads;

$base   = $argv[1] . '/uploads';
$failed = 0;

function wp_get_upload_dir() {
	return array(
		'basedir' => $GLOBALS['base'],
		'path'    => $GLOBALS['base'] . '/2001/02',
	);
}

function wp_check_filetype( $name ) {
	return array( 'type' => '.jpg' === substr( $name, -4 ) ? 'image/jpeg' : false );
}

/** As WordPress finds sizes of an image that has the name already. */
function _wp_check_existing_file_names( $filename, $files ) {
	$stem = preg_quote( pathinfo( $filename, PATHINFO_FILENAME ), '/' );
	return (bool) preg_grep( "/^$stem-(?:\d+x\d+|scaled|rotated)\./", $files );
}

function same( $promise, $expected, $actual ) {
	if ( $expected !== $actual ) {
		++$GLOBALS['failed'];
		printf( "%s: expected %s, but it is %s\n", $promise, json_encode( $expected ), json_encode( $actual ) );
	}
}

function ask( $name, $dir = null, $alternate = array() ) {
	$end = '.' . pathinfo( $name, PATHINFO_EXTENSION );
	return Uploads::reserve( $name, $end, $dir ?? $GLOBALS['base'], null, $alternate );
}

mkdir( $base );
same( 'an upload goes on', 'file', Uploads::make_directory( 'file' ) );
same( 'its directory is there', true, is_dir( "$base/2001/02" ) );
same( 'a free name', 'photo.jpg', ask( 'photo.jpg' ) );
same( 'it is taken', 0, filesize( "$base/photo.jpg" ) );
same( 'the next one', 'photo-1.jpg', ask( 'photo.jpg' ) );
same( 'one that WordPress has counted up', 'photo-2.jpg', ask( 'photo-1.jpg' ) );
touch( "$base/photo-3-300x200.jpg" );
same( 'none whose sizes are there', 'photo-4.jpg', ask( 'photo.jpg' ) );
same( 'one without an end', 'README', Uploads::reserve( 'README', '', $base ) );
same( 'and the next', 'README-1', Uploads::reserve( 'README', '', $base ) );
same( 'others than uploads are not touched', 'photo.jpg', ask( 'photo.jpg', $argv[1] ) );
same( 'nor temporary files', 'x.tmp', ask( 'x.tmp' ) );
same( 'they are not made', array( false, false ), array( is_file( "$argv[1]/photo.jpg" ), is_file( "$base/x.tmp" ) ) );
same( 'where nothing can be made, WordPress goes on', 'a.jpg', ask( 'a.jpg', "$base/missing" ) );
same( 'what is made of it has its name too', 'new.heic', ask( 'new.heic', null, array( '.jpg' => 'new.jpg' ) ) );
same( 'so that is taken', 'new-1.jpg', ask( 'new.jpg' ) );
same( 'and the other way round', 'new-2.heic', ask( 'new-1.heic', null, array( '.jpg' => 'new-1.jpg' ) ) );

// An upload that failed leaves nothing; one that did not stays, also an empty one.
file_put_contents( "$base/photo.jpg", 'image' );
Uploads::keep( array( 'file' => "$base/photo-1.jpg" ) );
Uploads::release();
same( 'what was written stays', 'image', file_get_contents( "$base/photo.jpg" ) );
same( 'what was uploaded empty stays', true, is_file( "$base/photo-1.jpg" ) );
same( 'what was never written is free again', 'photo-2.jpg', ask( 'photo-2.jpg' ) );
Uploads::release();

// What was killed is swept away, but nothing else.
foreach ( array( 'killed.jpg', 'lock.file', 'young.jpg', 'full.jpg' ) as $name ) {
	file_put_contents( "$base/$name", 'full.jpg' === $name ? 'image' : '' );
	touch( "$base/$name", time() - ( 'young.jpg' === $name ? 60 : 7200 ) );
}
clearstatcache();
Uploads::sweep();
foreach ( array( 'killed.jpg' => false, 'lock.file' => true, 'young.jpg' => true, 'full.jpg' => true ) as $name => $stays ) {
	same( "$name after a sweep", $stays, is_file( "$base/$name" ) );
}

// Many processes that ask at once.
$asking = array();
for ( $number = 0; $number < 24; $number++ ) {
	$asking[] = proc_open( array( PHP_BINARY, __DIR__ . '/upload.php', $base ), array( 1 => array( 'pipe', 'w' ) ), $pipes );
	$names[]  = $pipes[1];
}
$names = array_map( 'stream_get_contents', $names );
array_map( 'proc_close', $asking );
same( 'each gets another name', 24, count( array_unique( $names ) ) );
foreach ( $names as $name ) {
	same( "$name is its own", $name, file_get_contents( "$base/$name" ) );
}
exit( $failed > 0 ? 1 : 0 );
