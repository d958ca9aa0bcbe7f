<?php
/**
 * The object cache does what WordPress' own does, within a request and from one to the next.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

require __DIR__ . '/site.php';

/** Values that come back as they went in, type and all. */
$values = array(
	'zero'          => 0,
	'number'        => 42,
	'below zero'    => -7,
	'largest'       => PHP_INT_MAX,
	'digits'        => '42',
	'many digits'   => '123456789012345678901234567890',
	'fraction'      => 1 / 3,
	'false'         => false,
	'true'          => true,
	'null'          => null,
	'empty'         => '',
	'text'          => "Grüße, \0 & more",
	'like a grave'  => "\0gone",
	'like igbinary' => "\0\0\0\2\4",
	'list'          => array( 1, 'two', array( 'three' => null ) ),
	'object'        => (object) array( 'post_title' => 'Hello', 'parts' => array( 1, 2 ) ),
);
foreach ( $values as $name => $value ) {
	request();
	same( "$name is set", true, wp_cache_set( $name, $value, 'kinds' ) );
	same( "$name, in the same request", $value, wp_cache_get( $name, 'kinds', false, $found ) );
	same( "$name is found", true, $found );
	request();
	same( "$name, in the next request", $value, wp_cache_get( $name, 'kinds', false, $found ) );
	same( "$name is found in the next request", true, $found );
	same( "$name is not added again", false, wp_cache_add( $name, 'other', 'kinds' ) );
	same( "$name is replaced", true, wp_cache_replace( $name, $value, 'kinds' ) );
	request();
	same( "$name, after it was replaced", $value, wp_cache_get( $name, 'kinds' ) );
	same( "$name is deleted", true, wp_cache_delete( $name, 'kinds' ) );
	same( "$name is deleted once", false, wp_cache_delete( $name, 'kinds' ) );
	request();
	same( "$name is gone", false, wp_cache_get( $name, 'kinds', false, $found ) );
	same( "$name is not found", false, $found );
	same( "$name is not replaced when it is gone", false, wp_cache_replace( $name, $value, 'kinds' ) );
	same( "$name is added", true, wp_cache_add( $name, $value, 'kinds' ) );
	request();
	same( "$name, after it was added", $value, wp_cache_get( $name, 'kinds' ) );
}

// What is not there.
request();
same( 'a miss', false, wp_cache_get( 'nothing', '', false, $found ) );
same( 'a miss is not found', false, $found );
same( 'nothing is deleted', false, wp_cache_delete( 'nothing' ) );
same( 'nothing is replaced', false, wp_cache_replace( 'nothing', 1 ) );
same( 'nothing is counted up', false, wp_cache_incr( 'nothing' ) );
same( 'nothing is counted down', false, wp_cache_decr( 'nothing' ) );
same( 'nothing came of it', false, wp_cache_get( 'nothing', '', true ) );

// Objects are the cache's own.
$object = (object) array( 'name' => 'first' );
wp_cache_set( 'object', $object );
$object->name = 'changed';
$copy         = wp_cache_get( 'object' );
same( 'a change outside does not reach the cache', 'first', $copy->name );
$copy->name = 'changed';
same( 'a change of what was got neither', 'first', wp_cache_get( 'object' )->name );

// Groups and keys.
wp_cache_set( 'key', 'one', 'one' );
wp_cache_set( 'key', 'two', 'two' );
wp_cache_set( 'key', 'none', '' );
request();
same( 'a group', 'one', wp_cache_get( 'key', 'one' ) );
same( 'another group', 'two', wp_cache_get( 'key', 'two' ) );
same( 'no group is the default one', 'none', wp_cache_get( 'key', 'default' ) );
$keys = array( 7, str_repeat( 'long ', 100 ), 'with blank', "with\nline", 'ümlaut', str_repeat( 'k', 250 ), 'a:b' );
foreach ( $keys as $number => $key ) {
	same( "key $number is set", true, wp_cache_set( $key, $number, 'keys: of all kinds' ) );
}
request();
foreach ( $keys as $number => $key ) {
	same( "key $number is read", $number, wp_cache_get( $key, 'keys: of all kinds' ) );
}
same( 'a number and its digits are one key', 0, wp_cache_get( '7', 'keys: of all kinds' ) );
foreach ( array( '', ' ', null, false, array() ) as $key ) {
	Wordpress::$complaints = array();
	same( 'an invalid key is not set', false, wp_cache_set( $key, 1 ) );
	same( 'an invalid key is not got', false, @wp_cache_get( is_array( $key ) ? null : $key ) );
	same( 'an invalid key is told', 2, count( Wordpress::$complaints ) );
}

// Counting.
foreach ( array( 5, '5', 'five', 5.0, array() ) as $start ) {
	$base = is_numeric( $start ) ? $start : 0;
	wp_cache_set( 'count', $start, 'counts of mine' );
	request();
	same( 'up', $base + 1, wp_cache_incr( 'count', 1, 'counts of mine' ) );
	same( 'up by more', $base + 11, wp_cache_incr( 'count', 10, 'counts of mine' ) );
	same( 'what was counted', $base + 11, wp_cache_get( 'count', 'counts of mine' ) );
	request();
	same( 'what was counted, in the next request', $base + 11, wp_cache_get( 'count', 'counts of mine' ) );
	same( 'down', $base + 9, wp_cache_decr( 'count', 2, 'counts of mine' ) );
	request();
	same( 'what was counted down', $base + 9, wp_cache_get( 'count', 'counts of mine' ) );
	same( 'not below zero', 0, (int) wp_cache_decr( 'count', 1000, 'counts of mine' ) );
	request();
	same( 'zero, in the next request', 0, (int) wp_cache_get( 'count', 'counts of mine' ) );
}
$one = request();
$two = request();
$one->set( 'hits', 0 );
for ( $time = 0; $time < 50; $time++ ) {
	$one->incr( 'hits' );
	$two->incr( 'hits' );
}
same( 'no count of two requests is lost', 100, request()->get( 'hits' ) );

