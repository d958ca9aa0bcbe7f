//! Who a visitor is when there are proxies in front of the balancer.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::address_range::AddressRange;
use crate::headers::X_FORWARDED_FOR;

/// Returns the visitor's address; IPv4 written as IPv6 becomes IPv4.
///
/// Each proxy adds to the end of `X-Forwarded-For` whom it got the request from. So the list is read
/// from its end, and an entry counts only when everybody behind it is a proxy that is believed:
/// what stands further left was perhaps made up by the visitor. What is no address ends the list.
pub(crate) fn client_address(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: &[AddressRange],
) -> IpAddr {
    let mut client = peer.to_canonical();
    for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for entry in line.as_bytes().rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if !trusted.iter().any(|range| range.contains(client)) {
                return client;
            }
            // A list may have empty entries (RFC 9110, 5.6.1).
            if entry.is_empty() {
                continue;
            }
            let Some(address) = parse(entry) else { return client };
            client = address;
        }
    }
    client
}

/// Reads an address as proxies write it, some of them with a port or in brackets.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok().or_else(|| text.parse().ok().map(|one: SocketAddr| one.ip())),
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(peer: &str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted = ["10.0.0.0/8", "2001:db8:f::/48"].map(|range| range.parse().unwrap());
        client_address(&headers, peer.parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn the_first_address_from_the_right_that_is_no_trusted_proxy_is_the_visitor() {
        for (peer, lines, expected) in [
            ("203.0.113.9", &["198.51.100.7"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.2.0.1"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7", "10.2.0.1,10.3.0.1"], "198.51.100.7"),
            ("10.0.0.1", &["10.9.0.1, 10.2.0.1"], "10.9.0.1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("2001:db8:f::1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]:4711, [2001:db8:f::2]"], "2001:db8::7"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7,", " ,\t10.2.0.1 "], "198.51.100.7"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_hides_all_to_its_left() {
        for line in [
            "198.51.100.7, unknown, 10.2.0.1",
            "198.51.100.7, 10.2.0.1.5, 10.2.0.1",
            "198.51.100.7, fe80::1%eth0, 10.2.0.1",
            "198.51.100.7, [10.9.9.9], 10.2.0.1",
            "198.51.100.7, \"10.9.9.9\", 10.2.0.1",
            "198.51.100.7 1.1.1.1, 10.2.0.1",
        ] {
            assert_eq!(client("10.0.0.1", &[line]), "10.2.0.1", "{line}");
        }
    }
}
