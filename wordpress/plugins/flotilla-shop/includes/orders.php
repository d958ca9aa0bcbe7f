<?php
/**
 * Orders: a row for each one that was placed, also when it was placed twice.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package FlotillaShop
 */

namespace Flotilla\Shop;

defined( 'ABSPATH' ) || exit;

const TABLE_VERSION = '1';
const ATTEMPTS_MAX  = 20;

/**
 * Names the table.
 *
 * @return string
 */
function table() {
	global $wpdb;
	return $wpdb->prefix . 'flotilla_shop_orders';
}

/**
 * Creates the table, or brings it up to date.
 */
function create_table() {
	global $wpdb;
	require_once ABSPATH . 'wp-admin/includes/upgrade.php';
	$table   = table();
	$charset = $wpdb->get_charset_collate();
	dbDelta(
		"CREATE TABLE $table (
			id bigint(20) unsigned NOT NULL AUTO_INCREMENT,
			reference varchar(64) NOT NULL,
			attempt smallint(5) unsigned NOT NULL,
			item text NOT NULL,
			quantity int(10) unsigned NOT NULL,
			instance varchar(64) NOT NULL,
			slot varchar(16) NOT NULL,
			version varchar(32) NOT NULL,
			placed_at datetime NOT NULL,
			PRIMARY KEY  (id),
			UNIQUE KEY reference_attempt (reference,attempt)
		) ENGINE=InnoDB $charset;"
	);
	update_option( 'flotilla_shop_table', TABLE_VERSION );
}

/**
 * Creates the table when the plugin was activated without its hook, or is newer than the table.
 */
function ensure_table() {
	if ( TABLE_VERSION !== get_option( 'flotilla_shop_table' ) ) {
		create_table();
	}
}

/**
 * Tells where and by which code the request is answered.
 *
 * @return array
 */
function origin() {
	return array(
		'instance' => (string) getenv( 'FLOTILLA_INSTANCE' ),
		'slot'     => (string) getenv( 'FLOTILLA_SLOT' ),
		'version'  => FLOTILLA_SHOP_VERSION,
	);
}

/**
 * Writes an order down.
 *
 * The unique key on reference and attempt numbers the orders of one reference, so an order that
 * was placed twice is two rows, and the second is known as such.
 *
 * @param string $reference The client's own name of the order.
 * @param string $item      What is ordered.
 * @param int    $quantity  How many.
 * @return array|\WP_Error The order.
 */
function place_order( $reference, $item, $quantity ) {
	global $wpdb;
	ensure_table();
	$table = table();
	$order = array(
		'reference' => $reference,
		'attempt'   => 1,
		'item'      => $item,
		'quantity'  => $quantity,
	) + origin() + array( 'placed_at' => current_time( 'mysql', true ) );

	$suppressed = $wpdb->suppress_errors();
	for ( $try = 0; $try < ATTEMPTS_MAX; $try++ ) {
		if ( false !== $wpdb->insert( $table, $order ) ) {
			$wpdb->suppress_errors( $suppressed );
			return array( 'id' => (int) $wpdb->insert_id ) + $order;
		}
		if ( false === strpos( $wpdb->last_error, 'Duplicate entry' ) ) {
			break;
		}
		$order['attempt'] = 1 + (int) $wpdb->get_var(
			$wpdb->prepare( "SELECT MAX(attempt) FROM $table WHERE reference = %s", $reference )
		);
	}
	$wpdb->suppress_errors( $suppressed );
	return new \WP_Error(
		'flotilla_shop_not_placed',
		'the order could not be written down',
		array( 'status' => 500 )
	);
}

/**
 * Counts orders: all rows, different references, and rows beyond the first of their reference.
 *
 * @return array|\WP_Error
 */
function count_orders() {
	global $wpdb;
	$table = table();
	$row   = $wpdb->get_row( "SELECT COUNT(*) AS total, COUNT(DISTINCT reference) AS refs FROM $table" );
	if ( null === $row ) {
		return new \WP_Error(
			'flotilla_shop_not_counted',
			'the orders could not be read',
			array( 'status' => 500 )
		);
	}
	return array(
		'total'      => (int) $row->total,
		'references' => (int) $row->refs,
		'duplicates' => (int) $row->total - (int) $row->refs,
	);
}

/**
 * Lists orders, oldest first.
 *
 * @param int $page     From 1.
 * @param int $per_page Rows of a page.
 * @return array
 */
function list_orders( $page, $per_page ) {
	global $wpdb;
	$table = table();
	$rows  = $wpdb->get_results(
		$wpdb->prepare(
			"SELECT * FROM $table ORDER BY id LIMIT %d OFFSET %d",
			$per_page,
			( $page - 1 ) * $per_page
		),
		ARRAY_A
	);
	return array_map(
		static function ( $row ) {
			foreach ( array( 'id', 'attempt', 'quantity' ) as $number ) {
				$row[ $number ] = (int) $row[ $number ];
			}
			return $row;
		},
		$rows
	);
}

/**
 * Counts the rows of each reference.
 *
 * @return array Reference => rows.
 */
function list_references() {
	global $wpdb;
	$table = table();
	$rows  = $wpdb->get_results(
		"SELECT reference, COUNT(*) AS orders FROM $table GROUP BY reference ORDER BY reference"
	);
	return array_map( 'intval', array_column( $rows, 'orders', 'reference' ) );
}
