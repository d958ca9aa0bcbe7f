//! Keys in addresses: which bytes must be written as `%XX`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What signatures want encoded in a path, which is all but these.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) fn encode_path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

pub(crate) fn encode_query(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string()
}

/// Decodes a key of a listing with `encoding-type=url`; `None` when it is not text.
pub(crate) fn decode_listed(key: &str) -> Option<String> {
    // Servers write a blank as `+`, as forms do, and a plus always as `%2B`.
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_there_and_back() {
        for key in ["a b+c%20d", "ü/ß.jpg", "x?y=z&w#v", "\u{1}tab\t"] {
            assert_eq!(decode_listed(&encode_query(key)).unwrap(), key);
            assert_eq!(decode_listed(&encode_path(key)).unwrap(), key);
        }
        assert_eq!(encode_path("a/b c"), "a/b%20c");
        assert_eq!(encode_query("a/b c"), "a%2Fb%20c");
    }
}
