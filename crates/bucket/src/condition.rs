//! Conditions of requests: `If-Match` and its kin, for reading, for copying and for writing.

use http::{HeaderMap, header};

use crate::fault::{Code, Fault};
use crate::timestamp::Timestamp;

/// What conditions are about: the object that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present<'a> {
    /// Its `ETag`, without quotes.
    pub(crate) etag: &'a str,
    /// When it was stored.
    pub(crate) modified: Timestamp,
}

/// What a reader shall get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The object.
    Object,
    /// The news that it has not changed.
    NotModified,
}

/// The conditions of a request that reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReadConditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// Takes the conditions of a GET or HEAD; dates that are none are ignored, as the standard says.
    pub(crate) fn of_reader(headers: &HeaderMap) -> Self {
        Self::named(
            headers,
            ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"],
        )
    }

    /// Takes the conditions that a copy has about its source.
    pub(crate) fn of_copy_source(headers: &HeaderMap) -> Self {
        Self::named(
            headers,
            [
                "x-amz-copy-source-if-match",
                "x-amz-copy-source-if-none-match",
                "x-amz-copy-source-if-modified-since",
                "x-amz-copy-source-if-unmodified-since",
            ],
        )
    }

    fn named(headers: &HeaderMap, names: [&str; 4]) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let [if_match, if_none_match, modified, unmodified] = names;
        Self {
            if_match: text(if_match).map(str::to_owned),
            if_none_match: text(if_none_match).map(str::to_owned),
            if_modified_since: text(modified).and_then(Timestamp::from_http),
            if_unmodified_since: text(unmodified).and_then(Timestamp::from_http),
        }
    }

    /// Decides in the order of RFC 9110, section 13.2.2.
    ///
    /// # Errors
    /// The object is not the one that the reader wants.
    pub(crate) fn check(&self, present: Present<'_>) -> Result<Reading, Fault> {
        let modified = present.modified.seconds();
        match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !names(wanted, present.etag) => return Err(failed("If-Match")),
            (None, Some(since)) if modified > since.seconds() => {
                return Err(failed("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(unwanted), _) if names(unwanted, present.etag) => Ok(Reading::NotModified),
            (None, Some(since)) if modified <= since.seconds() => Ok(Reading::NotModified),
            _ => Ok(Reading::Object),
        }
    }
}

/// Whether a range may be served: an `If-Range` must name the object that is there.
pub(crate) fn permits_range(headers: &HeaderMap, present: Present<'_>) -> bool {
    let Some(condition) = headers.get(header::IF_RANGE) else { return true };
    let Ok(condition) = condition.to_str() else { return false };
    Timestamp::from_http(condition).map_or_else(
        || !condition.starts_with("W/") && names(condition, present.etag),
        |date| date.seconds() == present.modified.seconds(),
    )
}

/// The conditions of a request that writes or deletes; checked in the transaction that does it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WriteConditions {
    is_absent: bool,
    if_match: Option<String>,
}

impl WriteConditions {
    /// Takes the conditions of a request.
    ///
    /// # Errors
    /// It has a condition that S3 does not have for writers.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let is_absent = match text(header::IF_NONE_MATCH) {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Fault::left_out("`If-None-Match` of a writer other than `*`")),
        };
        if text(header::IF_UNMODIFIED_SINCE).or(text(header::IF_MODIFIED_SINCE)).is_some() {
            return Err(Fault::left_out("a condition of a writer about dates"));
        }
        Ok(Self { is_absent, if_match: text(header::IF_MATCH).map(str::to_owned) })
    }

    /// Makes the condition that the object has this `ETag`; `None` for no condition.
    pub(crate) fn of_etag(etag: Option<&str>) -> Self {
        Self { is_absent: false, if_match: etag.map(str::to_owned) }
    }

    /// Decides whether the request may write, given what is there.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn check(&self, present: Option<&str>) -> Result<(), Fault> {
        if self.is_absent && present.is_some() {
            return Err(failed("If-None-Match"));
        }
        match (&self.if_match, present) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Fault::new(Code::NoSuchKey, "there is no object with this key")),
            (Some(wanted), Some(etag)) if names(wanted, etag) => Ok(()),
            (Some(_), Some(_)) => Err(failed("If-Match")),
        }
    }
}

fn failed(condition: &str) -> Fault {
    let message = format!("the condition `{condition}` of the request does not hold");
    Fault::new(Code::PreconditionFailed, message)
}

/// Whether a list of `ETag`s names this one; clients write them with and without quotes.
fn names(list: &str, etag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one.trim_matches('"') == etag
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Present, ReadConditions, Reading, WriteConditions, permits_range};
    use crate::fault::Code;
    use crate::timestamp::Timestamp;

    const PRESENT: Present<'static> =
        Present { etag: "abc", modified: Timestamp(1_582_934_400_900) };
    const BEFORE: &str = "Fri, 28 Feb 2020 00:00:00 GMT";
    const SAME: &str = "Sat, 29 Feb 2020 00:00:00 GMT";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn readers_get_the_object_only_when_it_is_news_to_them() {
        let object = Ok(Reading::Object);
        let not_modified = Ok(Reading::NotModified);
        let failed = Err(Code::PreconditionFailed);
        for (pairs, expected) in [
            (&[][..], object),
            (&[("if-match", "\"abc\"")], object),
            (&[("if-match", "*")], object),
            (&[("if-match", "\"x\", \"abc\"")], object),
            (&[("if-match", "\"x\"")], failed),
            (&[("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)], object),
            (&[("if-unmodified-since", BEFORE)], failed),
            (&[("if-unmodified-since", SAME)], object),
            (&[("if-none-match", "\"abc\"")], not_modified),
            (&[("if-none-match", "W/\"abc\"")], not_modified),
            (&[("if-none-match", "\"x\""), ("if-modified-since", SAME)], object),
            (&[("if-modified-since", SAME)], not_modified),
            (&[("if-modified-since", BEFORE)], object),
            (&[("if-modified-since", "yesterday")], object),
        ] {
            let conditions = ReadConditions::of_reader(&headers(pairs));
            assert_eq!(
                conditions.check(PRESENT).map_err(|fault| fault.code),
                expected,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_range_of_another_version_is_not_served() {
        for (value, expected) in [
            ("\"abc\"", true),
            ("\"x\"", false),
            ("W/\"abc\"", false),
            (SAME, true),
            (BEFORE, false),
        ] {
            assert_eq!(
                permits_range(&headers(&[("if-range", value)]), PRESENT),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn writers_are_held_to_their_conditions() {
        let check = |pairs: &[(&'static str, &'static str)], present: Option<&str>| {
            let conditions = WriteConditions::read(&headers(pairs)).map_err(|fault| fault.code)?;
            conditions.check(present).map_err(|fault| fault.code)
        };
        assert_eq!(check(&[], Some("abc")), Ok(()));
        assert_eq!(check(&[("if-none-match", "*")], None), Ok(()));
        assert_eq!(check(&[("if-none-match", "*")], Some("abc")), Err(Code::PreconditionFailed));
        assert_eq!(check(&[("if-match", "\"abc\"")], Some("abc")), Ok(()));
        assert_eq!(check(&[("if-match", "\"x\"")], Some("abc")), Err(Code::PreconditionFailed));
        assert_eq!(check(&[("if-match", "\"x\"")], None), Err(Code::NoSuchKey));
        assert_eq!(check(&[("if-none-match", "\"x\"")], None), Err(Code::NotImplemented));
    }
}
