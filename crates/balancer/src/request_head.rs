//! What a request head must be before it may reach an upstream.

use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE};
use http::uri::PathAndQuery;
use http::{Method, Uri, request};

use crate::page::Page;
use crate::paths;

/// Checks the head and brings its target into the form `/path?query`.
pub(crate) fn examine(head: &mut request::Parts) -> Result<(), Page> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Page::MethodNotAllowed);
    }
    if head.uri.authority().is_some() {
        take_absolute_form(head)?;
    }
    if !head.uri.path().starts_with('/') || !has_one_valid_host(&head.headers) {
        return Err(Page::BadRequest);
    }
    if paths::is_internal(head.uri.path()) {
        return Err(Page::NotFound);
    }
    Ok(())
}

/// Returns whether the request asks to leave HTTP, as WebSocket does.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Returns whether the method may be sent again after it may have reached an upstream.
pub(crate) fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A target with a host wins over the `Host` line (RFC 9112, 3.2.2).
fn take_absolute_form(head: &mut request::Parts) -> Result<(), Page> {
    let authority = head.uri.authority().map(|one| HeaderValue::from_str(one.as_str()));
    let Some(Ok(host)) = authority else { return Err(Page::BadRequest) };
    head.headers.insert(HOST, host);
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok(())
}

fn has_one_valid_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    !host.is_empty() && host.as_bytes().iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn examined(method: &str, target: &str, hosts: &[&str]) -> Result<String, Page> {
        let mut builder = Request::builder().method(method).uri(target);
        for host in hosts {
            builder = builder.header(HOST, *host);
        }
        let (mut head, ()) = builder.body(()).unwrap().into_parts();
        examine(&mut head)?;
        Ok(format!("{} {}", head.headers[HOST].to_str().unwrap(), head.uri))
    }

    #[test]
    fn heads_pass_or_are_answered_by_their_form() {
        let passed = |text: &str| Ok(text.to_owned());
        for (method, target, hosts, expected) in [
            ("GET", "/a?b=c", &["shop.example"][..], passed("shop.example /a?b=c")),
            ("GET", "/", &["[::1]:8080"], passed("[::1]:8080 /")),
            ("GET", "http://shop.example/a?b", &["other"], passed("shop.example /a?b")),
            ("GET", "http://shop.example", &[], passed("shop.example /")),
            ("GET", "/", &[], Err(Page::BadRequest)),
            ("GET", "/", &["a", "b"], Err(Page::BadRequest)),
            ("GET", "/", &["a/b"], Err(Page::BadRequest)),
            ("GET", "/", &["a,b"], Err(Page::BadRequest)),
            ("GET", "/", &[""], Err(Page::BadRequest)),
            ("OPTIONS", "*", &["a"], Err(Page::BadRequest)),
            ("TRACE", "/", &["a"], Err(Page::MethodNotAllowed)),
            ("CONNECT", "a:1", &["a"], Err(Page::MethodNotAllowed)),
            ("GET", "/.flotilla/health", &["a"], Err(Page::NotFound)),
        ] {
            assert_eq!(examined(method, target, hosts), expected, "{method} {target} {hosts:?}");
        }
    }
}
