//! Which header lines pass, and which ones the balancer sets.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::address_range::AddressRange;
use crate::client_address::client_address;
use crate::random::Random;

/// Says whom a request came from.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Says which scheme the visitor used.
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Says which host the visitor asked for.
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Names one request in all logs.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The end of the connection that a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'one> {
    /// Its address.
    pub(crate) peer: IpAddr,
    /// Its address as a header value.
    pub(crate) peer_text: &'one HeaderValue,
    /// Whether what it says about others is believed.
    pub(crate) is_trusted: bool,
    /// Everybody who is believed so.
    pub(crate) trusted: &'one [AddressRange],
}

/// What was learned from a request head.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The request's id.
    pub(crate) request_id: HeaderValue,
    /// The visitor's address.
    pub(crate) client: IpAddr,
}

/// Removes what is meant for one connection only (RFC 9110, 7.6.1), also what `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    remove_where(headers, is_hop_by_hop);
}

/// Makes a visitor's request head ready for an upstream.
///
/// An upstream is told one address, the visitor's: it need not know which proxies there are.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    origin: Origin<'_>,
    random: &mut Random,
) -> Prepared {
    strip_hop_by_hop(headers);
    let (client, client_text) = if origin.is_trusted {
        remove_where(headers, is_never_taken);
        let client = client_address(headers, origin.peer, origin.trusted);
        // An address is always a valid header value.
        let text = HeaderValue::from_str(&client.to_string());
        (client, text.unwrap_or_else(|_error| origin.peer_text.clone()))
    } else {
        remove_where(headers, |name| is_never_taken(name) || is_claim(name));
        (origin.peer, origin.peer_text.clone())
    };
    let request_id = headers.get(X_REQUEST_ID).filter(|id| is_plain(id)).cloned();
    let request_id = request_id.unwrap_or_else(|| new_request_id(random));
    headers.insert(X_REQUEST_ID, request_id.clone());
    headers.insert(X_FORWARDED_FOR, client_text);
    let scheme = forwarded_scheme(headers);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    Prepared { request_id, client }
}

/// Returns the scheme that the visitor used, from what is left of the claims about it: a list has the
/// visitor's end first.
fn forwarded_scheme(headers: &HeaderMap) -> &'static str {
    let told = headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes).unwrap_or_default();
    let first = told.split(|byte| *byte == b',').next().unwrap_or_default();
    if first.trim_ascii().eq_ignore_ascii_case(b"https") { "https" } else { "http" }
}

/// Makes a new request id.
pub(crate) fn new_request_id(random: &mut Random) -> HeaderValue {
    // Hexadecimal digits are always a valid header value.
    HeaderValue::from_bytes(&random.hex_id())
        .unwrap_or_else(|_error| HeaderValue::from_static("none"))
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// `Proxy` would become PHP's `HTTP_PROXY`; the body is read here, so `Expect` is met already; the
/// fleet's own names are not for visitors; and of what is said about a visitor only the three lines
/// are known that [`is_claim`] names, whoever says it.
fn is_never_taken(name: &str) -> bool {
    name == "proxy"
        || name == "expect"
        || name == "forwarded"
        || name == "x-real-ip"
        || name.starts_with("x-flotilla-")
        || (name.starts_with("x-forwarded-") && !is_claim(name))
}

/// What a visitor could only claim about itself, and a proxy knows.
fn is_claim(name: &str) -> bool {
    matches!(name, "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-request-id")
}

fn is_plain(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=".contains(byte);
    !bytes.is_empty() && bytes.len() <= REQUEST_ID_BYTES_MAX && bytes.iter().all(is_plain)
}

fn remove_where(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    // Nearly always there is nothing to remove, and then nothing is allocated.
    let unwanted: Vec<HeaderName> =
        headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    fn prepared(lines: &[(&'static str, &'static str)], is_trusted: bool) -> Vec<String> {
        let mut headers = map(lines);
        let origin = Origin {
            peer: "192.0.2.1".parse().unwrap(),
            peer_text: &HeaderValue::from_static("192.0.2.1"),
            is_trusted,
            trusted: &["192.0.2.0/24".parse().unwrap()],
        };
        let id = prepare_request(&mut headers, origin, &mut Random::from_seed(1)).request_id;
        assert_eq!(headers.get(X_REQUEST_ID), Some(&id));
        if id.len() == 32 {
            headers.remove(X_REQUEST_ID);
        }
        shown(&headers)
    }

    #[test]
    fn what_is_meant_for_one_connection_does_not_pass() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "host"),
            ("x-secret", "1"),
            ("host", "a"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("cookie", "a=b"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(shown(&headers), ["cookie: a=b", "host: a"]);
    }

    #[test]
    fn a_stranger_cannot_claim_to_be_forwarded() {
        let lines = [
            ("host", "shop.example"),
            ("x-forwarded-for", "203.0.113.5"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-server", "x"),
            ("forwarded", "for=203.0.113.5"),
            ("x-real-ip", "203.0.113.5"),
            ("x-request-id", "chosen"),
            ("x-flotilla-revision", "x"),
            ("proxy", "http://evil"),
        ];
        assert_eq!(
            prepared(&lines, false),
            [
                "host: shop.example",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: shop.example",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_the_visitor_passed_on() {
        let lines = [
            ("host", "shop.example"),
            ("x-forwarded-for", "203.0.113.5"),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.7"),
            ("x-forwarded-proto", "HTTPS, http"),
            ("x-forwarded-host", "www.example"),
            ("x-forwarded-ssl", "on"),
            ("x-real-ip", "203.0.113.5"),
            ("forwarded", "for=203.0.113.5"),
            ("x-flotilla-hold", "1"),
            ("x-request-id", "chosen-1"),
        ];
        assert_eq!(
            prepared(&lines, true),
            [
                "host: shop.example",
                "x-forwarded-for: 198.51.100.1",
                "x-forwarded-host: www.example",
                "x-forwarded-proto: https",
                "x-request-id: chosen-1",
            ]
        );
    }

    #[test]
    fn only_https_is_https() {
        for (told, scheme) in [("https", "https"), ("http", "http"), ("on", "http"), ("", "http")] {
            let lines = prepared(&[("x-forwarded-proto", told)], true);
            assert!(lines.contains(&format!("x-forwarded-proto: {scheme}")), "{told}: {lines:?}");
        }
    }

    #[test]
    fn an_odd_request_id_is_replaced() {
        for id in ["", "<script>", "a b"] {
            let lines = prepared(&[("x-request-id", id)], true);
            assert!(!lines.iter().any(|line| line.contains("x-request-id")), "{id}: {lines:?}");
        }
    }
}
