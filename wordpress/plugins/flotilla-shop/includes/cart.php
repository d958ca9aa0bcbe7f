<?php
/**
 * The cart, in the PHP session: the state that a fleet must not keep on an instance.
 *
 * Only the cart's own routes start a session, so that no page gets a cookie because of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package FlotillaShop
 */

namespace Flotilla\Shop;

defined( 'ABSPATH' ) || exit;

const SESSION_KEY    = 'flotilla_shop_cart';
const CART_ITEMS_MAX = 50;
const QUANTITY_MAX   = 1000;

/**
 * Runs something with the visitor's cart, alone: the session is locked meanwhile.
 *
 * @param callable $change Gets the cart (item => quantity) by reference.
 * @return mixed What it returns, or a WP_Error when there is no session.
 */
function with_cart( callable $change ) {
	if ( ! @session_start() ) {
		return new \WP_Error(
			'flotilla_shop_no_session',
			'the session store does not answer',
			array( 'status' => 503 )
		);
	}
	$cart   = (array) ( $_SESSION[ SESSION_KEY ] ?? array() );
	$result = $change( $cart );

	$_SESSION[ SESSION_KEY ] = $cart;
	session_write_close();
	return $result;
}

/**
 * Puts something into the cart.
 *
 * @param string $item     What.
 * @param int    $quantity How many more.
 * @return array|\WP_Error The cart after it.
 */
function add_to_cart( $item, $quantity ) {
	return with_cart(
		static function ( &$cart ) use ( $item, $quantity ) {
			if ( ! isset( $cart[ $item ] ) && count( $cart ) >= CART_ITEMS_MAX ) {
				return new \WP_Error( 'flotilla_shop_full', 'the cart is full', array( 'status' => 409 ) );
			}
			$cart[ $item ] = min( QUANTITY_MAX, ( $cart[ $item ] ?? 0 ) + $quantity );
			return $cart;
		}
	);
}

/**
 * Shows the cart.
 *
 * @return array|\WP_Error
 */
function show_cart() {
	return with_cart(
		static function ( &$cart ) {
			return $cart;
		}
	);
}

/**
 * Orders what is in the cart, as one order, and empties it.
 *
 * @param string $reference The client's own name of the order.
 * @return array|\WP_Error The order.
 */
function order_cart( $reference ) {
	return with_cart(
		static function ( &$cart ) use ( $reference ) {
			if ( ! $cart ) {
				return new \WP_Error( 'flotilla_shop_empty', 'the cart is empty', array( 'status' => 409 ) );
			}
			$items = array();
			foreach ( $cart as $item => $quantity ) {
				$items[] = "$item*$quantity";
			}
			$order = place_order( $reference, implode( ',', $items ), array_sum( $cart ) );
			if ( ! is_wp_error( $order ) ) {
				$cart = array();
			}
			return $order;
		}
	);
}
