//! What a store did not do, told so that an operator knows what to change.

use std::time::SystemTime;

use http::StatusCode;

/// Says why a request to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("there is no object `{0}`")]
    NotFound(String),
    /// A condition of the request does not hold: somebody else was first.
    #[error("the object `{0}` was changed by somebody else")]
    Changed(String),
    /// There is no such bucket.
    #[error("there is no bucket `{0}`; create it, or correct the bucket's name")]
    NoBucket(String),
    /// The server does not believe that it is us, or does not let us.
    #[error(
        "the server of bucket `{bucket}` refuses our keys ({code}); correct the access key, or \
         allow it to read, list and write the bucket"
    )]
    Credentials {
        /// The bucket.
        bucket: String,
        /// What the server calls it.
        code: String,
    },
    /// There are no keys to sign with.
    #[error("there are no keys for bucket `{bucket}`: {reason}")]
    NoCredentials {
        /// The bucket.
        bucket: String,
        /// What the search for them found.
        reason: String,
    },
    /// The clocks differ too much for signatures.
    #[error(
        "this machine's clock is {} s {} the clock of the server of bucket `{bucket}`, which refuses \
         requests; set the clock (NTP)",
        seconds.unsigned_abs(), if *seconds < 0 { "behind" } else { "ahead of" }
    )]
    ClockSkew {
        /// The bucket.
        bucket: String,
        /// How much later it is here.
        seconds: i64,
    },
    /// The server cannot be reached, or does not answer.
    #[error("the server of bucket `{bucket}` at `{address}` does not answer: {reason}")]
    Unreachable {
        /// The bucket.
        bucket: String,
        /// The server.
        address: String,
        /// What was seen.
        reason: String,
    },
    /// Whoever answers there is not believed to be the server.
    #[error("the server of bucket `{bucket}` at `{address}` is not trusted: {reason}")]
    Untrusted {
        /// The bucket.
        bucket: String,
        /// The server.
        address: String,
        /// What is wrong with its certificate, and what to do.
        reason: String,
    },
    /// The server says no for another reason.
    #[error("the server of bucket `{bucket}` answers {status} ({code}) to {action}")]
    Refused {
        /// The bucket.
        bucket: String,
        /// What was asked.
        action: String,
        /// The HTTP status.
        status: StatusCode,
        /// What the server calls it.
        code: String,
    },
    /// The answer is not what the interface promises.
    #[error("the server of bucket `{bucket}` answers {action} with something else: {reason}")]
    Garbled {
        /// The bucket.
        bucket: String,
        /// What was asked.
        action: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Returns whether the server may be well again without anybody doing anything.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Untrusted { .. } => true,
            Self::Refused { status, .. } => status.is_server_error() || is_too_many(*status),
            _ => false,
        }
    }

    /// Returns whether the same request may have another outcome when it is sent again.
    pub(crate) fn is_worth_retrying(&self) -> bool {
        let passes = self.is_outage() && !matches!(self, Self::Untrusted { .. });
        passes || matches!(self, Self::Garbled { .. })
    }
}

fn is_too_many(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
}

/// What is known of an answer that is not a good one.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    pub(crate) action: &'a str,
    pub(crate) status: StatusCode,
    /// From the body; empty when there was none.
    pub(crate) code: &'a str,
    /// The server's clock, when it told it.
    pub(crate) server_time: Option<SystemTime>,
    pub(crate) now: SystemTime,
}

impl Refusal<'_> {
    /// Tells what an answer means.
    /// Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    pub(crate) fn meaning(&self) -> StoreError {
        let bucket = self.bucket.to_owned();
        let code = if self.code.is_empty() { "no code".to_owned() } else { self.code.to_owned() };
        match (self.code, self.status.as_u16()) {
            ("NoSuchBucket", _) => StoreError::NoBucket(bucket),
            ("RequestTimeTooSkewed", _) => {
                StoreError::ClockSkew { bucket, seconds: self.skew_seconds() }
            }
            // A response to HEAD has no body, so the clocks are all there is to tell these apart.
            ("", 403) if self.skew_seconds().unsigned_abs() > SKEW_SECONDS_MAX => {
                StoreError::ClockSkew { bucket, seconds: self.skew_seconds() }
            }
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "AccessDenied"
                | "ExpiredToken"
                | "InvalidToken"
                | "AllAccessDisabled"
                | "AccountProblem",
                _,
            )
            | (_, 401 | 403) => StoreError::Credentials { bucket, code },
            (_, 404) => StoreError::NotFound(self.key.to_owned()),
            ("ConditionalRequestConflict" | "PreconditionFailed", _) | (_, 412) => {
                StoreError::Changed(self.key.to_owned())
            }
            _ => StoreError::Refused {
                bucket,
                action: self.action.to_owned(),
                status: self.status,
                code,
            },
        }
    }

    fn skew_seconds(&self) -> i64 {
        let Some(server) = self.server_time else { return 0 };
        let seconds = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.now.duration_since(server) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => -seconds(behind.duration()),
        }
    }
}

/// Servers refuse signatures that are older than this.
const SKEW_SECONDS_MAX: u64 = 900;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn meaning(status: u16, code: &str, server_is_ahead_by: i64) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let server = u64::try_from(1_000_000 + server_is_ahead_by).unwrap();
        Refusal {
            bucket: "shop",
            key: "a.jpg",
            action: "HEAD",
            status: StatusCode::from_u16(status).unwrap(),
            code,
            server_time: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(server)),
            now,
        }
        .meaning()
        .to_string()
    }

    #[test]
    fn each_fault_has_one_message_that_says_what_to_change() {
        let cases = [
            (404, "NoSuchBucket", 0, "there is no bucket `shop`; create it"),
            (403, "InvalidAccessKeyId", 0, "refuses our keys (InvalidAccessKeyId); correct the"),
            (403, "SignatureDoesNotMatch", 0, "refuses our keys (SignatureDoesNotMatch)"),
            (403, "", 0, "refuses our keys (no code)"),
            (403, "RequestTimeTooSkewed", 7200, "clock is 7200 s behind the clock of the server"),
            (403, "", -7200, "clock is 7200 s ahead of the clock of the server"),
            (404, "NoSuchKey", 0, "there is no object `a.jpg`"),
            (412, "", 0, "`a.jpg` was changed by somebody else"),
            (409, "ConditionalRequestConflict", 0, "`a.jpg` was changed by somebody else"),
            (503, "SlowDown", 0, "answers 503 Service Unavailable (SlowDown) to HEAD"),
        ];
        for (status, code, ahead, part) in cases {
            let text = meaning(status, code, ahead);
            assert!(text.contains(part), "{status} {code}: {text}");
        }
    }
}
