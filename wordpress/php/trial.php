<?php
/**
 * Tries a page with the plugins or the theme that somebody is about to switch on, before they are.
 *
 * What is switched on is in the database, so all instances have it at once, without a deploy that could
 * be refused. WordPress itself only sees whether a plugin can be loaded, not whether a page can be made.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

final class Trial {
	/** Where WordPress is told in the workshop: hook => priority, method, arguments. */
	const HOOKS = array(
		'pre_update_option_active_plugins' => array( PHP_INT_MAX, 'before_plugins', 2 ),
		'pre_update_option_stylesheet'     => array( PHP_INT_MAX, 'before_theme', 2 ),
		'pre_option_active_plugins'        => array( PHP_INT_MAX - 1, 'plugins', 1 ),
		'pre_option_stylesheet'            => array( PHP_INT_MAX - 1, 'stylesheet', 1 ),
		'pre_option_template'              => array( PHP_INT_MAX - 1, 'template', 1 ),
	);

	/** The parameter that names a trial. */
	const PARAMETER = 'flotilla_trial';

	/** Seconds that a page may take. */
	const LIMIT = 20;

	/** Kinds of error that end a script. */
	const FATAL = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;

	/**
	 * What is tried in this request; null when it is not known yet.
	 *
	 * @var array|null
	 */
	private static $tried = null;

	/**
	 * Tries plugins that are about to be switched on.
	 *
	 * @param mixed $value What shall be.
	 * @param mixed $old   What is.
	 * @return mixed
	 */
	public static function before_plugins( $value, $old ) {
		$added = array_diff( (array) $value, (array) $old );
		if ( array() !== $added ) {
			self::refuse_unless_well( array( 'active_plugins' => $value ), 'The plugin is not activated' );
		}
		return $value;
	}

	/**
	 * Tries a theme that is about to be switched on.
	 *
	 * @param mixed $value What shall be.
	 * @param mixed $old   What is.
	 * @return mixed
	 */
	public static function before_theme( $value, $old ) {
		if ( $value !== $old && is_string( $value ) ) {
			$theme = array( 'stylesheet' => $value, 'template' => wp_get_theme( $value )->get_template() );
			self::refuse_unless_well( $theme, 'The theme is not activated' );
		}
		return $value;
	}

	/**
	 * Gives a page that is tried its plugins.
	 *
	 * @param mixed $value What was said so far.
	 * @return mixed
	 */
	public static function plugins( $value ) {
		return self::tried( 'active_plugins', $value );
	}

	/**
	 * Gives a page that is tried its theme.
	 *
	 * @param mixed $value What was said so far.
	 * @return mixed
	 */
	public static function stylesheet( $value ) {
		return self::tried( 'stylesheet', $value );
	}

	/**
	 * Gives a page that is tried the theme that its theme is based on.
	 *
	 * @param mixed $value What was said so far.
	 * @return mixed
	 */
	public static function template( $value ) {
		return self::tried( 'template', $value );
	}

	/**
	 * Asks for the front page with what shall be, and refuses it when that fails.
	 *
	 * @param array  $options What shall be.
	 * @param string $refusal What to say then.
	 */
	private static function refuse_unless_well( array $options, $refusal ) {
		$name = bin2hex( random_bytes( 16 ) );
		set_transient( 'flotilla_trial_' . $name, $options, 10 * MINUTE_IN_SECONDS );
		$answer  = wp_remote_get(
			add_query_arg( self::PARAMETER, $name, home_url( '/' ) ),
			array(
				'timeout'     => self::LIMIT,
				'redirection' => 0,
				'sslverify'   => false,
				'headers'     => array( 'Cookie' => Workshop::COOKIE . '=' . Workshop::ticket( 0 ) ),
			)
		);
		$verdict = get_transient( 'flotilla_verdict_' . $name );
		delete_transient( 'flotilla_trial_' . $name );
		delete_transient( 'flotilla_verdict_' . $name );
		if ( is_wp_error( $answer ) && false === $verdict ) {
			// It says nothing of what shall be.
			error_log( 'flotilla: a plugin or theme could not be tried: ' . $answer->get_error_message() );
			return;
		}
		$status = (int) wp_remote_retrieve_response_code( $answer );
		if ( '' === $verdict && $status < 500 ) {
			return;
		}
		$why = is_string( $verdict ) && '' !== $verdict ? $verdict : "the page ends before its time (status $status)";
		// WordPress has already said where to go when a plugin ends the script.
		header_remove( 'Location' );
		wp_die(
			esc_html( "$refusal, because the front page fails with it: $why" ),
			'',
			array( 'response' => 200, 'back_link' => true )
		);
	}

	/**
	 * Returns what is tried in this request of an option.
	 *
	 * @param string $name  The option.
	 * @param mixed  $value What it is without.
	 * @return mixed
	 */
	private static function tried( $name, $value ) {
		if ( empty( $_GET[ self::PARAMETER ] ) ) {
			return $value;
		}
		if ( null === self::$tried ) {
			self::$tried = array();
			self::begin( (string) $_GET[ self::PARAMETER ] );
		}
		return isset( self::$tried[ $name ] ) ? self::$tried[ $name ] : $value;
	}

	/**
	 * Begins to try, when somebody has asked for that.
	 *
	 * @param string $name The trial.
	 */
	private static function begin( $name ) {
		$options = preg_match( '/^[0-9a-f]{32}$/D', $name ) ? get_transient( 'flotilla_trial_' . $name ) : false;
		if ( ! is_array( $options ) ) {
			return;
		}
		self::$tried = $options;
		register_shutdown_function(
			static function () use ( $name ) {
				$error   = error_get_last();
				$verdict = null !== $error && ( $error['type'] & self::FATAL ) ? strtok( $error['message'], "\n" ) : '';
				set_transient( 'flotilla_verdict_' . $name, $verdict, MINUTE_IN_SECONDS );
			}
		);
	}
}
