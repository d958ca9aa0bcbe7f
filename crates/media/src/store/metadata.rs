//! What an object remembers of the file it stands for, in its user metadata.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::appends::Appends;

/// The time of the last change in seconds, with a fraction; the name and form that rclone uses.
const MTIME: HeaderName = HeaderName::from_static("x-amz-meta-mtime");
/// The permission bits, in octal.
const MODE: HeaderName = HeaderName::from_static("x-amz-meta-mode");
/// The content's SHA-256 in hexadecimal, where it was known when the object was stored.
const SHA256: HeaderName = HeaderName::from_static("x-amz-meta-sha256");
/// A random number, to know our own write again when its answer was lost.
const WRITE: HeaderName = HeaderName::from_static("x-amz-meta-flotilla-write");
/// The tails that were appended last; see [`Appends`].
const APPENDS: HeaderName = HeaderName::from_static("x-amz-meta-flotilla-appends");

/// What an object says of its file besides the content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// When the file was last changed; `None` when whoever stored it did not say.
    pub modified: Option<SystemTime>,
    /// Its permission bits; `None` for the usual ones.
    pub mode: Option<u16>,
    /// The digest of its content.
    pub sha256: Option<String>,
    pub(crate) write: Option<String>,
    pub(crate) appends: Appends,
}

impl Metadata {
    /// Reads the headers of an answer; what cannot be understood counts as absent.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            modified: text(&MTIME).and_then(read_time),
            mode: text(&MODE).and_then(|mode| u16::from_str_radix(mode, 8).ok()),
            sha256: text(&SHA256).filter(|digest| digest.len() == 64).map(str::to_owned),
            write: text(&WRITE).map(str::to_owned),
            appends: text(&APPENDS).map(Appends::read).unwrap_or_default(),
        }
    }

    /// Writes the headers of a request.
    pub(crate) fn write_to(&self, headers: &mut HeaderMap) {
        let mut insert = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        if let Some(modified) = self.modified {
            insert(MTIME, write_time(modified));
        }
        if let Some(mode) = self.mode {
            insert(MODE, format!("{mode:o}"));
        }
        if let Some(digest) = &self.sha256 {
            insert(SHA256, digest.clone());
        }
        if let Some(write) = &self.write {
            insert(WRITE, write.clone());
        }
        if !self.appends.is_empty() {
            insert(APPENDS, self.appends.to_string());
        }
    }
}

fn write_time(time: SystemTime) -> String {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => format!("{}.{:09}", after.as_secs(), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            format!("-{}.{:09}", before.as_secs(), before.subsec_nanos())
        }
    }
}

fn read_time(text: &str) -> Option<SystemTime> {
    let (is_before, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let time = Duration::new(seconds.parse().ok()?, digits.parse().ok()?);
    if is_before {
        SystemTime::UNIX_EPOCH.checked_sub(time)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        let times = [
            at(0),
            at(1_700_000_000_000_000_001),
            SystemTime::UNIX_EPOCH - Duration::from_millis(1),
        ];
        for time in times {
            let metadata = Metadata {
                modified: Some(time),
                mode: Some(0o640),
                sha256: Some("a".repeat(64)),
                write: Some("7".to_owned()),
                appends: Appends::read("5-1"),
            };
            let mut headers = HeaderMap::new();
            metadata.write_to(&mut headers);
            assert_eq!(Metadata::read(&headers), metadata);
        }
    }

    #[test]
    fn times_of_other_programs_are_understood() {
        let seconds = Duration::from_secs(1_700_000_000);
        assert_eq!(read_time("1700000000"), Some(SystemTime::UNIX_EPOCH + seconds));
        let fraction = seconds + Duration::from_millis(250);
        assert_eq!(read_time("1700000000.25"), Some(SystemTime::UNIX_EPOCH + fraction));
        for text in ["", "x", "1.x", "99999999999999999999"] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }
}