// Many at once.
request();
same( 'many are set', array( 'a' => true, 'b' => true ), wp_cache_set_multiple( array( 'a' => 1, 'b' => 2 ), 'many' ) );
request();
same(
	'many are got',
	array(
		'a' => 1,
		'x' => false,
		'b' => 2,
	),
	wp_cache_get_multiple( array( 'a', 'x', 'b' ), 'many' )
);
same( 'many are added', array( 'a' => false, 'c' => true ), wp_cache_add_multiple( array( 'a' => 9, 'c' => 3 ), 'many' ) );
same( 'many are deleted', array( 'a' => true, 'y' => false ), wp_cache_delete_multiple( array( 'a', 'y' ), 'many' ) );
request();
same( 'the others stay', array( 'a' => false, 'b' => 2, 'c' => 3 ), wp_cache_get_multiple( array( 'a', 'b', 'c' ), 'many' ) );

// What is for one request only.
wp_cache_set( 'mine', 1, 'plugins' );
same( 'a group of the request', 1, wp_cache_get( 'mine', 'plugins' ) );
same( 'its values can be read anew', 1, wp_cache_get( 'mine', 'plugins', true ) );
same( 'its values are not added twice', false, wp_cache_add( 'mine', 2, 'plugins' ) );
same( 'its values are counted', 2, wp_cache_incr( 'mine', 1, 'plugins' ) );
request();
same( 'a group of the request ends with it', false, wp_cache_get( 'mine', 'plugins' ) );
wp_cache_set( 'style.css', 1, 'theme_files' );
request();
same( 'without a release, what is made from code ends with it', false, wp_cache_get( 'style.css', 'theme_files' ) );

// Suspended, flushed, forgotten.
Wordpress::$is_suspended = true;
same( 'nothing is added while that is suspended', false, wp_cache_add( 'late', 1 ) );
Wordpress::$is_suspended = false;
wp_cache_set( 'kept', 1 );
wp_cache_set( 'mine', 1, 'plugins' );
same( 'what was seen is forgotten', true, wp_cache_flush_runtime() );
same( 'the request starts over', false, wp_cache_get( 'mine', 'plugins' ) );
same( 'memcached does not', 1, wp_cache_get( 'kept' ) );
wp_cache_set( 'a', 1, 'one:group' );
wp_cache_set( 'a', 1, 'other' );
$long = request();
same( 'read before', 1, $long->get( 'a', 'one:group' ) );
request();
same( 'a group is flushed', true, wp_cache_flush_group( 'one:group' ) );
same( 'its values are gone', false, wp_cache_get( 'a', 'one:group' ) );
same( 'those of others not', 1, wp_cache_get( 'a', 'other' ) );
wp_cache_set( 'b', 2, 'one:group' );
request();
same( 'they stay gone', false, wp_cache_get( 'a', 'one:group' ) );
same( 'new ones do not', 2, wp_cache_get( 'b', 'one:group' ) );
wp_cache_flush();
same( 'a flush takes all', false, wp_cache_get( 'kept' ) );
request();
same( 'for everybody', array( 'a' => false ), wp_cache_get_multiple( array( 'a' ), 'other' ) );
foreach ( array( 'add_multiple', 'set_multiple', 'get_multiple', 'delete_multiple', 'flush_runtime', 'flush_group' ) as $feature ) {
	same( "$feature is supported", true, wp_cache_supports( $feature ) );
}
same( 'what nobody knows is not', false, wp_cache_supports( 'flush_moon' ) );

// What cannot be kept is no error.
request();
wp_cache_set( 'big', 'small' );
same( 'what is too large is set', true, wp_cache_set( 'big', str_repeat( 'x', 3000000 ) ) );
same( 'it is there in this request', 3000000, strlen( wp_cache_get( 'big' ) ) );
same( 'so is a closure', true, wp_cache_set( 'closure', static function () {} ) );
request();
same( 'the smaller one is not', false, wp_cache_get( 'big' ) );
same( 'and it is added', true, wp_cache_add( 'big', str_repeat( 'x', 3000000 ) ) );
wp_cache_set( 'short', 1, '', -1 );
wp_cache_set( 'long', 1, '', 400 * 86400 );
request();
same( 'what has expired is not', false, wp_cache_get( 'short' ) );
same( 'what lives for longer than a year is', 1, wp_cache_get( 'long' ) );

// A network of sites.
Wordpress::$is_network = true;
request();
wp_cache_set( 'key', 'first' );
wp_cache_set( 'key', 'all', 'users' );
wp_cache_switch_to_blog( 2 );
same( 'another site has its own', false, wp_cache_get( 'key' ) );
same( 'but for what all share', 'all', wp_cache_get( 'key', 'users' ) );
wp_cache_set( 'key', 'second' );
request();
same( 'the first one keeps it', 'first', wp_cache_get( 'key' ) );
wp_cache_switch_to_blog( 2 );
same( 'the second too', 'second', wp_cache_get( 'key' ) );
Wordpress::$is_network = false;

finish();
