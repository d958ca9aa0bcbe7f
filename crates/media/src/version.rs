//! One version of a file, as it is stored.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::store::{Appends, Object};

/// A version of a file in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The object's `ETag`.
    pub(crate) etag: String,
    /// Bytes.
    pub(crate) size: u64,
    /// The time of the last change, the same on every instance.
    pub(crate) modified: SystemTime,
    /// The permission bits; `None` for the usual ones.
    pub(crate) mode: Option<u16>,
    /// The tails that are in it.
    pub(crate) appends: Appends,
}

impl Version {
    pub(crate) fn of(object: &Object) -> Self {
        Self {
            etag: object.etag.clone(),
            size: object.size,
            modified: object
                .metadata
                .modified
                .or(object.stored_at)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            mode: object.metadata.mode,
            appends: object.metadata.appends.clone(),
        }
    }
}

/// Returns the content type that goes with a name; browsers get it from the bucket through a CDN.
pub(crate) fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "avif" => "image/avif",
        "css" => "text/css",
        "csv" => "text/csv",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "gif" => "image/gif",
        "gz" | "tgz" => "application/gzip",
        "heic" => "image/heic",
        "ico" => "image/x-icon",
        "jpeg" | "jpg" => "image/jpeg",
        "js" => "text/javascript",
        "json" => "application/json",
        "m4a" => "audio/mp4",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "oga" | "ogg" => "audio/ogg",
        "ogv" => "video/ogg",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "ppt" => "application/vnd.ms-powerpoint",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "svg" => "image/svg+xml",
        "txt" | "log" => "text/plain",
        "wav" => "audio/wav",
        "webm" => "video/webm",
        "webp" => "image/webp",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xml" => "application/xml",
        "zip" => "application/zip",
        // Not one that a browser would run.
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn a_name_tells_its_type_and_unknown_ones_are_not_run() {
        assert_eq!(content_type("2026/11/Photo.JPG"), "image/jpeg");
        for name in ["x.html", "x.php", "x", "x.", ".htaccess"] {
            assert_eq!(content_type(name), "application/octet-stream", "{name}");
        }
    }
}
