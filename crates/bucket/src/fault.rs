//! What S3 clients are told when a request is refused or fails: a code, a status, a sentence.

use std::borrow::Cow;
use std::io;

use http::StatusCode;

/// The codes of the S3 interface that this store uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    AccessControlListNotSupported,
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParameters,
    BadDigest,
    BucketAlreadyOwnedByYou,
    EntityTooLarge,
    EntityTooSmall,
    IncompleteBody,
    InternalError,
    InvalidAccessKeyId,
    InvalidArgument,
    InvalidDigest,
    InvalidPart,
    InvalidPartOrder,
    InvalidRange,
    InvalidRequest,
    InvalidUri,
    KeyTooLong,
    MalformedXml,
    MetadataTooLarge,
    MethodNotAllowed,
    MissingContentLength,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NotImplemented,
    PreconditionFailed,
    RequestTimeTooSkewed,
    RequestTimeout,
    SignatureDoesNotMatch,
    SlowDown,
    StorageFull,
    ContentSha256Mismatch,
}

impl Code {
    /// Returns the code's name and status, as S3 has them; `StorageFull` is ours, because AWS is
    /// never full.
    const fn name_and_status(self) -> (&'static str, StatusCode) {
        match self {
            Self::AccessControlListNotSupported => {
                ("AccessControlListNotSupported", StatusCode::BAD_REQUEST)
            }
            Self::AccessDenied => ("AccessDenied", StatusCode::FORBIDDEN),
            Self::AuthorizationHeaderMalformed => {
                ("AuthorizationHeaderMalformed", StatusCode::BAD_REQUEST)
            }
            Self::AuthorizationQueryParameters => {
                ("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST)
            }
            Self::BadDigest => ("BadDigest", StatusCode::BAD_REQUEST),
            Self::BucketAlreadyOwnedByYou => ("BucketAlreadyOwnedByYou", StatusCode::CONFLICT),
            Self::EntityTooLarge => ("EntityTooLarge", StatusCode::BAD_REQUEST),
            Self::EntityTooSmall => ("EntityTooSmall", StatusCode::BAD_REQUEST),
            Self::IncompleteBody => ("IncompleteBody", StatusCode::BAD_REQUEST),
            Self::InternalError => ("InternalError", StatusCode::INTERNAL_SERVER_ERROR),
            Self::InvalidAccessKeyId => ("InvalidAccessKeyId", StatusCode::FORBIDDEN),
            Self::InvalidArgument => ("InvalidArgument", StatusCode::BAD_REQUEST),
            Self::InvalidDigest => ("InvalidDigest", StatusCode::BAD_REQUEST),
            Self::InvalidPart => ("InvalidPart", StatusCode::BAD_REQUEST),
            Self::InvalidPartOrder => ("InvalidPartOrder", StatusCode::BAD_REQUEST),
            Self::InvalidRange => ("InvalidRange", StatusCode::RANGE_NOT_SATISFIABLE),
            Self::InvalidRequest => ("InvalidRequest", StatusCode::BAD_REQUEST),
            Self::InvalidUri => ("InvalidURI", StatusCode::BAD_REQUEST),
            Self::KeyTooLong => ("KeyTooLongError", StatusCode::BAD_REQUEST),
            Self::MalformedXml => ("MalformedXML", StatusCode::BAD_REQUEST),
            Self::MetadataTooLarge => ("MetadataTooLarge", StatusCode::BAD_REQUEST),
            Self::MethodNotAllowed => ("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::MissingContentLength => ("MissingContentLength", StatusCode::LENGTH_REQUIRED),
            Self::NoSuchBucket => ("NoSuchBucket", StatusCode::NOT_FOUND),
            Self::NoSuchKey => ("NoSuchKey", StatusCode::NOT_FOUND),
            Self::NoSuchUpload => ("NoSuchUpload", StatusCode::NOT_FOUND),
            Self::NotImplemented => ("NotImplemented", StatusCode::NOT_IMPLEMENTED),
            Self::PreconditionFailed => ("PreconditionFailed", StatusCode::PRECONDITION_FAILED),
            Self::RequestTimeTooSkewed => ("RequestTimeTooSkewed", StatusCode::FORBIDDEN),
            Self::RequestTimeout => ("RequestTimeout", StatusCode::BAD_REQUEST),
            Self::SignatureDoesNotMatch => ("SignatureDoesNotMatch", StatusCode::FORBIDDEN),
            Self::SlowDown => ("SlowDown", StatusCode::SERVICE_UNAVAILABLE),
            Self::StorageFull => ("StorageFull", StatusCode::INSUFFICIENT_STORAGE),
            Self::ContentSha256Mismatch => ("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST),
        }
    }

    /// Returns the name of the code, as it stands in answers.
    pub(crate) const fn name(self) -> &'static str {
        self.name_and_status().0
    }

    /// Returns the status of answers with this code.
    pub(crate) const fn status(self) -> StatusCode {
        self.name_and_status().1
    }
}

/// Why a request was refused or failed, in a form that may be shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub(crate) struct Fault {
    /// What a program looks at.
    pub(crate) code: Code,
    /// What a person reads.
    pub(crate) message: Cow<'static, str>,
}

impl Fault {
    /// Makes a fault.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Says that this store leaves a part of the S3 interface out.
    pub(crate) fn left_out(what: &str) -> Self {
        Self::new(Code::NotImplemented, format!("{what} is not a part of this store"))
    }

    /// Turns a failure of the disk into what the client is told; the details are for the log.
    pub(crate) fn of_disk(doing: &'static str, error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            tracing::error!(doing, %error, "The disk of the store is full");
            return Self::full();
        }
        tracing::error!(doing, %error, "The disk of the store failed");
        Self::internal()
    }

    /// Turns a failure of the index into what the client is told; the details are for the log.
    pub(crate) fn of_index(error: &rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            tracing::error!(%error, "The disk of the store is full");
            return Self::full();
        }
        tracing::error!(%error, "The index of the store failed");
        Self::internal()
    }

    /// Says that there is no room left.
    pub(crate) fn full() -> Self {
        Self::new(Code::StorageFull, "the disk of the store is full; nothing was stored")
    }

    /// Says that something broke which the client cannot mend.
    pub(crate) fn internal() -> Self {
        Self::new(Code::InternalError, "the store failed; its log says why")
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::of_index(&error)
    }
}
