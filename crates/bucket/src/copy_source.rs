//! What a copy is made of.

use percent_encoding::percent_decode_str;

use crate::call::Call;
use crate::fault::{Code, Fault};
use crate::key::Key;

/// Reads the header that names the source of a copy: `/bucket/key`, encoded.
///
/// # Errors
/// It is missing or broken, or names another bucket.
pub(crate) fn read(call: &Call) -> Result<Key, Fault> {
    let text = call.header("x-amz-copy-source").unwrap_or_default();
    if text.contains("?versionId=") {
        return Err(Fault::left_out("versioning"));
    }
    let decoded: Vec<u8> = percent_decode_str(text).collect();
    let path = decoded.strip_prefix(b"/").unwrap_or(&decoded);
    let slash = path.iter().position(|byte| *byte == b'/');
    let parts = slash.and_then(|slash| Some((path.get(..slash)?, path.get(slash + 1..)?)));
    let (bucket, key) = parts.ok_or_else(|| {
        Fault::new(Code::InvalidArgument, "`x-amz-copy-source` is not `bucket/key`")
    })?;
    if bucket != call.store.bucket.as_bytes() {
        return Err(Fault::new(Code::NoSuchBucket, "the source of the copy is in another bucket"));
    }
    Key::new(key)
}
