//! The `aws-chunked` form of bodies: pieces with their length in front, perhaps signed, and perhaps
//! a checksum after the last one.

use sha2::{Digest, Sha256};

use crate::fault::{Code, Fault};
use crate::signature::Signer;

/// The head of a piece and a line after the last one are shorter than this.
const LINE_BYTES_MAX: usize = 1_024;
const LENGTH_DIGITS_MAX: usize = 15;
const SIGNATURE: &str = "chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// What the signatures of pieces are checked with.
#[derive(Debug, Clone)]
pub(crate) struct ChunkSignatures {
    /// Signs for the time and scope of the request.
    pub(crate) signer: Signer,
    /// The signature of the piece before; at first that of the request.
    pub(crate) previous: String,
}

/// Takes the pieces apart.
#[derive(Debug)]
pub(crate) struct Chunks {
    signatures: Option<ChunkSignatures>,
    has_trailer: bool,
    state: State,
    line: Vec<u8>,
    /// The signature that the present piece must have, and the digest of what came of it.
    claimed: String,
    digest: Sha256,
    trailer: Option<(String, String)>,
    is_trailer_verified: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line before a piece.
    Head,
    /// In a piece, of which this much is missing.
    Data(u64),
    /// In the line end after a piece.
    DataEnd,
    /// After the last piece.
    Trailer,
    /// Behind it all.
    Done,
}

impl Chunks {
    /// Begins a body.
    pub(crate) fn new(signatures: Option<ChunkSignatures>, has_trailer: bool) -> Self {
        Self {
            signatures,
            has_trailer,
            state: State::Head,
            line: Vec::new(),
            claimed: String::new(),
            digest: Sha256::new(),
            trailer: None,
            is_trailer_verified: false,
        }
    }

    /// Takes in bytes as they came, and hands on those that are content.
    ///
    /// # Errors
    /// The form is broken, a signature is wrong, or `take` failed.
    pub(crate) fn absorb(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.state {
                State::Data(missing) => {
                    let count = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
                    let (data, rest) = bytes.split_at(count);
                    if self.signatures.is_some() {
                        self.digest.update(data);
                    }
                    take(data)?;
                    bytes = rest;
                    let missing = missing - u64::try_from(count).unwrap_or(missing);
                    if missing == 0 {
                        self.check_piece()?;
                        self.state = State::DataEnd;
                    } else {
                        self.state = State::Data(missing);
                    }
                }
                State::Done => return Err(broken("there is something behind the end of the body")),
                State::Head | State::DataEnd | State::Trailer => {
                    let Some(rest) = self.collect_line(bytes)? else { return Ok(()) };
                    bytes = rest;
                    let line = std::mem::take(&mut self.line);
                    let line = std::str::from_utf8(&line)
                        .map_err(|_error| broken("a line between pieces is not text"))?;
                    self.read_line(line.trim_end_matches('\r'))?;
                }
            }
        }
        Ok(())
    }

    /// Returns the line that followed the body.
    ///
    /// # Errors
    /// The body is not complete, or a line is missing or not signed.
    pub(crate) fn finish(self) -> Result<Option<(String, String)>, Fault> {
        // Some clients leave out the empty line at the very end.
        let is_whole = self.state == State::Done
            || self.state == State::Trailer && self.line.iter().all(|byte| *byte == b'\r');
        if !is_whole {
            return Err(Fault::new(Code::IncompleteBody, "the body ends before its last piece"));
        }
        if self.has_trailer && self.trailer.is_none() {
            return Err(broken("the checksum after the body is missing"));
        }
        if self.has_trailer && self.signatures.is_some() && !self.is_trailer_verified {
            return Err(unsigned_trailer());
        }
        Ok(self.trailer)
    }

    /// Collects bytes up to the end of the line; `None` when it has not come yet.
    fn collect_line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = match end {
            Some(end) => (bytes.get(..end), bytes.get(end + 1..)),
            None => (Some(bytes), None),
        };
        self.line.extend_from_slice(line.unwrap_or_default());
        if self.line.len() > LINE_BYTES_MAX {
            return Err(broken("a line between pieces is too long"));
        }
        Ok(rest)
    }

    fn read_line(&mut self, line: &str) -> Result<(), Fault> {
        match self.state {
            State::DataEnd if line.is_empty() => self.state = State::Head,
            State::DataEnd => return Err(broken("a piece is longer than its head says")),
            State::Head => self.read_head(line)?,
            State::Trailer => self.read_trailer(line)?,
            State::Data(_) | State::Done => {}
        }
        Ok(())
    }

    fn read_head(&mut self, line: &str) -> Result<(), Fault> {
        let (length, extension) = line.split_once(';').unwrap_or((line, ""));
        let is_length = !length.is_empty()
            && length.len() <= LENGTH_DIGITS_MAX
            && length.bytes().all(|byte| byte.is_ascii_hexdigit());
        let length = is_length.then(|| u64::from_str_radix(length, 16).ok()).flatten();
        let length = length.ok_or_else(|| broken("the head of a piece has no length"))?;
        if self.signatures.is_some() {
            let claimed = extension.trim().strip_prefix(SIGNATURE);
            claimed.ok_or_else(|| broken("a piece is not signed"))?.clone_into(&mut self.claimed);
        }
        if length > 0 {
            self.state = State::Data(length);
            return Ok(());
        }
        self.check_piece()?;
        self.state = State::Trailer;
        Ok(())
    }

    fn check_piece(&mut self) -> Result<(), Fault> {
        let Some(signatures) = &mut self.signatures else { return Ok(()) };
        let digest = std::mem::take(&mut self.digest);
        signatures.signer.check_chunk(&signatures.previous, digest, &self.claimed)?;
        signatures.previous.clone_from(&self.claimed);
        Ok(())
    }

    fn read_trailer(&mut self, line: &str) -> Result<(), Fault> {
        if line.is_empty() {
            // Between the checksum and its signature there may be an empty line.
            let awaits_signature = self.has_trailer && self.signatures.is_some();
            if !awaits_signature || self.is_trailer_verified {
                self.state = State::Done;
            }
            return Ok(());
        }
        let pair = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) = pair.ok_or_else(|| broken("a line after the body has no name"))?;
        if !self.has_trailer {
            return Err(broken("there is a line after the body that was not announced"));
        }
        if name.eq_ignore_ascii_case(TRAILER_SIGNATURE) {
            let signed = self.trailer.as_ref().map(|(name, value)| format!("{name}:{value}\n"));
            let (Some(signatures), Some(signed)) = (&self.signatures, signed) else {
                return Err(unsigned_trailer());
            };
            signatures.signer.check_trailer(&signatures.previous, &signed, value)?;
            self.is_trailer_verified = true;
        } else if self.trailer.is_none() {
            self.trailer = Some((name.to_ascii_lowercase(), value.to_owned()));
        } else {
            return Err(broken("there is more than one checksum after the body"));
        }
        Ok(())
    }
}

