//! From any error to what is printed: a message with its causes, a kind, a hint.

use flotilla_core::error::{ErrorKind, Failure};
use flotilla_targets::local::layout::LayoutError;
use flotilla_targets::local::teardown::TeardownError;

/// Makes the failure that is shown; errors that nobody gave a kind count as a fault of flotilla
/// unless the machine or the file system is to blame.
pub(crate) fn of(error: &anyhow::Error) -> Failure {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let message = format!("{error:#}");
    match found {
        Some(failure) => Failure { message, ..failure.clone() },
        None if matches!(
            error.downcast_ref(),
            Some(TeardownError::Layout(LayoutError::NotOurs(_)))
        ) || matches!(error.downcast_ref(), Some(LayoutError::NotOurs(_))) =>
        {
            configuration(message).with_hint("`target.data_dir` in flotilla.toml names it")
        }
        None if error.chain().any(|cause| cause.is::<std::io::Error>()) => {
            Failure::new(ErrorKind::Unavailable, message)
        }
        None => Failure::new(ErrorKind::Bug, message),
    }
}

/// The configuration or the machine's set-up is wrong.
pub(crate) fn configuration(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Configuration, message)
}

/// Something that is needed does not answer.
pub(crate) fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Unavailable, message)
}
