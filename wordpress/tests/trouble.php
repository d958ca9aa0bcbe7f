<?php
/**
 * A memcached that is stopped, killed, emptied or flushed costs no error and no old value.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

require __DIR__ . '/site.php';

Flotilla\Cache\Node::$answer_millis = 500;

/** Returns the files that tell workers of the same slot of trouble. */
function told() {
	return glob( sys_get_temp_dir() . '/flotilla-cache-*' );
}

/** Lets the time pass for which memcached is left alone. */
function wait_is_over() {
	foreach ( told() as $file ) {
		touch( $file, time() - 1 );
	}
}

/** Begins requests until one reaches memcached again. */
function until_back() {
	until(
		'memcached is used again',
		static function () {
			wait_is_over();
			request();
			wp_cache_set( 'probe', microtime( true ) );
			$probe = wp_cache_get( 'probe' );
			request();
			return wp_cache_get( 'probe' ) === $probe && ! told();
		}
	);
}

/** What a page may do, none of which may fail. */
function page( $text ) {
	request();
	same( 'a page reads', false, wp_cache_get( 'page', 'pages' ) );
	same( 'a page adds', true, wp_cache_add( 'page', $text, 'pages' ) );
	same( 'a page adds once', false, wp_cache_add( 'page', $text, 'pages' ) );
	same( 'a page has what it added', $text, wp_cache_get( 'page', 'pages' ) );
	same( 'a page has it fresh', true, in_array( wp_cache_get( 'page', 'pages', true ), array( $text, false ), true ) );
	same( 'a page sets', true, wp_cache_set( 'hits', 1, 'pages' ) );
	same( 'a page counts', 2, wp_cache_incr( 'hits', 1, 'pages' ) );
	same( 'a page replaces', true, wp_cache_replace( 'hits', 5, 'pages' ) );
	same( 'a page deletes', true, wp_cache_delete( 'hits', 'pages' ) );
	same( 'a page reads many', array( 'x' => false ), wp_cache_get_multiple( array( 'x' ), 'pages' ) );
	if ( false === wp_cache_get( 'alloptions', 'options' ) ) {
		same( 'a page fills options', true, wp_cache_add( 'alloptions', array( 'a' => '0' ), 'options' ) );
		same( 'a page has the options it filled', array( 'a' => '0' ), wp_cache_get( 'alloptions', 'options' ) );
	}
	same( 'a page writes options', true, wp_cache_set( 'alloptions', array( 'a' => '1' ), 'options' ) );
	same( 'a page reads options', array( 'a' => '1' ), wp_cache_get( 'alloptions', 'options' ) );
	same( 'a page ends', true, wp_cache_close() );
}

// What could not be changed while memcached hung is not there when it goes on.
request();
wp_cache_set( 'changed', 'old' );
wp_cache_set( 'deleted', 'old' );
wp_cache_set( 'kept', 'old' );
$memory->signal( SIGSTOP );
page( 'while it hangs' );
same( 'others are told', 1, count( told() ) );
request();
wp_cache_set( 'changed', 'new' );
wp_cache_delete( 'deleted' );
same( 'the request has its own', 'new', wp_cache_get( 'changed' ) );
$memory->signal( SIGCONT );
until_back();
request();
same( 'the old value is not', false, wp_cache_get( 'changed' ) );
same( 'nor what was deleted', false, wp_cache_get( 'deleted' ) );
same( 'what nobody changed is', 'old', wp_cache_get( 'kept' ) );

// What many requests could not change is too much to name: then all is forgotten.
$memory->signal( SIGSTOP );
for ( $number = 0; $number < 1200; $number++ ) {
	wp_cache_set( $number . str_repeat( 'x', 80 ), 1 );
}
$memory->signal( SIGCONT );
until_back();
request();
same( 'all is forgotten', false, wp_cache_get( 'kept' ) );

// So it is when the flush itself was lost.
wp_cache_set( 'kept', 'old' );
$memory->signal( SIGSTOP );
request();
wp_cache_flush();
$memory->signal( SIGCONT );
until_back();
request();
same( 'what was flushed is gone', false, wp_cache_get( 'kept' ) );

