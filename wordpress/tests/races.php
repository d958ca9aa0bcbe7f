<?php
/**
 * Options of several instances that are read and written at once, in every order that a seed brings.
 *
 * The requests do what WordPress' functions for options do, step by step; between any two steps
 * another request may go on. When all have ended, everybody must be told what the database holds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

require __DIR__ . '/site.php';

/** The table of options: name => row. */
final class Database {
	public static $rows = array();
}

/** Tells whether WordPress reads an option with all others. */
function is_autoloaded( $row ) {
	return 0 === ord( substr( $row['name'], -1 ) ) % 2 || 'home' === $row['name'];
}

function write_row( $option, $value ) {
	Database::$rows[ $option ] = array(
		'name'  => $option,
		'value' => $value,
	);
}

/** Lets another request go on. */
function pause() {
	Fiber::suspend();
}

/** A step of a request; others may go on before it. */
function step( callable $work ) {
	pause();
	return $work();
}

function read_row( $option ) {
	return step(
		static function () use ( $option ) {
			return Database::$rows[ $option ] ?? null;
		}
	);
}

function cached( $key, $is_fresh = false ) {
	return step(
		static function () use ( $key, $is_fresh ) {
			return wp_cache_get( $key, 'options', $is_fresh );
		}
	);
}

function cache( $key, $value ) {
	step(
		static function () use ( $key, $value ) {
			wp_cache_set( $key, $value, 'options' );
		}
	);
}

function load_all( $is_fresh = false ) {
	$all = cached( 'alloptions', $is_fresh );
	if ( ! $all ) {
		$all = step(
			static function () {
				return array_column( array_filter( Database::$rows, 'is_autoloaded' ), 'value', 'name' );
			}
		);
		step(
			static function () use ( $all ) {
				wp_cache_add( 'alloptions', $all, 'options' );
			}
		);
	}
	return $all;
}

function get_value( $option ) {
	$all = load_all();
	if ( isset( $all[ $option ] ) ) {
		return $all[ $option ];
	}
	$absent = cached( 'notoptions' );
	if ( ! is_array( $absent ) ) {
		$absent = array();
		cache( 'notoptions', $absent );
	}
	if ( isset( $absent[ $option ] ) ) {
		return false;
	}
	$value = cached( $option );
	if ( false === $value ) {
		$row = read_row( $option );
		if ( null === $row ) {
			$absent[ $option ] = true;
			cache( 'notoptions', $absent );
			return false;
		}
		$value = $row['value'];
		step(
			static function () use ( $option, $value ) {
				wp_cache_add( $option, $value, 'options' );
			}
		);
	}
	return $value;
}

function exists( $option ) {
	$absent = cached( 'notoptions' );
	if ( is_array( $absent ) && isset( $absent[ $option ] ) ) {
		unset( $absent[ $option ] );
		cache( 'notoptions', $absent );
	}
}

function update_value( $option, $value ) {
	$old = get_value( $option );
	if ( $old === $value ) {
		return;
	}
	if ( false === $old ) {
		add_value( $option, $value );
		return;
	}
	$is_changed = step(
		static function () use ( $option, $value ) {
			if ( ! isset( Database::$rows[ $option ] ) || Database::$rows[ $option ]['value'] === $value ) {
				return false;
			}
			write_row( $option, $value );
			return true;
		}
	);
	if ( ! $is_changed ) {
		return;
	}
	exists( $option );
	$all = load_all( true );
	if ( isset( $all[ $option ] ) ) {
		$all[ $option ] = $value;
		cache( 'alloptions', $all );
	} else {
		cache( $option, $value );
	}
}

function add_value( $option, $value ) {
	$absent = cached( 'notoptions' );
	if ( ( ! is_array( $absent ) || ! isset( $absent[ $option ] ) ) && false !== get_value( $option ) ) {
		return;
	}
	step(
		static function () use ( $option, $value ) {
			write_row( $option, $value );
		}
	);
	if ( is_autoloaded( array( 'name' => $option ) ) ) {
		$all            = load_all( true );
		$all[ $option ] = $value;
		cache( 'alloptions', $all );
	} else {
		cache( $option, $value );
	}
	exists( $option );
}

function delete_value( $option ) {
	$row = read_row( $option );
	if ( null === $row ) {
		return;
	}
	step(
		static function () use ( $option ) {
			unset( Database::$rows[ $option ] );
		}
	);
	if ( is_autoloaded( $row ) ) {
		$all = load_all( true );
		if ( isset( $all[ $option ] ) ) {
			unset( $all[ $option ] );
			cache( 'alloptions', $all );
		}
	} else {
		step(
			static function () use ( $option ) {
				wp_cache_delete( $option, 'options' );
			}
		);
	}
	$absent = cached( 'notoptions' );
	$absent = is_array( $absent ) ? $absent : array();

	$absent[ $option ] = true;
	cache( 'notoptions', $absent );
	step(
		static function () use ( $option ) {
			$GLOBALS['wp_object_cache']->option_was_deleted( $option );
		}
	);
}

/** What one request does: a few things to a few options. */
function work( $number ) {
	for ( $count = mt_rand( 1, 4 ); $count > 0; $count-- ) {
		$option = 'option_' . mt_rand( 1, 4 );
		switch ( mt_rand( 1, 8 ) ) {
			case 1:
				delete_value( $option );
				break;
			case 2:
			case 3:
				get_value( $option );
				break;
			case 4:
				step( 'wp_cache_flush' );
				break;
			case 5:
				add_value( $option, "added by $number" );
				break;
			default:
				update_value( $option, "$count of $number" );
		}
	}
	step( 'wp_cache_close' );
}

/** Lets requests run in the order of a seed; returns what somebody is told wrongly afterwards. */
function run( $seed ) {
	mt_srand( $seed );
	request();
	wp_cache_flush();
	Database::$rows = array();
	foreach ( array( 'home', 'option_1', 'option_2' ) as $option ) {
		write_row( $option, 'first' );
	}
	$requests = array();
	for ( $number = 1; $number <= 5; $number++ ) {
		$requests[ $number ] = array( request(), new Fiber( 'work' ) );
	}
	while ( $requests ) {
		$number                     = array_rand( $requests );
		list( $cache, $fiber )      = $requests[ $number ];
		$GLOBALS['wp_object_cache'] = $cache;
		$fiber->isStarted() ? $fiber->resume() : $fiber->start( $number );
		if ( $fiber->isTerminated() ) {
			unset( $requests[ $number ] );
		}
	}
	request();
	$wrong = array();
	$last  = new Fiber(
		static function () use ( &$wrong ) {
			for ( $number = 1; $number <= 4; $number++ ) {
				$told = get_value( "option_$number" );
				$held = Database::$rows[ "option_$number" ]['value'] ?? false;
				if ( $told !== $held ) {
					$wrong[ "option_$number" ] = array( $told, $held );
				}
			}
		}
	);
	$last->start();
	while ( ! $last->isTerminated() ) {
		$last->resume();
	}
	return $wrong;
}

$first = (int) ( $argv[2] ?? random_int( 1, 1000000000 ) );
for ( $seed = $first; $seed < $first + (int) ( $argv[3] ?? 300 ); $seed++ ) {
	same( "what the options are told to be, against what they are, with the seed $seed", array(), run( $seed ) );
	if ( Wordpress::$failed > 5 ) {
		break;
	}
}
finish();
