//! What is known of the bucket itself: that it is there, private, and without versions.

use http::StatusCode;

use crate::answer::{Answer, document, empty};
use crate::call::Call;
use crate::fault::{Code, Fault};
use crate::listings::write_owner;
use crate::timestamp::Timestamp;
use crate::xml::Xml;

/// Lists the one bucket.
pub(crate) fn list_buckets(call: &Call) -> Answer {
    document(Xml::document("ListAllMyBucketsResult", |xml| {
        write_owner(xml, "Owner");
        xml.element("Buckets", |xml| {
            xml.element("Bucket", |xml| {
                xml.text("Name", &call.store.bucket);
                xml.text("CreationDate", &Timestamp(0).iso());
            });
        });
    }))
}

/// Says that the bucket is there.
pub(crate) fn head() -> Answer {
    empty(StatusCode::OK)
}

/// Answers who would make the bucket.
///
/// # Errors
/// It is there already, and always was.
pub(crate) fn create() -> Result<Answer, Fault> {
    Err(Fault::new(Code::BucketAlreadyOwnedByYou, "the bucket is there already, and it is yours"))
}

/// Says where the bucket is: nowhere in particular.
pub(crate) fn location() -> Answer {
    document(Xml::document("LocationConstraint", |_xml| {}))
}

/// Says that objects have no versions.
pub(crate) fn versioning() -> Answer {
    document(Xml::document("VersioningConfiguration", |_xml| {}))
}

/// Says that only the owner may do anything.
pub(crate) fn acl() -> Answer {
    document(Xml::document("AccessControlPolicy", |xml| {
        write_owner(xml, "Owner");
        xml.element("AccessControlList", |xml| {
            xml.element("Grant", |xml| {
                write_owner(xml, "Grantee");
                xml.text("Permission", "FULL_CONTROL");
            });
        });
    }))
}
