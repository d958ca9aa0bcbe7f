<?php
/**
 * Learns which values a page wants, so that the next request for it reads them in one call.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * @package Flotilla
 */

namespace Flotilla\Cache;

require_once __DIR__ . '/cache-store.php';

final class Pages {
	/** Values of a page that are read ahead. */
	const NAMES_MAX = 600;

	/** A page's list is written again when so many values are missing in it, … */
	const MISSING_MAX = 3;

	/** … or when this part of it was not wanted; */
	const UNWANTED_PART_MAX = 0.1;

	/** … but not more often than this, in seconds. */
	const REWRITE_SECONDS = 30;

	/** Seconds that an unchanged list is kept. */
	const TTL_SECONDS = 86400;

	/**
	 * The values.
	 *
	 * @var Store
	 */
	private $store;

	/**
	 * The name of this page's list; null when it has none.
	 *
	 * @var string|null
	 */
	private $list;

	/**
	 * The names that were read ahead, as keys.
	 *
	 * @var array<string, int>
	 */
	private $ahead = array();

	/**
	 * When the list was written.
	 *
	 * @var int
	 */
	private $written_at = 0;

	/**
	 * Reads ahead what the page of this request wants.
	 *
	 * @param Store $store The values.
	 */
	public function __construct( Store $store ) {
		$this->store = $store;
		$this->list  = self::name_of_list();
		if ( null === $this->list ) {
			return;
		}
		$list = $store->read_hint( $this->list );
		if ( ! isset( $list[0], $list[1] ) || ! is_int( $list[0] ) || ! is_array( $list[1] ) ) {
			return;
		}
		$this->written_at = $list[0];
		$this->ahead      = array_flip( $list[1] );
		$store->read_ahead( $list[1] );
	}

	/**
	 * Remembers what the page wanted, if that is news.
	 *
	 * @param array<string, true> $wanted The names, as keys.
	 */
	public function learn( array $wanted ) {
		if ( null === $this->list || 200 !== http_response_code() ) {
			return;
		}
		if ( time() - $this->written_at < self::REWRITE_SECONDS ) {
			return;
		}
		$missing  = count( array_diff_key( $wanted, $this->ahead ) );
		$unwanted = count( array_diff_key( $this->ahead, $wanted ) );
		if ( $missing <= self::MISSING_MAX && $unwanted <= self::UNWANTED_PART_MAX * count( $this->ahead ) ) {
			return;
		}
		$names = array_map( 'strval', array_slice( array_keys( $wanted ), 0, self::NAMES_MAX ) );
		$this->store->write_hint( $this->list, array( time(), $names ), self::TTL_SECONDS );
	}

	/**
	 * Names the list of the requested page. What is behind the names of a query does not count, nor
	 * who asks, but for whether he is logged in.
	 *
	 * @return string|null
	 */
	private static function name_of_list() {
		$method = isset( $_SERVER['REQUEST_METHOD'] ) ? $_SERVER['REQUEST_METHOD'] : '';
		if ( PHP_SAPI === 'cli' || ( 'GET' !== $method && 'HEAD' !== $method ) ) {
			return null;
		}
		$address  = isset( $_SERVER['REQUEST_URI'] ) ? (string) $_SERVER['REQUEST_URI'] : '/';
		$path     = strstr( $address . '?', '?', true );
		$who      = preg_grep( '/^wordpress_logged_in_/', array_keys( $_COOKIE ) ) ? 'member' : 'visitor';
		$host     = isset( $_SERVER['HTTP_HOST'] ) ? $_SERVER['HTTP_HOST'] : '';
		$question = implode( '&', array_keys( $_GET ) );
		return 'page:' . hash( 'sha256', implode( "\n", array( $host, $path, $question, $who ) ) );
	}
}
