//! What people want of a workshop that runs: asked from elsewhere, done in turn with its other work.

use flotilla_core::api::Verdict;
use flotilla_core::capture::CaptureNumber;
use flotilla_core::error::{ErrorKind, Failure};
use tokio::sync::{mpsc, oneshot};

use crate::repository::Author;

/// How many wishes wait.
const WISHES_MAX: usize = 16;

/// What somebody wants, and where the answer goes.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) verdict: Verdict,
    pub(super) number: CaptureNumber,
    pub(super) author: Author,
    pub(super) answer: oneshot::Sender<Result<(), Failure>>,
}

/// The way to a workshop that runs.
#[derive(Debug, Clone)]
pub struct Handle {
    wishes: mpsc::Sender<Wish>,
}

/// What a workshop takes wishes from.
#[derive(Debug)]
pub struct Wishes(mpsc::Receiver<Wish>);

/// Makes the way to a workshop, and what it takes wishes from.
#[must_use]
pub fn handle() -> (Handle, Wishes) {
    let (sender, receiver) = mpsc::channel(WISHES_MAX);
    (Handle { wishes: sender }, Wishes(receiver))
}

impl Handle {
    /// Has something done about a capture, and waits until it is.
    pub(super) async fn wish(
        &self,
        verdict: Verdict,
        number: CaptureNumber,
        author: Author,
    ) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        let away = || {
            Failure::new(ErrorKind::Unavailable, "the workshop does not run").with_hint(
                "`capture.mode` in flotilla.toml may be `off`; `flotilla logs foreman` tells more",
            )
        };
        let wish = Wish { verdict, number, author, answer };
        self.wishes.send(wish).await.map_err(|_gone| away())?;
        answered.await.map_err(|_gone| away())?
    }
}

impl Wishes {
    /// Waits for the next one; `None` when there will be none any more.
    pub(super) async fn next(&mut self) -> Option<Wish> {
        self.0.recv().await
    }
}
