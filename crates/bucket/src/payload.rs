//! The body of a request: taken out of its transfer form and held to what was said of it.

use std::io;

use http::HeaderMap;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::checksum::{Algorithm, Hasher, read_content_md5, unhex};
use crate::chunked::{ChunkSignatures, Chunks};
use crate::fault::{Code, Fault};

/// How the signature of a request covers its body.
#[derive(Debug, Clone)]
pub(crate) enum Protection {
    /// Not at all.
    Unsigned,
    /// By its SHA-256.
    Hash([u8; 32]),
    /// The body comes in pieces of its own form.
    Chunked {
        /// Each piece is signed.
        signatures: Option<ChunkSignatures>,
        /// A checksum follows the body.
        has_trailer: bool,
    },
}

/// What is known of a body that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes it has.
    pub(crate) size: u64,
    /// Its MD5.
    pub(crate) md5: [u8; 16],
    /// The checksum that the client asked for, as S3 writes it.
    pub(crate) checksum: Option<(Algorithm, String)>,
}

/// Takes a body in, piece by piece, and hands on what it means.
#[derive(Debug)]
pub(crate) struct Decoder {
    chunks: Option<Chunks>,
    content: Content,
    size_claimed: u64,
    md5_claimed: Option<[u8; 16]>,
    sha256_claimed: Option<[u8; 32]>,
    checksum_claimed: Option<String>,
    algorithm: Option<Algorithm>,
}

/// The bytes that the client meant, as far as they have come.
#[derive(Debug)]
struct Content {
    size: u64,
    size_max: u64,
    md5: Md5,
    sha256: Option<Sha256>,
    checksum: Option<Hasher>,
}

impl Decoder {
    /// Reads what the headers say of the body.
    ///
    /// # Errors
    /// They say too little, or contradict themselves.
    pub(crate) fn new(headers: &HeaderMap, protection: Protection) -> Result<Self, Fault> {
        let (algorithm, checksum_claimed) = checksum_of(headers)?;
        let (mut chunks, mut sha256_claimed) = (None, None);
        match protection {
            Protection::Unsigned => {}
            Protection::Hash(hash) => sha256_claimed = Some(hash),
            Protection::Chunked { signatures, has_trailer } => {
                chunks = Some(Chunks::new(signatures, has_trailer));
            }
        }
        let length =
            if chunks.is_some() { "x-amz-decoded-content-length" } else { "content-length" };
        let size_claimed = text(headers, length).and_then(|text| text.parse().ok());
        let size_claimed = size_claimed.ok_or_else(|| {
            Fault::new(Code::MissingContentLength, format!("the request has no valid `{length}`"))
        })?;
        let content = Content {
            size: 0,
            size_max: size_claimed,
            md5: Md5::new(),
            sha256: sha256_claimed.map(|_| Sha256::new()),
            checksum: algorithm.map(Hasher::new),
        };
        let md5_claimed = text(headers, "content-md5").map(read_content_md5).transpose()?;
        Ok(Self {
            chunks,
            content,
            size_claimed,
            md5_claimed,
            sha256_claimed,
            checksum_claimed,
            algorithm,
        })
    }

    /// Returns the size that the client has announced.
    pub(crate) const fn size_claimed(&self) -> u64 {
        self.size_claimed
    }

    /// Takes in a piece as it came; what it means is handed to `sink`.
    ///
    /// # Errors
    /// The form is broken, there is too much, or `sink` failed.
    pub(crate) fn absorb(
        &mut self,
        piece: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Fault> {
        let content = &mut self.content;
        let mut take = |bytes: &[u8]| -> Result<(), Fault> {
            content.take(bytes)?;
            sink(bytes).map_err(|error| Fault::of_disk("write", &error))
        };
        match &mut self.chunks {
            None => take(piece),
            Some(chunks) => chunks.absorb(piece, &mut take),
        }
    }

    /// Checks that all has come and that it is what was said of it.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn finish(mut self) -> Result<Received, Fault> {
        let trailer = self.chunks.take().map(Chunks::finish).transpose()?.flatten();
        if let Some((name, value)) = trailer {
            if self.algorithm.is_none() || self.algorithm != Algorithm::of_header(&name) {
                let message = "the trailer is not the one that `x-amz-trailer` names";
                return Err(Fault::new(Code::InvalidRequest, message));
            }
            self.checksum_claimed = Some(value);
        }
        let content = self.content;
        if content.size != self.size_claimed {
            let (size, claimed) = (content.size, self.size_claimed);
            let message = format!("the body has {size} bytes instead of {claimed}");
            return Err(Fault::new(Code::IncompleteBody, message));
        }
        let md5: [u8; 16] = content.md5.finalize().into();
        if self.md5_claimed.is_some_and(|claimed| claimed != md5) {
            return Err(Fault::new(Code::BadDigest, "the body is not what `Content-MD5` says"));
        }
        let sha256: Option<[u8; 32]> = content.sha256.map(|digest| digest.finalize().into());
        if self.sha256_claimed != sha256 {
            let message = "the body is not what `x-amz-content-sha256` says";
            return Err(Fault::new(Code::ContentSha256Mismatch, message));
        }
        let checksum = self.algorithm.zip(content.checksum.map(Hasher::finish));
        match (&checksum, &self.checksum_claimed) {
            (Some((algorithm, value)), Some(claimed)) if value != claimed => {
                let message = format!("the body is not what `{}` says", algorithm.header());
                Err(Fault::new(Code::BadDigest, message))
            }
            _ => Ok(Received { size: content.size, md5, checksum }),
        }
    }
}

impl Content {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.size = self.size.saturating_add(count);
        if self.size > self.size_max {
            let message = format!("the body has more than the {} bytes announced", self.size_max);
            return Err(Fault::new(Code::IncompleteBody, message));
        }
        self.md5.update(bytes);
        if let Some(digest) = &mut self.sha256 {
            digest.update(bytes);
        }
        if let Some(hasher) = &mut self.checksum {
            hasher.update(bytes);
        }
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Finds the checksum that the client sends, and its value when it stands in a header.
fn checksum_of(headers: &HeaderMap) -> Result<(Option<Algorithm>, Option<String>), Fault> {
    let sent =
        Algorithm::ALL.into_iter().filter_map(|one| Some((one, text(headers, one.header())?)));
    let sent: Vec<(Algorithm, &str)> = sent.collect();
    match sent.as_slice() {
        [(algorithm, value)] => {
            let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value);
            if bytes.is_err() {
                let message = format!("`{}` is not base64", algorithm.header());
                return Err(Fault::new(Code::InvalidRequest, message));
            }
            return Ok((Some(*algorithm), Some((*value).to_owned())));
        }
        [] => {}
        _ => return Err(Fault::new(Code::InvalidRequest, "there is more than one checksum")),
    }
    if let Some(trailer) = text(headers, "x-amz-trailer") {
        let algorithm = Algorithm::of_header(trailer);
        let unknown = || Fault::new(Code::InvalidRequest, format!("unknown trailer `{trailer}`"));
        return Ok((Some(algorithm.ok_or_else(unknown)?), None));
    }
    let asked = text(headers, "x-amz-sdk-checksum-algorithm");
    Ok((asked.and_then(Algorithm::named), None))
}

/// Reads the value of `x-amz-content-sha256` when it is a hash.
pub(crate) fn read_hash(text: &str) -> Option<[u8; 32]> {
    unhex(text)?.try_into().ok()
}
