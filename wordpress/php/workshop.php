<?php
/**
 * Sends people who may change code to the workshop, and tells them there what became of their changes.
 *
 * Who they are decides, not what they ask for: the first request of such a person is handed back to the
 * balancer before anything was done, which asks the workshop instead, and the workshop gives a browser
 * a signed cookie that says so from then on. See docs/workshop.md.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

final class Workshop {
	/** Where WordPress is told, on instances as well: hook => priority, method, arguments. */
	const HOOKS = array(
		'plugins_loaded'               => array( PHP_INT_MIN, 'begin', 0 ),
		'set_current_user'             => array( PHP_INT_MIN, 'meet', 0 ),
		'clear_auth_cookie'            => array( 10, 'forget', 0 ),
		'file_mod_allowed'             => array( PHP_INT_MAX, 'allow', 2 ),
		'admin_init'                   => array( PHP_INT_MIN, 'refuse', 0 ),
		'upgrader_pre_download'        => array( PHP_INT_MIN, 'refuse_download', 1 ),
		'admin_post_flotilla_capture'  => array( 10, 'ask', 0 ),
		'admin_post_flotilla_captures' => array( 10, 'show_alone', 0 ),
		'admin_notices'                => array( 10, 'show', 0 ),
		'network_admin_notices'        => array( 10, 'show', 0 ),
	);

	/** Where WordPress is told in the workshop. */
	const WORKSHOP_HOOKS = array(
		'init'                      => array( PHP_INT_MIN, 'settle', 0 ),
		'pre_option_db_version'     => array( PHP_INT_MAX, 'pin_database', 1 ),
		'wp_php_error_message'      => array( PHP_INT_MAX, 'show_way_out', 1 ),
		'pre_option_active_plugins' => array( PHP_INT_MAX, 'leave_out_plugins', 1 ),
		'pre_option_template'       => array( PHP_INT_MAX, 'leave_out_theme', 1 ),
		'pre_option_stylesheet'     => array( PHP_INT_MAX, 'leave_out_theme', 1 ),
	);

	/** The name of the cookie that leads to the workshop. */
	const COOKIE = 'flotilla_workshop';

	/** Seconds for which the cookie is good. */
	const COOKIE_SECONDS = 43200;

	/** What the balancer says when it would ask the workshop, and is told when it shall. */
	const HEADER = 'X-Flotilla-Workshop';

	/** Where notes for the foreman go. */
	const DESK = '/srv/flotilla/desk';

	/** What the foreman says of the captures. */
	const CAPTURES = '/srv/flotilla/run/captures.json';

	/** Whoever has one of these can change code, or have it changed. */
	const CAPABILITIES = array(
		'activate_plugins',
		'update_core',
		'update_plugins',
		'install_plugins',
		'edit_plugins',
		'delete_plugins',
		'update_themes',
		'install_themes',
		'edit_themes',
		'delete_themes',
	);

	/** What changes code, by the page of wp-admin that is asked for it. */
	const PAGES = array( 'update.php', 'update-core.php', 'plugin-editor.php', 'theme-editor.php' );

	/** What changes code, by the action that is asked for. */
	const ACTIONS = array(
		'update-plugin',
		'install-plugin',
		'delete-plugin',
		'delete-selected',
		'update-theme',
		'install-theme',
		'delete-theme',
		'edit-theme-plugin-file',
	);

	/**
	 * Whether it is known who asks.
	 *
	 * @var bool
	 */
	private static $is_met = false;

	/**
	 * What keeps the foreman from changing files under this request.
	 *
	 * @var resource|false|null
	 */
	private static $door = null;

	/**
	 * Waits until the foreman changes no files, and has it wait until this request ends.
	 */
	public static function enter() {
		self::$door = @fopen( '/srv/flotilla/run/door', 'r' );
		if ( self::$door ) {
			flock( self::$door, LOCK_SH );
		}
		if ( self::is_way_out() && ! defined( 'WPMU_PLUGIN_DIR' ) ) {
			// Must-use plugins may be what is broken, too.
			define( 'WPMU_PLUGIN_DIR', '/srv/flotilla/none' );
		}
	}

	/**
	 * Looks as early as possible who asks, before a plugin has done anything.
	 */
	public static function begin() {
		if ( 'cli' === PHP_SAPI ) {
			return;
		}
		$script = isset( $_SERVER['SCRIPT_NAME'] ) ? (string) $_SERVER['SCRIPT_NAME'] : '';
		if ( '/wp-admin/upgrade.php' === substr( $script, -21 ) ) {
			// The database is upgraded once, with the release that needs it.
			header( 'Location: ' . admin_url(), true, 302 );
			exit;
		}
		if ( defined( 'LOGGED_IN_COOKIE' ) && ! empty( $_COOKIE[ LOGGED_IN_COOKIE ] ) ) {
			wp_get_current_user();
		}
	}

	/**
	 * Learns who asks, the first time that there is somebody.
	 */
	public static function meet() {
		$user = isset( $GLOBALS['current_user'] ) ? $GLOBALS['current_user'] : null;
		if ( self::$is_met || 'cli' === PHP_SAPI || ! $user instanceof \WP_User || ! $user->exists() ) {
			return;
		}
		self::$is_met = true;
		if ( ! self::may_change_code( $user ) ) {
			return;
		}
		if ( FLOTILLA_IS_WORKSHOP ) {
			self::admit( $user );
			self::note( $user );
		} elseif ( isset( $_SERVER['HTTP_X_FLOTILLA_WORKSHOP'] ) && ! headers_sent() ) {
			// Nothing was done yet: the balancer asks the workshop the same.
			header( self::HEADER . ': wanted', true, 421 );
			header( 'Cache-Control: no-store' );
			exit;
		}
	}

	/**
	 * Sends those back to the fleet who have no business in the workshop any more.
	 */
	public static function settle() {
		if ( isset( $_COOKIE[ self::COOKIE ] ) && ! self::may_change_code( wp_get_current_user() ) ) {
			self::forget();
		}
	}

	/**
	 * Takes the cookie away.
	 */
	public static function forget() {
		if ( isset( $_COOKIE[ self::COOKIE ] ) && ! headers_sent() ) {
			self::set_cookie( '', 1 );
		}
	}

	/**
	 * Says where code may be changed. Menus and buttons are shown everywhere; who uses them is in the
	 * workshop, unless that is away.
	 *
	 * @param bool   $is_allowed What was said so far.
	 * @param string $context    What for.
	 * @return bool
	 */
	public static function allow( $is_allowed, $context ) {
		return $is_allowed && ( FLOTILLA_IS_WORKSHOP || 0 === strpos( (string) $context, 'capability_' ) );
	}

	/**
	 * Refuses changes of code on an instance, where somebody is only while the workshop is away.
	 */
	public static function refuse() {
		if ( FLOTILLA_IS_WORKSHOP || ! self::is_change() ) {
			return;
		}
		$why = self::away();
		if ( wp_doing_ajax() ) {
			wp_send_json_error( array( 'errorMessage' => $why, 'code' => 'flotilla_workshop_away', 'message' => $why ), 503 );
		}
		wp_die( esc_html( $why ), '', array( 'response' => 503, 'back_link' => true ) );
	}

	/**
	 * Refuses updates on an instance, whoever begins them.
	 *
	 * @param mixed $reply What was said so far.
	 * @return mixed
	 */
	public static function refuse_download( $reply ) {
		return FLOTILLA_IS_WORKSHOP ? $reply : new \WP_Error( 'flotilla_workshop_away', self::away() );
	}

	/**
	 * Has the workshop work with newer code on the database as it is: it is upgraded when the fleet gets
	 * the code, in one moment.
	 *
	 * @param mixed $value What was said so far.
	 * @return mixed
	 */
	public static function pin_database( $value ) {
		return 'cli' !== PHP_SAPI && isset( $GLOBALS['wp_db_version'] ) ? (string) $GLOBALS['wp_db_version'] : $value;
	}

	/**
	 * Takes what somebody decides about a capture.
	 */
	public static function ask() {
		check_admin_referer( 'flotilla_capture' );
		$user = wp_get_current_user();
		$what = isset( $_POST['what'] ) ? sanitize_key( wp_unslash( $_POST['what'] ) ) : '';
		if ( ! self::may_change_code( $user ) || ! in_array( $what, array( 'approve', 'revert' ), true ) ) {
			wp_die( 'You may not decide about changes of code.', '', array( 'response' => 403 ) );
		}
		if ( ! FLOTILLA_IS_WORKSHOP ) {
			wp_die( esc_html( self::away() ), '', array( 'response' => 503, 'back_link' => true ) );
		}
		$number = isset( $_POST['capture'] ) ? absint( $_POST['capture'] ) : 0;
		self::write( $user, array( 'ask' => $what, 'capture' => $number ) );
		$back = wp_get_referer();
		wp_safe_redirect( $back ? $back : admin_url() );
		exit;
	}

	/**
	 * Tells what became of changes.
	 */
	public static function show() {
		if ( ! self::may_change_code( wp_get_current_user() ) ) {
			return;
		}
		if ( ! FLOTILLA_IS_WORKSHOP ) {
			self::notice( 'warning', self::away() );
			return;
		}
		$text = @file_get_contents( self::CAPTURES, false, null, 0, 262144 );
		$told = is_string( $text ) ? json_decode( $text, true ) : null;
		if ( ! is_array( $told ) ) {
			return;
		}
		if ( '' !== $told['trouble'] ) {
			self::notice( 'error', 'Changes of code are not brought to the site, because ' . $told['trouble'] . '.' );
		}
		foreach ( array_slice( $told['captures'], 0, 5 ) as $one ) {
			self::show_one( $one );
		}
	}

	/**
	 * Tells what became of one capture.
	 *
	 * @param array $one What the foreman says of it.
	 */
	private static function show_one( $one ) {
		$number  = (int) $one['number'];
		$subject = (string) $one['subject'];
		$reason  = (string) $one['reason'];
		if ( 'failed' === $one['state'] ) {
			$text = "Change $number, \"$subject\", did not reach the site. It is only here, in the workshop: $reason";
			self::notice( 'error', $text, $number, array( 'revert' => 'Undo this change' ) );
		} elseif ( '' !== $reason ) {
			$text = "Change $number, \"$subject\", waits: $reason";
			self::notice( 'warning', $text, $number, array( 'approve' => 'Bring it to the site', 'revert' => 'Undo it' ) );
		} else {
			self::notice( 'info', "Change $number, \"$subject\", is on its way to all instances." );
		}
	}

	/**
	 * Shows the changes on a page of its own, which needs no plugin and no theme.
	 */
	public static function show_alone() {
		if ( ! self::may_change_code( wp_get_current_user() ) ) {
			wp_die( 'You may not decide about changes of code.', '', array( 'response' => 403 ) );
		}
		ob_start();
		self::show();
		$changes = ob_get_clean();
		$back    = '<p><a href="' . esc_url( admin_url() ) . '">Back to the dashboard</a></p>';
		wp_die( ( '' !== $changes ? $changes : '<p>No change of code is on its way.</p>' ) . $back, 'Changes of code', array( 'response' => 200 ) );
	}

	/**
	 * Leads out of a workshop that somebody has broken.
	 *
	 * @param string $message What WordPress says of the error.
	 * @return string
	 */
	public static function show_way_out( $message ) {
		if ( ! isset( $_COOKIE[ self::COOKIE ] ) ) {
			return $message;
		}
		return $message . sprintf(
			'<p>You see this in the workshop; visitors of the site do not. <a href="%s">See your last changes of code and undo them</a></p>',
			esc_url( admin_url( 'admin-post.php?action=flotilla_captures' ) )
		);
	}

	/**
	 * Keeps broken plugins from the page where they are undone.
	 *
	 * @param mixed $value What was said so far.
	 * @return mixed
	 */
	public static function leave_out_plugins( $value ) {
		return self::is_way_out() ? array() : $value;
	}

	/**
	 * Keeps a broken theme from the page where it is undone.
	 *
	 * @param mixed $value What was said so far.
	 * @return mixed
	 */
	public static function leave_out_theme( $value ) {
		return self::is_way_out() ? 'none' : $value;
	}

	/**
	 * Tells whether this request is to undo something.
	 *
	 * @return bool
	 */
	private static function is_way_out() {
		$action = isset( $_REQUEST['action'] ) ? $_REQUEST['action'] : '';
		$script = isset( $_SERVER['SCRIPT_NAME'] ) ? (string) $_SERVER['SCRIPT_NAME'] : '';
		return in_array( $action, array( 'flotilla_capture', 'flotilla_captures' ), true )
			&& '/wp-admin/admin-post.php' === substr( $script, -24 );
	}

	/**
	 * Prints a notice.
	 *
	 * @param string   $kind    WordPress' word for how bad it is.
	 * @param string   $text    What to say.
	 * @param int      $capture The capture that it is about.
	 * @param string[] $buttons What can be decided, with what to call it.
	 */
	private static function notice( $kind, $text, $capture = 0, $buttons = array() ) {
		printf( '<div class="notice notice-%s flotilla-notice"><p>%s</p>', esc_attr( $kind ), esc_html( $text ) );
		if ( array() !== $buttons ) {
			printf( '<form method="post" action="%s"><p>', esc_url( admin_url( 'admin-post.php' ) ) );
			wp_nonce_field( 'flotilla_capture' );
			printf( '<input type="hidden" name="action" value="flotilla_capture"><input type="hidden" name="capture" value="%d">', (int) $capture );
			foreach ( $buttons as $what => $label ) {
				printf( '<button class="button" name="what" value="%s">%s</button> ', esc_attr( $what ), esc_html( $label ) );
			}
			echo '</p></form>';
		}
		echo '</div>';
	}

	/**
	 * Tells whether somebody can change code.
	 *
	 * @param \WP_User $user Who.
	 * @return bool
	 */
	private static function may_change_code( $user ) {
		if ( ! $user instanceof \WP_User || ! $user->exists() ) {
			return false;
		}
		foreach ( self::CAPABILITIES as $capability ) {
			if ( $user->has_cap( $capability ) ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * Gives a browser the cookie that leads here.
	 *
	 * @param \WP_User $user Who asks.
	 */
	private static function admit( $user ) {
		if ( empty( $_COOKIE[ LOGGED_IN_COOKIE ] ) || headers_sent() ) {
			return;
		}
		$held = isset( $_COOKIE[ self::COOKIE ] ) ? (int) $_COOKIE[ self::COOKIE ] : 0;
		if ( $held > time() + self::COOKIE_SECONDS / 2 ) {
			return;
		}
		self::set_cookie( self::ticket( $user->ID ), 0 );
	}

	/**
	 * Returns a cookie that leads here.
	 *
	 * @param int $user Whose it is; 0 for our own requests.
	 * @return string
	 */
	public static function ticket( $user ) {
		$said = ( time() + self::COOKIE_SECONDS ) . '.' . $user;
		return $said . '.' . hash_hmac( 'sha256', $said, FLOTILLA_WORKSHOP_KEY );
	}

	/**
	 * Sets the cookie.
	 *
	 * @param string $value   Its value.
	 * @param int    $expires When it ends; 0 with the browser.
	 */
	private static function set_cookie( $value, $expires ) {
		setcookie(
			self::COOKIE,
			$value,
			array(
				'expires'  => $expires,
				'path'     => '/',
				'secure'   => is_ssl(),
				'httponly' => true,
				'samesite' => 'Lax',
			)
		);
	}

	/**
	 * Tells whether this request is to change code.
	 *
	 * @return bool
	 */
	private static function is_change() {
		$action = isset( $_REQUEST['action'] ) ? $_REQUEST['action'] : '';
		$page   = isset( $GLOBALS['pagenow'] ) ? $GLOBALS['pagenow'] : '';
		$posts  = isset( $_SERVER['REQUEST_METHOD'] ) && 'POST' === $_SERVER['REQUEST_METHOD'];
		return in_array( $action, self::ACTIONS, true )
			|| ( in_array( $page, self::PAGES, true ) && ( $posts || '' !== $action ) )
			|| ( 'themes.php' === $page && 'delete' === $action );
	}

	/**
	 * Notes who may be changing code, for the commit.
	 *
	 * @param \WP_User $user Who.
	 */
	private static function note( $user ) {
		$is_read = isset( $_SERVER['REQUEST_METHOD'] ) && in_array( $_SERVER['REQUEST_METHOD'], array( 'GET', 'HEAD' ), true );
		$action  = isset( $_REQUEST['action'] ) ? $_REQUEST['action'] : '';
		if ( ( $is_read && '' === $action ) || 'heartbeat' === $action ) {
			return;
		}
		self::write( $user, array() );
	}

	/**
	 * Writes a note for the foreman.
	 *
	 * @param \WP_User $user Who.
	 * @param array    $more What it says besides.
	 */
	private static function write( $user, array $more ) {
		$note = array(
			'name'  => '' !== $user->display_name ? $user->display_name : $user->user_login,
			'email' => $user->user_email,
		);
		$name = self::DESK . '/' . sprintf( '%020.6f', microtime( true ) ) . '-' . bin2hex( random_bytes( 4 ) );
		if ( false !== @file_put_contents( $name . '.new', wp_json_encode( $note + $more ) ) ) {
			@rename( $name . '.new', $name . '.json' );
		}
	}

	/**
	 * Says that code cannot be changed now.
	 *
	 * @return string
	 */
	private static function away() {
		return 'Changes of plugins, themes and WordPress are paused: the workshop, where they are made, does not answer. The site itself is not affected. Try again in a moment.';
	}
}
