//! The way to the workshop, for people who may change the site's code.
//!
//! A browser that was there has a signed cookie. Whoever has none is known to a slot only: it hands the
//! request back before anything was done, and it is sent to the workshop as if nothing had been. While
//! the workshop is away, the fleet serves these people, too.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_core::id::Token;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{AUTHORIZATION, COOKIE, HeaderMap};
use http::{HeaderName, HeaderValue, Request, Response};
use sha2::Sha256;

/// The request header that offers a slot to send the request to the workshop, and the response header
/// by which it asks for that.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-flotilla-workshop");
/// The cookie that `wordpress/php/workshop.php` gives.
const NAME: &str = "flotilla_workshop";
/// What WordPress' cookie of somebody who is logged in begins with.
const LOGGED_IN: &str = "wordpress_logged_in_";
/// Cookies for a time further ahead were not made by us.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where the workshop is and how its visitors are known.
#[derive(Debug, Clone)]
pub struct WorkshopOptions {
    /// Where its nginx listens.
    pub address: SocketAddr,
    /// What the cookie is signed with.
    pub key: Token,
    /// How many PHP requests it works on at a time.
    pub workers_max: u16,
}

/// What a request tells of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has a cookie that leads to the workshop.
    Known,
    /// It may come from somebody who belongs there; a slot can tell.
    Possible,
    /// It comes from nobody in particular.
    Anybody,
}

/// Tells where a request belongs by its head.
pub(crate) fn standing(options: &WorkshopOptions, head: &HeaderMap, path: &str) -> Standing {
    let mut is_possible = head.contains_key(AUTHORIZATION) || path.ends_with("/xmlrpc.php");
    for line in head.get_all(COOKIE) {
        let Ok(line) = line.to_str() else { continue };
        for cookie in line.split(';') {
            let Some((name, value)) = cookie.trim().split_once('=') else { continue };
            if name == NAME && is_signed(&options.key, value) {
                return Standing::Known;
            }
            is_possible |= name.starts_with(LOGGED_IN);
        }
    }
    if is_possible { Standing::Possible } else { Standing::Anybody }
}

/// Whether a slot hands a request back for the workshop.
pub(crate) fn is_wanted<T>(response: &Response<T>) -> bool {
    response.headers().contains_key(&HEADER)
}

/// Offers a slot to send the request to the workshop, or does not.
pub(crate) fn offer<T>(request: &mut Request<T>, is_offered: bool) {
    if is_offered {
        request.headers_mut().insert(HEADER, HeaderValue::from_static("offered"));
    } else {
        request.headers_mut().remove(HEADER);
    }
}

/// Checks a cookie: `<end in seconds since 1970>.<user>.<HMAC-SHA256 of both in hexadecimal digits>`.
fn is_signed(key: &Token, value: &str) -> bool {
    let Some((said, signature)) = value.rsplit_once('.') else { return false };
    let Some((end, _user)) = said.split_once('.') else { return false };
    let Ok(end) = end.parse::<u64>() else { return false };
    #[expect(clippy::disallowed_methods, reason = "compared with a time that PHP wrote")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if end <= now || end > now + AHEAD_MAX.as_secs() {
        return false;
    }
    let Some(signature) = bytes_of(signature) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()) else { return false };
    mac.update(said.as_bytes());
    mac.verify_slice(&signature).is_ok()
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> WorkshopOptions {
        WorkshopOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            key: Token::new("key".to_owned()),
            workers_max: 4,
        }
    }

    fn signed(key: &str, said: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(said.as_bytes());
        let digest = mac.finalize().into_bytes();
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{said}.{digits}")
    }

    fn standing_of(name: &'static str, value: &str, path: &str) -> Standing {
        let mut head = HeaderMap::new();
        head.insert(name, value.parse().unwrap());
        standing(&options(), &head, path)
    }

    #[test]
    fn a_signed_cookie_that_has_not_ended_leads_to_the_workshop() {
        #[expect(clippy::disallowed_methods, reason = "the cookie ends by the clock on the wall")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let good = signed("key", &format!("{}.1", now + 60));
        let cookie = |value: &str| standing_of("cookie", &format!("a=b; {NAME}={value}; c=d"), "/");
        assert_eq!(cookie(&good), Standing::Known);
        let mut changed = good.clone();
        changed.pop();
        for bad in [
            &signed("other", &format!("{}.1", now + 60)),
            &signed("key", &format!("{}.1", now - 1)),
            &signed("key", &format!("{}.1", now + 100_000_000)),
            &signed("key", "soon.1"),
            &changed,
            &format!("{good}é"),
            "",
            "1.2",
        ] {
            assert_eq!(cookie(bad), Standing::Anybody, "{bad}");
        }
    }

    #[test]
    fn a_slot_is_asked_about_those_who_say_who_they_are() {
        assert_eq!(standing_of("cookie", "wordpress_logged_in_ab=x", "/"), Standing::Possible);
        assert_eq!(standing_of("authorization", "Basic x", "/wp-json/"), Standing::Possible);
        assert_eq!(standing_of("accept", "*/*", "/xmlrpc.php"), Standing::Possible);
        assert_eq!(standing_of("cookie", "woocommerce_items_in_cart=1", "/"), Standing::Anybody);
    }
}
