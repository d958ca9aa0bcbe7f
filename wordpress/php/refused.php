<?php
/**
 * Tells in wp-admin that a plugin wanted to change wp-config.php, and where its settings go instead.
 *
 * The file is generated, the same on every instance, and cannot be written. Plugins that try mostly say
 * so in words of their own, which lead nowhere here, or say nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

final class Refused {
	/** Where WordPress is told: hook => priority, method, arguments. */
	const HOOKS = array(
		// The last error is all that PHP keeps, so this looks right after plugins had their turn, too.
		'admin_init'    => array( PHP_INT_MAX, 'look', 0 ),
		'shutdown'      => array( PHP_INT_MAX, 'look', 0 ),
		'admin_notices' => array( 10, 'show', 0 ),
	);

	const TRANSIENT = 'flotilla_refused_configuration';

	/** Seconds for which the notice is shown. */
	const SHOWN_SECONDS = 3600;

	/**
	 * Sees whether the last thing that went wrong in wp-admin was a change of wp-config.php.
	 */
	public static function look() {
		$error = is_admin() ? error_get_last() : null;
		if ( null === $error || false === strpos( $error['message'], 'wp-config.php' )
			|| false === stripos( $error['message'], 'failed to open stream' ) ) {
			return;
		}
		set_transient( self::TRANSIENT, self::who( $error['file'] ), self::SHOWN_SECONDS );
	}

	/**
	 * Shows it to those who can do something about it.
	 */
	public static function show() {
		$who = current_user_can( 'manage_options' ) ? get_transient( self::TRANSIENT ) : false;
		if ( ! is_string( $who ) ) {
			return;
		}
		$what = '' === $who ? 'A plugin' : "The plugin \"$who\"";
		printf(
			'<div class="notice notice-warning is-dismissible"><p>%s</p></div>',
			esc_html(
				"$what tried to change wp-config.php. On this fleet that file is generated, the same on every " .
				'server, and cannot be written. Put the constants that it asks for below ' .
				'[wordpress.constants] in flotilla.toml, then run `flotilla up` and `flotilla deploy --force`; ' .
				'`flotilla config --take FILE` takes them from a wp-config.php.'
			)
		);
	}

	/**
	 * Returns the plugin that a file is a part of; empty when it is of none.
	 *
	 * @param string $file Its path.
	 * @return string
	 */
	private static function who( $file ) {
		return preg_match( '~/wp-content/(?:mu-)?plugins/([^/]+)~', $file, $parts ) ? $parts[1] : '';
	}
}
