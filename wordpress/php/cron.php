<?php
/**
 * Runs what WordPress has scheduled: `cron.php work` until nothing is due, `cron.php list` tells.
 *
 * Each event is claimed in a table before it runs, under a lock of the database, so that any number
 * of runners may work at once and each event still runs once. A claim says which runner has it; that
 * runner holds a second lock as long as it lives. What a dead runner had claimed and not begun, the
 * next one runs; what it had begun may have done its work and is told as interrupted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla;

// Before the one of cli.php, which ends the process.
register_shutdown_function(
	static function () {
		Runner::end_early();
	}
);

require_once __DIR__ . '/cli.php';

/** Where the foreman tells a runner to stop after its event, and reads when the next one is due. */
const RUN = '/srv/flotilla/run';

/**
 * The claims, and the runner that works them off.
 */
final class Runner {
	/** Seconds after which a runner ends, so that its memory is given back. */
	const LIFETIME = 60;
	/** Seconds to wait for the lock under which events are claimed. */
	const CLAIM_WAIT = 20;
	/** Seconds that a runner waits for the next event instead of ending. */
	const PATIENCE = 3;
	/** Days that the history goes back. */
	const KEEP_DAYS = 30;
	/** Longest error message that is kept. */
	const MESSAGE_MAX = 2000;
	/** How often the list of events is written again when somebody else has written it. */
	const TRIES = 20;

	/**
	 * The number of the claim that is being run.
	 *
	 * @var int|null
	 */
	private static $current = null;

	/**
	 * This runner's name in the claims.
	 *
	 * @var string
	 */
	private $name;

	/**
	 * The connection that holds the lock of this runner's life.
	 *
	 * @var string
	 */
	private $connection;

	/**
	 * Names the table of claims.
	 *
	 * @return string
	 */
	public static function table() {
		return $GLOBALS['wpdb']->prefix . 'flotilla_cron';
	}

