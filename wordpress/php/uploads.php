<?php
/**
 * Names of uploads, each given to one upload only, on whichever instance it arrives.
 *
 * WordPress looks for a free name and writes the file later, so of two uploads of the same name that
 * arrive together one overwrites the other. Here the name is taken by making the file, which succeeds
 * for one of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

final class Uploads {
	/**
	 * Where WordPress is told: hook => priority, method, arguments. Names are taken last, when all
	 * others have had their say.
	 */
	const HOOKS = array(
		'wp_handle_upload_prefilter'   => array( PHP_INT_MAX, 'make_directory', 1 ),
		'wp_handle_sideload_prefilter' => array( PHP_INT_MAX, 'make_directory', 1 ),
		'wp_unique_filename'           => array( PHP_INT_MAX, 'reserve', 5 ),
		'wp_handle_upload'             => array( PHP_INT_MAX, 'keep', 1 ),
		'wp_scheduled_delete'          => array( 10, 'sweep', 0 ),
	);

	/** How many names are tried one after the other before one is drawn by lot. */
	const TRIES = 200;

	/** Seconds after which an empty file is one that was never uploaded. */
	const ABANDONED_SECONDS = 3600;

	/** Files that are looked at in one sweep. */
	const SWEPT_MAX = 20000;

	/**
	 * Files that this request has made to take their names.
	 *
	 * @var array<string, true>
	 */
	private static $reserved = array();

	/**
	 * Makes the directory of the month. WordPress refuses an upload when another one makes it at
	 * the same moment.
	 *
	 * @param mixed $file What is uploaded.
	 * @return mixed The same.
	 */
	public static function make_directory( $file ) {
		$path = wp_get_upload_dir()['path'];
		if ( ! is_dir( $path ) ) {
			@mkdir( $path, 0777, true );
			clearstatcache( true, $path );
		}
		return $file;
	}

	/**
	 * Takes the name that WordPress has found, or the next one that is free.
	 *
	 * @param string        $filename  The name.
	 * @param string        $ext       Its end, with the dot.
	 * @param string        $dir       The directory.
	 * @param callable|null $callback  Who has found it, when not WordPress.
	 * @param string[]      $alternate Names that files made from this one can get.
	 * @return string
	 */
	public static function reserve( $filename, $ext, $dir, $callback = null, $alternate = array() ) {
		// WordPress takes the names of its temporary files itself.
		if ( ! is_string( $filename ) || '.tmp' === $ext || ! self::is_ours( $dir ) ) {
			return $filename;
		}
		$end  = '' === pathinfo( $filename, PATHINFO_EXTENSION ) ? '' : '.' . pathinfo( $filename, PATHINFO_EXTENSION );
		$stem = '' === $end ? $filename : substr( $filename, 0, -strlen( $end ) );
		$name = $filename;
		// Of these only the end differs.
		$ends = array_diff( array_map( array( self::class, 'end_of' ), (array) $alternate ), array( $end, '' ) );
		if ( preg_match( '/^(.*)-(\d+)$/D', $stem, $parts ) ) {
			$stem   = $parts[1];
			$number = (int) $parts[2];
		} else {
			$number = 0;
		}
		for ( $try = 0; $try < self::TRIES; $try++ ) {
			if ( 0 === $try || ! self::has_sizes( $dir, $name ) ) {
				$is_taken = self::take( $dir, $name, $ends );
				if ( false !== $is_taken ) {
					// When no file can be made here, WordPress shall say so as it writes.
					return $name;
				}
			}
			++$number;
			$name = "$stem-$number$end";
		}
		$name = $stem . '-' . bin2hex( random_bytes( 8 ) ) . $end;
		self::take( $dir, $name, array() );
		return $name;
	}

	/**
	 * Keeps a file that was uploaded, even an empty one.
	 *
	 * @param array $upload What WordPress says of it.
	 * @return array
	 */
	public static function keep( $upload ) {
		if ( is_array( $upload ) && isset( $upload['file'] ) ) {
			unset( self::$reserved[ $upload['file'] ] );
		}
		return $upload;
	}

	/**
	 * Removes the files of this request that are still empty: what failed before it was written.
	 */
	public static function release() {
		foreach ( array_keys( self::$reserved ) as $path ) {
			clearstatcache( true, $path );
			if ( 0 === @filesize( $path ) ) {
				@unlink( $path );
			}
		}
		self::$reserved = array();
	}

	/**
	 * Removes the empty files that requests have left which were killed. WordPress calls it daily.
	 */
	public static function sweep() {
		$left = self::SWEPT_MAX;
		$base = wp_get_upload_dir()['basedir'];
		// Uploads go into the directory of their month.
		foreach ( array( '', gmdate( '/Y/m' ), gmdate( '/Y/m', time() - 30 * DAY_IN_SECONDS ) ) as $month ) {
			$directory = @opendir( $base . $month );
			while ( $directory && $left > 0 && false !== ( $name = readdir( $directory ) ) ) {
				--$left;
				$path = "$base$month/$name";
				// Only a file of a kind that is uploaded: a plugin may want an empty one of its own.
				if ( wp_check_filetype( $name )['type'] && is_file( $path ) && 0 === filesize( $path )
					&& filemtime( $path ) < time() - self::ABANDONED_SECONDS ) {
					@unlink( $path );
				}
			}
			if ( $directory ) {
				closedir( $directory );
			}
		}
	}

	/**
	 * Makes a file that is not there, with those that have another end.
	 *
	 * @param string   $dir  The directory.
	 * @param string   $name The name.
	 * @param string[] $ends Other ends.
	 * @return bool|null False: somebody has it. Null: no file can be made.
	 */
	private static function take( $dir, $name, array $ends ) {
		$path = rtrim( $dir, '/' ) . '/' . $name;
		$file = @fopen( $path, 'x' );
		if ( false === $file ) {
			clearstatcache( true, $path );
			return file_exists( $path ) ? false : null;
		}
		fclose( $file );
		self::remember( $path );
		$stem = substr( $path, 0, strlen( $path ) - strlen( self::end_of( $name ) ) );
		foreach ( $ends as $end ) {
			$other = @fopen( $stem . $end, 'x' );
			if ( false === $other ) {
				@unlink( $path );
				unset( self::$reserved[ $path ] );
				return false;
			}
			fclose( $other );
			self::remember( $stem . $end );
		}
		return true;
	}

	/**
	 * Remembers a file that was made.
	 *
	 * @param string $path The file.
	 */
	private static function remember( $path ) {
		static $is_registered = false;
		if ( ! $is_registered ) {
			register_shutdown_function( array( self::class, 'release' ) );
			$is_registered = true;
		}
		self::$reserved[ $path ] = true;
	}

	/**
	 * Tells whether there are files that could be smaller sizes of an image of this name.
	 *
	 * @param string $dir  The directory.
	 * @param string $name The name.
	 * @return bool
	 */
	private static function has_sizes( $dir, $name ) {
		$files = @scandir( $dir );
		return $files && _wp_check_existing_file_names( $name, array_diff( $files, array( '.', '..' ) ) );
	}

	/**
	 * Tells whether a directory is one of uploads.
	 *
	 * @param string $dir The directory.
	 * @return bool
	 */
	private static function is_ours( $dir ) {
		$uploads = wp_get_upload_dir();
		return is_string( $dir ) && isset( $uploads['basedir'] )
			&& 0 === strpos( rtrim( $dir, '/' ) . '/', rtrim( $uploads['basedir'], '/' ) . '/' );
	}

	/**
	 * Returns the end of a name, with the dot.
	 *
	 * @param string $name The name.
	 * @return string
	 */
	private static function end_of( $name ) {
		$end = pathinfo( $name, PATHINFO_EXTENSION );
		return '' === $end ? '' : '.' . $end;
	}
}
