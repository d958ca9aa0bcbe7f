<?php
/**
 * What the shop shows on every page: its version, in the head and at the foot.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package FlotillaShop
 */

namespace Flotilla\Shop;

defined( 'ABSPATH' ) || exit;

/**
 * Prints the version where tests look for it.
 */
function print_meta() {
	printf( "<meta name=\"flotilla-shop\" content=\"%s\">\n", esc_attr( FLOTILLA_SHOP_VERSION ) );
}

/**
 * Prints the version, and who made the page, where people look.
 */
function print_footer() {
	$origin = origin();
	printf(
		"<p class=\"flotilla-shop\" style=\"text-align:center\">Flotilla shop %s, served by %s (%s)</p>\n",
		esc_html( $origin['version'] ),
		esc_html( '' === $origin['instance'] ? 'nobody' : $origin['instance'] ),
		esc_html( '' === $origin['slot'] ? 'no slot' : $origin['slot'] )
	);
}