	/**
	 * Makes the table, if it is not there.
	 */
	public static function make_table() {
		global $wpdb;
		$table = self::table();
		$wpdb->query(
			"CREATE TABLE IF NOT EXISTS `$table` (
				id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
				hook VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
				signature CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
				due INT UNSIGNED NOT NULL,
				arguments LONGTEXT NOT NULL,
				runner CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
				claimed_at DOUBLE NOT NULL,
				begun_at DOUBLE NULL,
				ended_at DOUBLE NULL,
				outcome VARCHAR(20) NULL,
				message TEXT NULL,
				UNIQUE KEY event (hook, signature, due),
				KEY open_claims (ended_at)
			) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
		);
		if ( '' !== $wpdb->last_error ) {
			fail( 'cannot make the table of scheduled work: ' . $wpdb->last_error );
		}
	}

	/**
	 * Begins a runner's life.
	 */
	public function __construct() {
		$this->name       = bin2hex( random_bytes( 16 ) );
		$this->connection = $this->connection();
		$this->query( 'SELECT GET_LOCK( %s, 0 )', self::life( $this->name ) );
	}

	/**
	 * Works until nothing is due.
	 *
	 * @return array When the next event is due, and how many were run.
	 */
	public function work() {
		$until = microtime( true ) + self::LIFETIME;
		$count = 0;
		$next  = null;
		self::prune();
		while ( ! file_exists( RUN . '/stop' ) && microtime( true ) < $until ) {
			if ( $this->connection() !== $this->connection ) {
				break; // The lock of our life went with the connection.
			}
			list( $claim, $next ) = $this->claim();
			if ( null !== $claim ) {
				++$count;
				if ( ! $this->run( $claim ) ) {
					break;
				}
			} elseif ( null === $next || $next > time() + self::PATIENCE ) {
				break;
			} else {
				usleep( 200000 );
			}
		}
		return array(
			'count' => $count,
			'next'  => $next,
		);
	}

	/**
	 * Runs one event.
	 *
	 * @param object $claim The claim.
	 * @return bool Whether this process is fit to go on.
	 */
	private function run( $claim ) {
		$this->query(
			'UPDATE `' . self::table() . '` SET begun_at = %f WHERE id = %d',
			microtime( true ),
			$claim->id
		);
		self::$current = (int) $claim->id;
		try {
			do_action_ref_array( $claim->hook, unserialize( $claim->arguments ) );
		} catch ( \Throwable $error ) {
			$place = basename( $error->getFile() ) . ':' . $error->getLine();
			self::end( 'failed', $error->getMessage() . ' in ' . $place );
			return false;
		}
		self::end( 'done', '' );
		// What was printed belongs to nobody.
		if ( ob_get_level() > 0 ) {
			ob_clean();
		}
		return true;
	}

	/**
	 * Notes how the current event ended.
	 *
	 * @param string $outcome done, failed, or ended early.
	 * @param string $message What went wrong.
	 */
	private static function end( $outcome, $message ) {
		global $wpdb;
		$wpdb->query(
			$wpdb->prepare(
				'UPDATE `' . self::table() . '` SET ended_at = %f, outcome = %s, message = %s WHERE id = %d',
				microtime( true ),
				$outcome,
				substr( $message, 0, self::MESSAGE_MAX ),
				self::$current
			)
		);
		self::$current = null;
	}

	/**
	 * Notes that an event has ended the process: by exit, or by a fatal error.
	 */
	public static function end_early() {
		if ( null === self::$current ) {
			return;
		}
		$error    = error_get_last();
		$is_fatal = null !== $error && 0 !== ( $error['type'] & ( E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR ) );
		if ( $is_fatal ) {
			self::end( 'failed', $error['message'] );
		} else {
			self::end( 'done', 'it ended the process' );
			Outcome::$is_done = true;
		}
	}

	/**
	 * Takes one event that is due off the list and gives it to this runner.
	 *
	 * @return array The claim or null; and when the next event is due or null.
	 */
	private function claim() {
		$lock = self::claiming();
		if ( '1' !== (string) $this->value( 'SELECT GET_LOCK( %s, %d )', $lock, self::CLAIM_WAIT ) ) {
			return array( null, null );
		}
		try {
			$claim = $this->inherit();
			return null !== $claim ? array( $claim, null ) : $this->take();
		} finally {
			$this->query( 'SELECT RELEASE_LOCK( %s )', $lock );
		}
	}

	/**
	 * Settles what dead runners have left.
	 *
	 * @return object|null A claim that was never begun.
	 */
	private function inherit() {
		global $wpdb;
		$open = $wpdb->get_results(
			$wpdb->prepare(
				'SELECT * FROM `' . self::table() . '` WHERE ended_at IS NULL AND runner <> %s ORDER BY id',
				$this->name
			)
		);
		foreach ( $open as $claim ) {
			if ( '1' !== (string) $this->value( 'SELECT IS_FREE_LOCK( %s )', self::life( $claim->runner ) ) ) {
				continue;
			}
			if ( null === $claim->begun_at ) {
				// It may still be on the list: it died between the two.
				$this->take_off( $claim->hook, $claim->signature, (int) $claim->due );
				$this->query(
					'UPDATE `' . self::table() . '` SET runner = %s WHERE id = %d',
					$this->name,
					$claim->id
				);
				return $claim;
			}
			$this->query(
				'UPDATE `' . self::table() . '` SET ended_at = %f, outcome = %s WHERE id = %d',
				microtime( true ),
				'interrupted',
				$claim->id
			);
		}
		return null;
	}

	/**
	 * Claims the first event that is due.
	 *
	 * @return array As claim().
	 */
	private function take() {
		for ( $try = 0; $try < self::TRIES; ++$try ) {
			list( $raw, $events ) = $this->events();
			$first                = self::first( $events );
			if ( null === $first ) {
				return array( null, null );
			}
			list( $due, $hook, $signature, $event ) = $first;
			// A second old at least: an event that schedules itself for this very second is another one.
			if ( $due >= time() ) {
				return array( null, $due + 1 );
			}
			$this->query(
				'INSERT IGNORE INTO `' . self::table() . '`
					(hook, signature, due, arguments, runner, claimed_at) VALUES (%s, %s, %d, %s, %s, %f)',
				$hook,
				$signature,
				$due,
				serialize( array_values( $event['args'] ) ),
				$this->name,
				microtime( true )
			);
			if ( ! $this->replace( $raw, self::without( $events, $first ) ) ) {
				continue;
			}
			$claim = $this->row( $hook, $signature, $due );
			if ( null !== $claim && $claim->runner === $this->name && null === $claim->begun_at ) {
				return array( $claim, null );
			}
			// It had run already and was put back by somebody who wrote an older list.
			$try = 0;
		}
		return array( null, time() + 1 );
	}

	/**
	 * Takes an event off the list, if it is there.
	 *
	 * @param string $hook      Its hook.
	 * @param string $signature The digest of its arguments.
	 * @param int    $due       When it was due.
	 */
	private function take_off( $hook, $signature, $due ) {
		for ( $try = 0; $try < self::TRIES; ++$try ) {
			list( $raw, $events ) = $this->events();
			if ( ! isset( $events[ $due ][ $hook ][ $signature ] ) ) {
				return;
			}
			$event = $events[ $due ][ $hook ][ $signature ];
			if ( $this->replace( $raw, self::without( $events, array( $due, $hook, $signature, $event ) ) ) ) {
				return;
			}
		}
	}

	/**
	 * Reads the list as it is in the database, past all caches.
	 *
	 * @return array Its raw value and the list.
	 */
	private function events() {
		global $wpdb;
		$raw    = $wpdb->get_var( "SELECT option_value FROM $wpdb->options WHERE option_name = 'cron'" );
		$events = null === $raw ? array() : maybe_unserialize( $raw );
		return array( $raw, is_array( $events ) ? $events : array() );
	}

	/**
	 * Writes the list, unless somebody has written it since it was read.
	 *
	 * @param string $raw    What was read.
	 * @param array  $events What to write.
	 * @return bool Whether it was written.
	 */
	private function replace( $raw, array $events ) {
		global $wpdb;
		$written = $this->query(
			"UPDATE $wpdb->options SET option_value = %s WHERE option_name = 'cron' AND MD5( option_value ) = %s",
			serialize( $events ),
			md5( $raw )
		);
		wp_cache_delete( 'cron', 'options' );
		wp_cache_delete( 'alloptions', 'options' );
		return 1 === $written;
	}

	/**
	 * Finds the event that is due first.
	 *
	 * @param array $events The list.
	 * @return array|null Time, hook, signature and event.
	 */
	private static function first( array $events ) {
		unset( $events['version'] );
		ksort( $events, SORT_NUMERIC );
		foreach ( $events as $due => $hooks ) {
			foreach ( is_array( $hooks ) ? $hooks : array() as $hook => $ones ) {
				foreach ( is_array( $ones ) ? $ones : array() as $signature => $event ) {
					return array( (int) $due, (string) $hook, (string) $signature, $event + array( 'args' => array() ) );
				}
			}
		}
		return null;
	}

	/**
	 * Returns the list without an event, and with its next time if it recurs.
	 *
	 * @param array $events The list.
	 * @param array $which  As first().
	 * @return array
	 */
	private static function without( array $events, array $which ) {
		list( $due, $hook, $signature, $event ) = $which;
		unset( $events[ $due ][ $hook ][ $signature ] );
		if ( empty( $events[ $due ][ $hook ] ) ) {
			unset( $events[ $due ][ $hook ] );
		}
		if ( empty( $events[ $due ] ) ) {
			unset( $events[ $due ] );
		}
		if ( ! empty( $event['schedule'] ) ) {
			$schedules = wp_get_schedules();
			$interval  = (int) ( $schedules[ $event['schedule'] ]['interval'] ?? $event['interval'] ?? 0 );
			if ( $interval > 0 ) {
				$late = time() - $due;
				$then = time() + $interval - ( $late > 0 ? $late % $interval : 0 );
				$then = max( $then, $due + $interval );
				$events[ $then ][ $hook ][ $signature ] = array(
					'schedule' => $event['schedule'],
					'args'     => $event['args'],
					'interval' => $interval,
				);
			}
		}
		uksort(
			$events,
			static function ( $one, $other ) {
				return strnatcasecmp( (string) $one, (string) $other );
			}
		);
		return $events;
	}

	/**
	 * Reads a claim.
	 *
	 * @param string $hook      Its hook.
	 * @param string $signature The digest of its arguments.
	 * @param int    $due       When it was due.
	 * @return object|null
	 */
	private function row( $hook, $signature, $due ) {
		global $wpdb;
		return $wpdb->get_row(
			$wpdb->prepare(
				'SELECT * FROM `' . self::table() . '` WHERE hook = %s AND signature = %s AND due = %d',
				$hook,
				$signature,
				$due
			)
		);
	}

	/**
	 * Forgets old claims.
	 */
	private static function prune() {
		global $wpdb;
		$wpdb->query(
			$wpdb->prepare(
				'DELETE FROM `' . self::table() . '` WHERE ended_at < %f LIMIT 1000',
				microtime( true ) - self::KEEP_DAYS * DAY_IN_SECONDS
			)
		);
	}

	/**
	 * Names the lock that a runner holds while it lives.
	 *
	 * @param string $name The runner.
	 * @return string
	 */
	private static function life( $name ) {
		return 'flotilla-run-' . $name;
	}

	/**
	 * Names the lock under which events of this site are claimed.
	 *
	 * @return string
	 */
	private static function claiming() {
		return 'flotilla-cron-' . md5( DB_NAME . '/' . self::table() );
	}

	/**
	 * Returns the number of the connection.
	 *
	 * @return string
	 */
	private function connection() {
		return (string) $this->value( 'SELECT CONNECTION_ID() + %d', 0 );
	}

	/**
	 * Sends a statement.
	 *
	 * @param string $statement With placeholders.
	 * @param mixed  ...$values Their values.
	 * @return int|bool How many rows it changed.
	 */
	private function query( $statement, ...$values ) {
		global $wpdb;
		return $wpdb->query( $wpdb->prepare( $statement, ...$values ) );
	}

	/**
	 * Reads one value.
	 *
	 * @param string $statement With placeholders.
	 * @param mixed  ...$values Their values.
	 * @return string|null
	 */
	private function value( $statement, ...$values ) {
		global $wpdb;
		return $wpdb->get_var( $wpdb->prepare( $statement, ...$values ) );
	}

	/**
	 * Tells what is scheduled and what was run.
	 *
	 * @param string|null $hook  Only this hook.
	 * @param int         $limit How many runs.
	 * @return array
	 */
	public static function tell( $hook, $limit ) {
		global $wpdb;
		$table = self::table();
		$where = null === $hook ? '' : $wpdb->prepare( 'WHERE hook = %s', $hook );
		$hooks = array();
		foreach ( (array) _get_cron_array() as $due => $ones ) {
			foreach ( is_array( $ones ) ? $ones : array() as $name => $events ) {
				if ( null === $hook || $hook === (string) $name ) {
					$schedule = (string) ( reset( $events )['schedule'] ?? '' );
					$hooks[]  = array(
						'hook'     => (string) $name,
						'due'      => (int) $due,
						'count'    => count( $events ),
						'schedule' => '' === $schedule ? null : $schedule,
					);
				}
			}
		}
		$number = static function ( $text ) {
			return null === $text ? null : (float) $text;
		};
		$runs   = array();
		foreach ( $wpdb->get_results( "SELECT * FROM `$table` $where ORDER BY id DESC LIMIT " . (int) $limit ) as $run ) {
			$runs[] = array(
				'hook'     => $run->hook,
				'due'      => (int) $run->due,
				'begun_at' => $number( $run->begun_at ),
				'ended_at' => $number( $run->ended_at ),
				'outcome'  => $run->outcome,
				'message'  => '' === (string) $run->message ? null : $run->message,
			);
		}
		return array(
			'scheduled' => $hooks,
			'runs'      => $runs,
		);
	}
}

$words = array_slice( $GLOBALS['argv'], 1 );
if ( 'work' === ( $words[0] ?? '' ) ) {
	define( 'DOING_CRON', true );
}
$_SERVER['REQUEST_METHOD'] = 'GET';
$_SERVER['REQUEST_URI']    = '/wp-cron.php';
$_SERVER['PHP_SELF']       = '/wp-cron.php';

require SITE . '/wp-load.php';
if ( ! is_blog_installed() ) {
	fail( 'WordPress is not installed in the database' );
}
Runner::make_table();

if ( 'work' === ( $words[0] ?? '' ) ) {
	set_time_limit( 0 );
	$done = ( new Runner() )->work();
	file_put_contents( RUN . '/next.json', json_encode( $done ) );
	// Nobody reads an answer.
	Outcome::$is_done = true;
	exit( 0 );
} elseif ( 'list' === ( $words[0] ?? '' ) ) {
	$hook = $words[2] ?? null;
	succeed( Runner::tell( '' === $hook ? null : $hook, max( 1, min( 1000, (int) ( $words[1] ?? 50 ) ) ) ) );
}
fail( 'say `work` or `list`' );