// Killed, it is missed for as long as it is away; it comes back empty.
wp_cache_set( 'kept', 'old' );
$long = request();
$long->get( 'something else' );
$memory->kill();
page( 'while it is dead' );
page( 'in the next request' );
$memory->start();
until_back();
page( 'after it came back' );
$GLOBALS['wp_object_cache'] = $long;
until(
	'a process that runs for long uses it again',
	static function () use ( $long ) {
		$long->set( 'of the long one', 1 );
		request();
		return 1 === wp_cache_get( 'of the long one' );
	}
);

// Restarted between two requests, it is noticed by nobody.
request();
wp_cache_set( 'kept', 'old' );
$memory->kill();
$memory->start();
page( 'after a restart' );
same( 'nobody was told', array(), told() );

// Whoever changed a value just before another one's flush was seen, changes it after that too.
$one = request();
$two = request();
$one->set( 'post', 'old' );
$two->get( 'post' );
$one->flush();
$one->set( 'post', 'read from the database before the change' );
$two->set( 'post', 'new' );
$two->close();
same( 'the old value is gone', false, request()->get( 'post' ) );

// A slow reader does not put back what was deleted meanwhile.
$slow = request();
same( 'it is not there', false, $slow->get( 'post' ) );
$writer = request();
$writer->delete( 'post' );
same( 'the slow one is refused', false, $slow->add( 'post', 'old' ) );
same( 'nobody is served it', false, request()->get( 'post' ) );
$quick = request();
same( 'whoever saw the deletion', false, $quick->get( 'post' ) );
same( 'may add what is there now', true, $quick->add( 'post', 'new' ) );
same( 'which all are served', 'new', request()->get( 'post' ) );
request()->delete( 'lock' );
same( 'a lock that was freed is taken', true, request()->add( 'lock', 1 ) );
same( 'once', false, request()->add( 'lock', 1 ) );

// Two nodes: what is in the one goes on while the other hangs.
$other = new Memory( 'two' );
$nodes = array( $memory->socket, $other->socket );
$both  = new WP_Object_Cache( 'pair', $nodes );
for ( $number = 0; $number < 100; $number++ ) {
	$both->set( "key-$number", $number );
}
$read = static function () use ( $nodes ) {
	$cache = new WP_Object_Cache( 'pair', $nodes );
	return array_filter( $cache->get_multiple( array_map( static fn( $number ) => "key-$number", range( 0, 99 ) ) ), 'is_int' );
};
same( 'all is there', 100, count( $read() ) );
$other->signal( SIGSTOP );
$left = count( $read() );
same( 'about half is there', true, $left > 25 && $left < 75 );
$other->signal( SIGCONT );
until(
	'all is there again',
	static function () use ( $read ) {
		wait_is_over();
		return 100 === count( $read() );
	}
);

// Another site of the same memcached is another one.
$mine   = new WP_Object_Cache( 'mine', array( $memory->socket ) );
$theirs = new WP_Object_Cache( 'theirs', array( $memory->socket ) );
$mine->set( 'key', 'mine' );
$theirs->set( 'key', 'theirs' );
$mine->flush();
$theirs->flush_runtime();
same( 'they have their own values and flushes', 'theirs', $theirs->get( 'key' ) );

// The alloptions of two who write at once.
request()->flush();
$one = request();
$two = request();
foreach ( array( $one, $two ) as $cache ) {
	$cache->get( 'alloptions', 'options' );
}
$one->add( 'alloptions', array( 'a' => 'old', 'b' => 'old' ), 'options' );
same( 'the second cannot add', false, $two->add( 'alloptions', array( 'a' => 'older' ), 'options' ) );
same( 'it has those of the first', array( 'a' => 'old', 'b' => 'old' ), $two->get( 'alloptions', 'options' ) );
$one->set( 'alloptions', array( 'a' => 'new', 'b' => 'old' ), 'options' );
$two->set( 'alloptions', array( 'a' => 'old', 'b' => 'new' ), 'options' );
same( 'neither wins', false, request()->get( 'alloptions', 'options' ) );

finish();
