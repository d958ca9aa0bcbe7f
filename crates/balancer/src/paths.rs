//! What a request path says by itself: who may ask for it, and whether a file answers it.

use std::borrow::Cow;

/// Endings of files that a slot's nginx serves without PHP.
const STATIC_EXTENSIONS: [&str; 33] = [
    "avif", "bmp", "css", "cur", "eot", "flac", "gif", "gz", "ico", "jpeg", "jpg", "js", "m4a",
    "m4v", "map", "mjs", "mov", "mp3", "mp4", "ogg", "ogv", "otf", "pdf", "png", "svg", "ttf",
    "wasm", "wav", "webm", "webp", "woff", "woff2", "zip",
];

/// Returns whether the path is one that only the fleet itself may ask a slot for.
///
/// The path is looked at as nginx will see it, decoded once, and wherever the name stands, so that
/// neither `//`, `..` nor `%2e` goes round it.
pub(crate) fn is_internal(path: &str) -> bool {
    if !path.contains("lotilla") && !path.contains('%') {
        return false;
    }
    let decoded = decode(path);
    decoded.split(|byte| *byte == b'/').any(|segment| segment == b".flotilla")
}

/// Returns whether a file most likely answers the path, so that a hold need not stop it. When there is
/// no such file, PHP answers; only the slot's nginx can tell.
pub(crate) fn is_static(path: &str) -> bool {
    let decoded = decode(path);
    let mut segments = decoded.split(|byte| *byte == b'/');
    let Some(name) = segments.clone().next_back() else { return false };
    let has_php = segments.any(|segment| segment.to_ascii_lowercase().ends_with(b".php"));
    let extension = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    !has_php
        && extension.len() < name.len()
        && STATIC_EXTENSIONS.iter().any(|one| extension.eq_ignore_ascii_case(one.as_bytes()))
}

fn decode(path: &str) -> Cow<'_, [u8]> {
    if !path.contains('%') {
        return Cow::Borrowed(path.as_bytes());
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => {
                    decoded.push(b'%');
                    rest = tail;
                }
            },
            (byte, _) => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleets_own_paths_are_known_in_every_spelling() {
        for path in [
            "/.flotilla/health",
            "/.flotilla",
            "//.flotilla/health",
            "/x/../.flotilla/health",
            "/%2eflotilla/health",
            "/.%66lotilla/health",
            "/.flotilla%2Fhealth",
        ] {
            assert!(is_internal(path), "{path}");
        }
        for path in ["/", "/flotilla/", "/.flotilla-theme/", "/%", "/%zz", "/a%20b"] {
            assert!(!is_internal(path), "{path}");
        }
    }

    #[test]
    fn static_files_are_told_from_php_by_their_path() {
        for path in ["/wp-content/a.css", "/a/B.PNG", "/wp-includes/js/x.min.js", "/a%2ecss"] {
            assert!(is_static(path), "{path}");
        }
        for path in [
            "/",
            "/shop/",
            "/index.php",
            "/index.php/a.css",
            "/index%2ephp/a.css",
            "/wp-json/wp/v2/posts",
            "/robots.txt",
            "/sitemap.xml",
            "/css",
            "/a.css/",
        ] {
            assert!(!is_static(path), "{path}");
        }
    }
}
