<?php
/**
 * The trouble of one memcached, in a file that all workers of a slot share: until when it is left
 * alone, and which values could not be changed in it.
 *
 * There is no file when all is well, so that a request pays one look at a missing file. The file's
 * time is when the node may be tried again; each of its lines names a value to be removed then. The
 * file is in the slot's own /tmp: an instance that is lost takes it along, which the lifetime of
 * values bounds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

final class Trouble {
	/** Seconds for which a node that failed is left alone by all workers but the one that tries it. */
	const RETRY_SECONDS = 2;

	/** More names than fit are not kept: everything in the node is forgotten instead. */
	const BYTES_MAX = 65536;

	/** The line that says so. */
	const EVERYTHING = '*';

	const LOCK_TRIES       = 50;
	const LOCK_WAIT_MICROS = 2000;

	/**
	 * The file.
	 *
	 * @var string
	 */
	private $path;

	/**
	 * Names that this process has written already.
	 *
	 * @var array<string, true>
	 */
	private $written = array();

	/**
	 * Whether end() holds the file: what fails then stands in it already.
	 *
	 * @var bool
	 */
	private $is_ending = false;

	/**
	 * Names the file; nothing is touched.
	 *
	 * @param string $node Address and use of the node.
	 */
	public function __construct( $node ) {
		$this->path = sys_get_temp_dir() . '/flotilla-cache-' . substr( hash( 'sha256', $node ), 0, 16 );
	}

	/**
	 * Tells whether there is any.
	 *
	 * @return bool
	 */
	public function is_there() {
		clearstatcache( true, $this->path );
		return is_file( $this->path );
	}

	/**
	 * Tells whether the node may be tried now; only one of those who ask at once is told so.
	 *
	 * @return bool
	 */
	public function may_try() {
		clearstatcache( true, $this->path );
		$until = @filemtime( $this->path );
		if ( false === $until ) {
			return true;
		}
		// A clock that was set back must not keep the node away.
		if ( $until > time() && $until <= time() + self::RETRY_SECONDS ) {
			return false;
		}
		@touch( $this->path, time() + self::RETRY_SECONDS );
		return true;
	}

	/**
	 * Says that the node has failed.
	 */
	public function begin() {
		@touch( $this->path, time() + self::RETRY_SECONDS );
	}

	/**
	 * Remembers that a value in the node is out of date.
	 *
	 * @param string $name The value, or EVERYTHING.
	 */
	public function lose( $name ) {
		if ( $this->is_ending || isset( $this->written[ $name ] ) || isset( $this->written[ self::EVERYTHING ] ) ) {
			return;
		}
		$file = $this->lock();
		if ( null === $file ) {
			return;
		}
		$before = fstat( $file );
		if ( $before['size'] + strlen( $name ) > self::BYTES_MAX ) {
			$name = self::EVERYTHING;
		}
		fseek( $file, 0, SEEK_END );
		if ( strlen( $name ) + 1 === @fwrite( $file, $name . "\n" ) ) {
			$this->written[ $name ] = true;
		}
		fclose( $file );
		// Writing has set the time to now, and must not keep the node away for longer.
		@touch( $this->path, $before['mtime'] );
	}

	/**
	 * Ends the trouble, if what was lost can be removed.
	 *
	 * @param callable $remove Takes the names, or null for everything; returns whether it is done.
	 */
	public function end( callable $remove ) {
		$file = $this->lock();
		if ( null === $file ) {
			return;
		}
		$names = array_filter( explode( "\n", (string) stream_get_contents( $file, 2 * self::BYTES_MAX, 0 ) ) );
		$names = array_unique( $names );
		$this->is_ending = true;
		$is_removed      = $remove( in_array( self::EVERYTHING, $names, true ) ? null : $names );
		$this->is_ending = false;
		if ( $is_removed ) {
			@unlink( $this->path );
			$this->written = array();
		}
		fclose( $file );
	}

	/**
	 * Opens the file for this process alone.
	 *
	 * @return resource|null Null when that cannot be had within a tenth of a second.
	 */
	private function lock() {
		for ( $try = 0; $try < self::LOCK_TRIES; $try++ ) {
			$file = @fopen( $this->path, 'c+' );
			if ( false === $file ) {
				return null;
			}
			if ( flock( $file, LOCK_EX | LOCK_NB ) ) {
				clearstatcache( true, $this->path );
				// Whoever had it before may have removed it.
				if ( fstat( $file )['ino'] === @fileinode( $this->path ) ) {
					return $file;
				}
			}
			fclose( $file );
			usleep( self::LOCK_WAIT_MICROS );
		}
		return null;
	}
}
