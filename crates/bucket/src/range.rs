//! The part of an object that a request wants (RFC 9110, section 14).

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// The first byte.
    pub(crate) start: u64,
    /// How many bytes; zero only for an empty object.
    pub(crate) length: u64,
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: there is no range, or one that is answered with the whole, as S3 does.
    Whole,
    /// A part.
    Part(ByteRange),
    /// A part that the object does not have.
    Nothing,
}

/// Reads a `Range` header for an object of this size.
///
/// Several ranges in one header, other units and nonsense are answered with the whole object.
pub(crate) fn read(header: Option<&str>, size: u64) -> Wanted {
    let spec = header.and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.split_once('-')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| -> Option<Option<u64>> {
        let text = text.trim();
        if text.is_empty() {
            return Some(None);
        }
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        // A number that is too large for us is beyond any object.
        is_number.then(|| Some(text.parse().unwrap_or(u64::MAX)))
    };
    let (Some(first), Some(last)) = (number(first), number(last)) else { return Wanted::Whole };
    match (first, last) {
        (None, None) => Wanted::Whole,
        (Some(first), Some(last)) if last < first => Wanted::Whole,
        (Some(first), _) if first >= size => Wanted::Nothing,
        (Some(first), last) => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Wanted::Part(ByteRange { start: first, length: end - first })
        }
        (None, Some(length)) if length == 0 || size == 0 => Wanted::Nothing,
        (None, Some(length)) => {
            let length = length.min(size);
            Wanted::Part(ByteRange { start: size - length, length })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, Wanted, read};

    #[test]
    fn ranges_mean_what_the_standard_says() {
        let part = |start, length| Wanted::Part(ByteRange { start, length });
        for (header, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=2-4", 10, part(2, 3)),
            ("bytes=2-", 10, part(2, 8)),
            ("bytes=2-99999999999999999999", 10, part(2, 8)),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-30", 10, part(0, 10)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=4-2", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("lines=0-1", 10, Wanted::Whole),
        ] {
            assert_eq!(read(Some(header), size), expected, "{header} of {size}");
        }
        assert_eq!(read(None, 10), Wanted::Whole);
    }
}
