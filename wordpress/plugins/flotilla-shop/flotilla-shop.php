<?php
/**
 * Plugin Name: Flotilla Shop
 * Description: A small shop for tests and demonstrations of a fleet: orders in a table, a cart in the PHP session. Anybody may list its orders, so it is not for real shops.
 * Version: 1
 * Requires at least: 6.1
 * Requires PHP: 7.4
 * License: GPL-2.0-or-later
 * License URI: https://www.gnu.org/licenses/gpl-2.0.html
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package FlotillaShop
 */

defined( 'ABSPATH' ) || exit;

/** Stands in every page and answer, so that a deploy which changes it can be seen. */
const FLOTILLA_SHOP_VERSION = '1';

require_once __DIR__ . '/includes/orders.php';
require_once __DIR__ . '/includes/cart.php';
require_once __DIR__ . '/includes/routes.php';
require_once __DIR__ . '/includes/page.php';

register_activation_hook( __FILE__, 'Flotilla\Shop\create_table' );
add_action( 'rest_api_init', 'Flotilla\Shop\register_routes' );
add_action( 'wp_head', 'Flotilla\Shop\print_meta' );
add_action( 'wp_footer', 'Flotilla\Shop\print_footer' );
