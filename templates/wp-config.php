<?php
/**
 * WordPress' configuration of this site: generated, the same on every instance, never in git.
 *
 * It lies one directory above the code, where WordPress looks when the code brings none.
 */

define( 'DB_NAME', {{db_name}} );
define( 'DB_USER', {{db_user}} );
define( 'DB_PASSWORD', {{db_password}} );
define( 'DB_HOST', {{db_host}} );
define( 'DB_CHARSET', 'utf8mb4' );
define( 'DB_COLLATE', '' );
// Whether the connection is encrypted, as PHP's MYSQLI_CLIENT_ constants say it.
define( 'MYSQL_CLIENT_FLAGS', {{db_flags}} );
// For how many milliseconds a page waits for a database that restarts.
define( 'FLOTILLA_DATABASE_WAIT', {{db_wait}} );

$table_prefix = {{table_prefix}};

define( 'AUTH_KEY', {{auth_key}} );
define( 'SECURE_AUTH_KEY', {{secure_auth_key}} );
define( 'LOGGED_IN_KEY', {{logged_in_key}} );
define( 'NONCE_KEY', {{nonce_key}} );
define( 'AUTH_SALT', {{auth_salt}} );
define( 'SECURE_AUTH_SALT', {{secure_auth_salt}} );
define( 'LOGGED_IN_SALT', {{logged_in_salt}} );
define( 'NONCE_SALT', {{nonce_salt}} );

define( 'WP_HOME', {{home}} );
define( 'WP_SITEURL', {{home}} );
define( 'WP_ENVIRONMENT_TYPE', {{environment_type}} );

// The site's own constants, from flotilla.toml.
{{constants}}

foreach ( array( 'WP_DEBUG', 'WP_DEBUG_DISPLAY' ) as $flotilla_name ) {
	defined( $flotilla_name ) || define( $flotilla_name, false );
}
unset( $flotilla_name );

// The code of an instance is read-only and replaced as a whole. wp-admin changes it in the workshop, to
// which this key leads; without a workshop a change reaches the fleet only as a deploy.
define( 'FLOTILLA_WORKSHOP_KEY', {{workshop_key}} );
define( 'FLOTILLA_IS_WORKSHOP', 'workshop' === getenv( 'FLOTILLA_SLOT' ) );
if ( '' === FLOTILLA_WORKSHOP_KEY ) {
	define( 'DISALLOW_FILE_MODS', true );
}
if ( ! FLOTILLA_IS_WORKSHOP ) {
	define( 'AUTOMATIC_UPDATER_DISABLED', true );
}
// What is scheduled is run by the foreman, and by nobody's visit.
define( 'DISABLE_WP_CRON', true );
// Without it WordPress would try FTP for the files it may not write, and plugins break on that.
define( 'FS_METHOD', 'direct' );

// The object cache of all instances, and of every PHP that may change what it holds.
define( 'FLOTILLA_CACHE', {{cache}} );
define( 'FLOTILLA_CACHE_NODES', {{cache_nodes}} );
define( 'FLOTILLA_CACHE_PREFIX', {{cache_prefix}} );

// On the command line there is no request. HTTPS is told by nginx, from the hop it trusts.
if ( PHP_SAPI === 'cli' && empty( $_SERVER['HTTP_HOST'] ) ) {
	$_SERVER['HTTP_HOST'] = preg_replace( '~^[a-z]+://([^/]+).*$~i', '$1', WP_HOME );
	if ( 0 === stripos( WP_HOME, 'https:' ) ) {
		$_SERVER['HTTPS'] = 'on';
	}
}

if ( ! defined( 'ABSPATH' ) ) {
	define( 'ABSPATH', '/srv/flotilla/site/' );
}
require_once '/srv/flotilla/php/load.php';
require_once '/srv/flotilla/php/database.php';
require_once ABSPATH . 'wp-settings.php';
