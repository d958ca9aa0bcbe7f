<?php
/**
 * Installs WordPress without a browser; harmless when it is installed, and repairs an installation
 * that was cut off.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

require_once __DIR__ . '/cli.php';

/** The option that tells a whole installation from one that was cut off. */
const PROGRESS = 'flotilla_install';

/**
 * Reads an option past WordPress, which ends the script when it finds half an installation.
 *
 * @param string $name Option.
 * @return string|null
 */
function stored_option( $name ) {
	global $wpdb;
	$suppressed = $wpdb->suppress_errors();
	$value      = $wpdb->get_var(
		$wpdb->prepare( "SELECT option_value FROM $wpdb->options WHERE option_name = %s", $name )
	);
	$wpdb->suppress_errors( $suppressed );
	return $value;
}

/**
 * Decides what there is: `none`, `partial` (made by this script) or `whole`.
 *
 * @return string
 */
function installation() {
	global $wpdb;
	$progress = stored_option( PROGRESS );
	if ( 'done' === $progress ) {
		return 'whole';
	}
	if ( 'started' === $progress ) {
		return 'partial';
	}
	if ( ! empty( stored_option( 'siteurl' ) ) ) {
		return 'whole';
	}
	$tables = $wpdb->get_col(
		$wpdb->prepare( 'SHOW TABLES LIKE %s', $wpdb->esc_like( $wpdb->prefix ) . '%' )
	);
	$tables = array_intersect( $tables, $wpdb->tables( 'all' ) );
	foreach ( array_intersect( $tables, array( $wpdb->users, $wpdb->posts ) ) as $table ) {
		if ( null !== $wpdb->get_var( "SELECT 1 FROM `$table` LIMIT 1" ) ) {
			fail( "the table `$table` has rows, but the database has no installed site" );
		}
	}
	return $tables ? 'partial' : 'none';
}

/**
 * Chooses a theme that the code has; the default one may be missing.
 */
function choose_theme() {
	if ( ! wp_get_theme()->exists() ) {
		$themes = wp_get_themes();
		ksort( $themes );
		foreach ( $themes as $theme ) {
			update_option( 'template', $theme->get_template() );
			update_option( 'stylesheet', $theme->get_stylesheet() );
			break;
		}
	}
}

$wanted = json_decode( (string) stream_get_contents( STDIN, 65536 ), true );
foreach ( array( 'title', 'user', 'email', 'password', 'url' ) as $key ) {
	if ( ! is_array( $wanted ) || ! is_string( $wanted[ $key ] ?? null ) || '' === $wanted[ $key ] ) {
		fail( "stdin is not a JSON object with a text `$key`", 2 );
	}
}
$wanted += array(
	'locale'   => '',
	'timezone' => 'UTC',
	'plugins'  => array(),
);
$address = parse_url( $wanted['url'] );
if ( ! isset( $address['scheme'], $address['host'] ) ) {
	fail( "`{$wanted['url']}` is not an address", 2 );
}
if ( ! in_array( $wanted['timezone'], timezone_identifiers_list(), true ) ) {
	fail( "`{$wanted['timezone']}` is not a time zone", 2 );
}
if ( ! is_array( $wanted['plugins'] ) ) {
	fail( '`plugins` is not a list', 2 );
}

define( 'WP_INSTALLING', true );
// Else WordPress ends the script when it finds half an installation, which is to be repaired.
define( 'WP_REPAIRING', true );
$_SERVER['HTTP_HOST']       = $address['host'] . ( isset( $address['port'] ) ? ':' . $address['port'] : '' );
$_SERVER['SERVER_NAME']     = $address['host'];
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
$_SERVER['REMOTE_ADDR']     = '127.0.0.1';
$_SERVER['REQUEST_METHOD']  = 'POST';
$_SERVER['REQUEST_URI']     = '/wp-admin/install.php';
$_SERVER['PHP_SELF']        = '/wp-admin/install.php';
if ( 'https' === $address['scheme'] ) {
	$_SERVER['HTTPS'] = 'on';
}

// Widgets write options while WordPress loads, into a table that is not there yet.
$GLOBALS['wp_filter'] = array(
	'init' => array(
		0 => array(
			array(
				'function'      => static function () {
					remove_action( 'init', 'wp_widgets_init', 1 );
				},
				'accepted_args' => 0,
			),
		),
	),
);

require SITE . '/wp-load.php';

lock( $GLOBALS['wpdb'] );
$found = installation();
if ( 'partial' === $found ) {
	foreach ( $GLOBALS['wpdb']->tables( 'all' ) as $table ) {
		$GLOBALS['wpdb']->query( "DROP TABLE IF EXISTS `$table`" );
	}
	wp_cache_flush();
}

if ( 'whole' !== $found ) {
	// WordPress would send a mail, which a machine without a mailer cannot.
	add_filter( 'pre_wp_mail', '__return_true' );
	require ABSPATH . 'wp-admin/includes/upgrade.php';

	add_action(
		'populate_options',
		static function () {
			global $wpdb;
			$wpdb->query(
				$wpdb->prepare(
					"INSERT INTO $wpdb->options (option_name, option_value, autoload) VALUES (%s, 'started', 'no')",
					PROGRESS
				)
			);
		}
	);
	// WordPress would try them by a request to a site that is not served yet.
	$permalinks = static function () {
		return '/%postname%/';
	};
	add_filter( 'pre_option_permalink_structure', $permalinks );

	$locale = in_array( $wanted['locale'], get_available_languages(), true ) ? $wanted['locale'] : '';
	wp_install(
		$wanted['title'],
		$wanted['user'],
		$wanted['email'],
		true,
		'',
		wp_slash( $wanted['password'] ),
		$locale
	);

	remove_filter( 'pre_option_permalink_structure', $permalinks );
	update_option( 'home', $wanted['url'] );
	update_option( 'siteurl', $wanted['url'] );
	update_option( 'permalink_structure', '/%postname%/' );
	update_option( 'timezone_string', $wanted['timezone'] );
	// Made anew by the first page, when all rules are known.
	delete_option( 'rewrite_rules' );
}

if ( 'whole' !== $found ) {
	choose_theme();
	$GLOBALS['wpdb']->update(
		$GLOBALS['wpdb']->options,
		array( 'option_value' => 'done' ),
		array( 'option_name' => PROGRESS )
	);
	wp_cache_flush();
}

require_once ABSPATH . 'wp-admin/includes/plugin.php';
foreach ( $wanted['plugins'] as $plugin ) {
	$result = is_plugin_active( $plugin ) ? null : activate_plugin( $plugin );
	if ( is_wp_error( $result ) ) {
		fail( "the plugin `$plugin` cannot be activated: " . $result->get_error_message() );
	}
}

// Under WP_INSTALLING options are changed past the cache.
wp_cache_flush();

$states = array(
	'none'    => 'installed',
	'partial' => 'repaired',
	'whole'   => 'already-installed',
);
succeed(
	array(
		'state'      => $states[ $found ],
		'version'    => $GLOBALS['wp_version'],
		'db_version' => (int) stored_option( 'db_version' ),
		'theme'      => (string) stored_option( 'stylesheet' ),
	)
);
