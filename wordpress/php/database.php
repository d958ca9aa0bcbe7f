<?php
/**
 * Gives WordPress a database object that waits while the server restarts, instead of failing the
 * page. `wp-config.php` includes it; a `db.php` of the site goes before it.
 *
 * It connects no earlier than WordPress does: when the names of the tables are set. Checked with
 * WordPress 6.1, 6.8 and 7.1.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

// A function of its own, so that nothing is left behind in the site's scope.
if ( ! ( static function () {
	$content = defined( 'WP_CONTENT_DIR' ) ? WP_CONTENT_DIR : ABSPATH . 'wp-content';
	if ( isset( $GLOBALS['wpdb'] ) || is_file( $content . '/db.php' ) || defined( 'WP_SETUP_CONFIG' ) ) {
		return false;
	}
	foreach ( array( 'class-wpdb.php', 'wp-db.php' ) as $name ) {
		if ( is_file( ABSPATH . 'wp-includes/' . $name ) ) {
			require_once ABSPATH . 'wp-includes/' . $name;
			return class_exists( 'wpdb', false );
		}
	}
	return false;
} )() ) {
	return;
}

/**
 * WordPress' database object with patience.
 */
#[\AllowDynamicProperties]
class Database extends \wpdb {

	/** Between two tries, in microseconds. */
	const PAUSE = 100000;

	/**
	 * What passes while a server restarts or is too busy: 1040 and 1203 too many connections, 1053
	 * shutting down, 1927 connection killed, 2002 and 2003 nobody listens, 2006 gone away, 2013 lost.
	 */
	const PASSING = array( 1040, 1053, 1203, 1927, 2002, 2003, 2006, 2013 );

	/** Whether WordPress is not yet loaded so far that it could tell of a failure. */
	private $flotilla_is_early = false;

	/** Until when this request may wait in all, as microtime( true ); null before the first wait. */
	private $flotilla_wait_until = null;

	/** Whether a transaction is open, of which one part cannot be repeated alone. */
	private $flotilla_is_in_transaction = false;

	/**
	 * Takes the login from the constants, without connecting.
	 */
	public function __construct() {
		$this->flotilla_is_early = true;
		parent::__construct( DB_USER, DB_PASSWORD, DB_NAME, DB_HOST );
		$this->flotilla_is_early = false;
	}

	/**
	 * Connects when WordPress sets the names of the tables, which is the first it asks for.
	 *
	 * @param string $prefix          As in the parent.
	 * @param bool   $set_table_names As in the parent.
	 * @return string|\WP_Error As in the parent.
	 */
	public function set_prefix( $prefix, $set_table_names = true ) {
		if ( ! $this->ready ) {
			$this->db_connect();
			if ( ! empty( $this->error ) ) {
				dead_db();
			}
		}
		return parent::set_prefix( $prefix, $set_table_names );
	}

	/**
	 * Connects; waits while the server is about to come back.
	 *
	 * @param bool $allow_bail As in the parent.
	 * @return bool As in the parent.
	 */
	public function db_connect( $allow_bail = true ) {
		if ( $this->flotilla_is_early ) {
			return false;
		}
		$begun = microtime( true );
		while ( ! $this->flotilla_connect() ) {
			if ( ! in_array( $this->flotilla_connection_error(), self::PASSING, true ) || ! $this->flotilla_may_wait() ) {
				return parent::db_connect( $allow_bail );
			}
			usleep( self::PAUSE );
		}
		$waited = microtime( true ) - $begun;
		if ( null !== $this->flotilla_wait_until && $waited > self::PAUSE / 1e6 ) {
			error_log( sprintf( 'flotilla: a request waited %.1f s for the database', $waited ) );
		}
		return true;
	}

	/**
	 * Connects once. A server that goes away between its greeting and the choice of the database is as
	 * good as none; WordPress takes that for a wrong name and gives up.
	 *
	 * @return bool Whether the database can be asked.
	 */
	private function flotilla_connect() {
		$shows_errors = $this->hide_errors();
		$is_connected = parent::db_connect( false );
		$this->show_errors( $shows_errors );
		if ( $is_connected && ! $this->ready && in_array( $this->flotilla_connection_error(), self::PASSING, true ) ) {
			$this->error = null;
			return false;
		}
		return $is_connected;
	}

	/**
	 * Returns the number of what went wrong with the connection; 0 when nothing did.
	 *
	 * @return int
	 */
	private function flotilla_connection_error() {
		if ( 0 !== mysqli_connect_errno() ) {
			return mysqli_connect_errno();
		}
		return $this->dbh instanceof \mysqli ? mysqli_errno( $this->dbh ) : 0;
	}

	/**
	 * Asks; what only reads is asked once more when the connection broke under it.
	 *
	 * @param string $query As in the parent.
	 * @return int|bool As in the parent.
	 */
	public function query( $query ) {
		$result = parent::query( $query );
		if ( false === $result && $this->flotilla_is_repeatable( $query ) && $this->check_connection( false ) ) {
			$result = parent::query( $query );
		}
		if ( preg_match( '/^\s*(?:START\s+TRANSACTION|BEGIN|SET\s+autocommit\s*=\s*0)\b/i', $query ) ) {
			$this->flotilla_is_in_transaction = true;
		} elseif ( preg_match( '/^\s*(?:COMMIT|ROLLBACK(?!\s+TO)|SET\s+autocommit\s*=\s*1)\b/i', $query ) ) {
			$this->flotilla_is_in_transaction = false;
		}
		return $result;
	}

	/**
	 * Whether a query that failed may be sent again over another connection.
	 *
	 * @param string $query The query.
	 * @return bool
	 */
	private function flotilla_is_repeatable( $query ) {
		if ( $this->flotilla_is_in_transaction || ! ( $this->dbh instanceof \mysqli ) ) {
			return false;
		}
		return in_array( mysqli_errno( $this->dbh ), self::PASSING, true )
			&& preg_match( '/^\s*\(?\s*(?:SELECT|SHOW|DESCRIBE|EXPLAIN)\b/i', $query )
			&& ! preg_match( '/\b(?:FOR\s+UPDATE|LOCK\s+IN\s+SHARE|GET_LOCK|INTO\s+OUTFILE)\b/i', $query );
	}

	/**
	 * Whether this request has time left to wait for the database.
	 *
	 * @return bool
	 */
	private function flotilla_may_wait() {
		if ( null === $this->flotilla_wait_until ) {
			$this->flotilla_wait_until = microtime( true ) + FLOTILLA_DATABASE_WAIT / 1000;
		}
		return microtime( true ) < $this->flotilla_wait_until;
	}
}

$GLOBALS['wpdb'] = new Database();
