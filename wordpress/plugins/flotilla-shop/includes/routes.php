<?php
/**
 * The routes below /wp-json/flotilla-shop/v1/.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package FlotillaShop
 */

namespace Flotilla\Shop;

defined( 'ABSPATH' ) || exit;

const PER_PAGE_MAX = 1000;

/**
 * Registers all routes; everybody may use them.
 */
function register_routes() {
	$word     = array(
		'type'      => 'string',
		'required'  => true,
		'minLength' => 1,
		'maxLength' => 64,
		'pattern'   => '^[A-Za-z0-9._:-]+$',
	);
	$quantity = array(
		'type'    => 'integer',
		'default' => 1,
		'minimum' => 1,
		'maximum' => QUANTITY_MAX,
	);
	$paging   = array(
		'page'     => array(
			'type'    => 'integer',
			'default' => 1,
			'minimum' => 1,
		),
		'per_page' => array(
			'type'    => 'integer',
			'default' => 100,
			'minimum' => 1,
			'maximum' => PER_PAGE_MAX,
		),
	);
	$line     = array(
		'item'     => $word,
		'quantity' => $quantity,
	);

	add_route( '/orders', 'POST', 'post_order', array( 'reference' => $word ) + $line );
	add_route( '/orders', 'GET', 'get_orders', $paging );
	add_route( '/references', 'GET', 'get_references', array() );
	add_route( '/cart', 'POST', 'post_cart', $line );
	add_route( '/cart', 'GET', 'get_cart', array() );
	add_route( '/cart/order', 'POST', 'post_cart_order', array( 'reference' => $word ) );
}

/**
 * Registers one route.
 *
 * @param string $path     Below the namespace.
 * @param string $method   HTTP method.
 * @param string $function The function of this file that answers it.
 * @param array  $args     Its parameters.
 */
function add_route( $path, $method, $function, array $args ) {
	register_rest_route(
		'flotilla-shop/v1',
		$path,
		array(
			'methods'             => $method,
			'callback'            => __NAMESPACE__ . '\\' . $function,
			'permission_callback' => '__return_true',
			'args'                => $args,
		)
	);
}

/**
 * Makes an answer that nobody caches, with where it comes from.
 *
 * @param array|\WP_Error $answer What to tell.
 * @param int             $status HTTP status.
 * @return \WP_REST_Response|\WP_Error
 */
function respond( $answer, $status = 200 ) {
	if ( is_wp_error( $answer ) ) {
		return $answer;
	}
	$response = new \WP_REST_Response( $answer + origin(), $status );
	$response->header( 'Cache-Control', 'no-store' );
	return $response;
}

/**
 * Places an order.
 *
 * @param \WP_REST_Request $request The request.
 * @return \WP_REST_Response|\WP_Error
 */
function post_order( $request ) {
	return respond( place_order( $request['reference'], $request['item'], $request['quantity'] ), 201 );
}

/**
 * Lists orders.
 *
 * @param \WP_REST_Request $request The request.
 * @return \WP_REST_Response|\WP_Error
 */
function get_orders( $request ) {
	ensure_table();
	$counts = count_orders();
	if ( is_wp_error( $counts ) ) {
		return $counts;
	}
	$orders = list_orders( $request['page'], $request['per_page'] );
	return respond( $counts + array( 'orders' => $orders ) );
}

/**
 * Lists all references with the number of their rows.
 *
 * @return \WP_REST_Response|\WP_Error
 */
function get_references() {
	ensure_table();
	$counts = count_orders();
	if ( is_wp_error( $counts ) ) {
		return $counts;
	}
	return respond( $counts + array( 'by_reference' => (object) list_references() ) );
}

/**
 * Adds to the cart.
 *
 * @param \WP_REST_Request $request The request.
 * @return \WP_REST_Response|\WP_Error
 */
function post_cart( $request ) {
	return respond_cart( add_to_cart( $request['item'], $request['quantity'] ), 201 );
}

/**
 * Shows the cart.
 *
 * @return \WP_REST_Response|\WP_Error
 */
function get_cart() {
	return respond_cart( show_cart() );
}

/**
 * Orders the cart.
 *
 * @param \WP_REST_Request $request The request.
 * @return \WP_REST_Response|\WP_Error
 */
function post_cart_order( $request ) {
	return respond( order_cart( $request['reference'] ), 201 );
}

/**
 * Answers with a cart.
 *
 * @param array|\WP_Error $cart   The cart.
 * @param int             $status HTTP status.
 * @return \WP_REST_Response|\WP_Error
 */
function respond_cart( $cart, $status = 200 ) {
	return respond( is_wp_error( $cart ) ? $cart : array( 'cart' => (object) $cart ), $status );
}