fn unsigned_trailer() -> Fault {
    Fault::new(Code::SignatureDoesNotMatch, "the checksum after the body is not signed")
}

fn broken(why: &'static str) -> Fault {
    Fault::new(Code::InvalidRequest, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ChunkSignatures, Chunks};
    use crate::fault::{Code, Fault};
    use crate::signature::{Scope, Signer};

    type Decoded = Result<(Vec<u8>, Option<(String, String)>), Fault>;

    fn decode(mut chunks: Chunks, body: &[u8], step: usize) -> Decoded {
        let mut content = Vec::new();
        for piece in body.chunks(step) {
            chunks.absorb(piece, &mut |bytes| {
                content.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok((content, chunks.finish()?))
    }

    /// The signed upload in pieces of Amazon's documentation.
    fn documented() -> (Chunks, Vec<u8>) {
        let scope = Scope { day: "20130524".to_owned(), region: "us-east-1".to_owned() };
        let secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let signer = Signer::new(secret_key, &scope, "20130524T000000Z");
        let previous =
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned();
        let chunks = Chunks::new(Some(ChunkSignatures { signer, previous }), false);
        let mut body = Vec::new();
        for (size, signature) in [
            (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            body.extend(format!("{size:x};chunk-signature={signature}\r\n").bytes());
            body.extend(std::iter::repeat_n(b'a', size));
            body.extend(b"\r\n");
        }
        (chunks, body)
    }

    #[test]
    fn the_example_of_the_documentation_is_accepted() {
        for step in [1, 7, 1_000_000] {
            let (chunks, body) = documented();
            let (content, trailer) = decode(chunks, &body, step).unwrap();
            assert_eq!(content, vec![b'a'; 66_560]);
            assert_eq!(trailer, None);
        }
    }

    #[test]
    fn one_changed_byte_is_noticed() {
        let (chunks, mut body) = documented();
        body[70_000 - 4_000] = b'b';
        let fault = decode(chunks, &body, 4_096).unwrap_err();
        assert_eq!(fault.code, Code::SignatureDoesNotMatch);
    }

    #[test]
    fn a_body_that_was_cut_off_is_noticed() {
        let (_, body) = documented();
        for end in [0, 10, 1_000, 66_000, body.len() - 90] {
            let (chunks, _) = documented();
            assert!(decode(chunks, &body[..end], 4_096).is_err(), "{end}");
        }
    }

    #[test]
    fn a_checksum_after_the_body_is_found() {
        let body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
        let (content, trailer) = decode(Chunks::new(None, true), body, 3).unwrap();
        assert_eq!(content, b"hello");
        assert_eq!(trailer.unwrap().1, "NhCmhg==");
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        assert!(decode(Chunks::new(None, true), body, 3).is_err());
        let body = b"5\r\nhello\r\n0\r\n\r\nx";
        assert!(decode(Chunks::new(None, false), body, 3).is_err());
        let body = b"4\r\nhello\r\n0\r\n\r\n";
        assert!(decode(Chunks::new(None, false), body, 3).is_err());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_content(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            step in 1_usize..64,
        ) {
            let mut body = Vec::new();
            for piece in &pieces {
                body.extend(format!("{:x}\r\n", piece.len()).bytes());
                body.extend(piece);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let (content, _) = decode(Chunks::new(None, false), &body, step).unwrap();
            prop_assert_eq!(content, pieces.concat());
        }

        #[test]
        fn nonsense_is_refused_or_ends(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(Chunks::new(None, true), &body, 5));
        }
    }
}
