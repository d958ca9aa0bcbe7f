//! Who changed what in the site's code: the commits of its branch, and each line of a file.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use flotilla_core::api::{BLAME_PATH, BlameLine, HISTORY_PATH, HistoryItem};
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_core::id::Revision;
use flotilla_host::command::CommandError;
use flotilla_host::git::{Git, GitError};
use serde::Deserialize;

use crate::api::Answer;
use crate::auth::Identity;
use crate::deploys::Deploys;
use crate::store::Store;

const SHOWN_DEFAULT: usize = 20;
const SHOWN_MAX: usize = 1_000;
/// How many patches are shown at once; each may be long.
const PATCHES_MAX: usize = 50;
/// A longer patch is cut.
const PATCH_BYTES_MAX: usize = 256 * 1024;
/// How many deploys and captures are looked at.
const RECORDS_MAX: u32 = 10_000;

#[derive(Debug, Clone)]
struct Room {
    store: Store,
    deploys: Deploys,
}

/// Returns the routes; a layer above says who is asking.
pub fn router(store: Store, deploys: Deploys) -> Router {
    Router::new()
        .route(HISTORY_PATH, get(history))
        .route(BLAME_PATH, get(blame))
        .with_state(Room { store, deploys })
}

#[derive(Deserialize)]
struct HistoryQuery {
    limit: Option<usize>,
    path: Option<String>,
    #[serde(default)]
    patch: bool,
}

async fn history(
    State(room): State<Room>,
    Extension(identity): Extension<Identity>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<Vec<HistoryItem>>, Answer> {
    identity.operator()?;
    let max = if query.patch { PATCHES_MAX } else { SHOWN_MAX };
    let limit = query.limit.unwrap_or(SHOWN_DEFAULT).min(max);
    let git = room.deploys.repository.git();
    let tip = tip(&room).await?;
    let commits = git
        .commits_touching(&tip, query.path.as_deref(), limit)
        .await
        .map_err(|error| failed(&error))?;
    let deploys = room.store.deploys(RECORDS_MAX).await?;
    let captures = room.store.captures(RECORDS_MAX).await?;
    let mut items = Vec::with_capacity(commits.len());
    for commit in commits {
        let deploy = deploys.iter().find(|one| {
            one.release.revision == commit.revision
                && one.outcome.as_ref().is_some_and(|outcome| outcome.is_settled())
        });
        let capture = captures.iter().find(|one| one.revision == commit.revision);
        let patch = match query.patch {
            true => Some(patch(git, &commit.revision, query.path.as_deref()).await?),
            false => None,
        };
        items.push(HistoryItem {
            deploy: deploy.map(|one| one.id),
            capture: capture.map(|one| one.number),
            revision: commit.revision,
            time_seconds: commit.time_seconds,
            author: commit.author_name,
            email: commit.author_email,
            subject: commit.subject,
            body: commit.body,
            patch,
        });
    }
    Ok(Json(items))
}

async fn tip(room: &Room) -> Result<Revision, Failure> {
    let tip = room.deploys.repository.resolve(&room.deploys.branch).await;
    tip.map_err(|error| Failure::new(ErrorKind::Unavailable, chain(&error)))
}

/// Returns what a commit changed, compared with the line it continues.
async fn patch(git: &Git, revision: &Revision, path: Option<&str>) -> Result<String, Failure> {
    let output = git
        .command("show")
        .args(["--no-color", "--format=", "-m", "--first-parent", revision.as_str(), "--"])
        .args(path)
        .run()
        .await
        .map_err(|error| failed(&error.into()))?;
    let bytes = output.stdout.get(..PATCH_BYTES_MAX).unwrap_or(&output.stdout);
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if bytes.len() < output.stdout.len() {
        text.push_str("\n… and more\n");
    }
    Ok(text)
}

#[derive(Deserialize)]
struct BlameQuery {
    path: String,
}

async fn blame(
    State(room): State<Room>,
    Extension(identity): Extension<Identity>,
    Query(query): Query<BlameQuery>,
) -> Result<Json<Vec<BlameLine>>, Answer> {
    identity.operator()?;
    let tip = tip(&room).await?;
    let path = query.path.trim_start_matches("./").trim_start_matches('/');
    let git = room.deploys.repository.git();
    let run = git.command("blame").args(["--line-porcelain", tip.as_str(), "--", path]).run().await;
    let output = match run {
        Ok(output) => output,
        Err(CommandError::Failed { .. }) => {
            let message = format!("the site's code has no file `{path}`");
            return Err(Failure::new(ErrorKind::Usage, message)
                .with_hint("paths are from the root of the site: wp-content/themes/…")
                .into());
        }
        Err(error) => return Err(failed(&error.into()).into()),
    };
    Ok(Json(parse_blame(&String::from_utf8_lossy(&output.stdout))))
}

/// Reads what `git blame --line-porcelain` prints.
fn parse_blame(text: &str) -> Vec<BlameLine> {
    let mut lines = Vec::new();
    let (mut head, mut author, mut time) = (None, String::new(), 0);
    for line in text.split('\n') {
        if let Some(text) = line.strip_prefix('\t') {
            if let Some((revision, number)) = head.take() {
                lines.push(BlameLine {
                    revision,
                    author: author.clone(),
                    time_seconds: time,
                    line: number,
                    text: text.to_owned(),
                });
            }
        } else if let Some(name) = line.strip_prefix("author ") {
            name.clone_into(&mut author);
        } else if let Some(seconds) = line.strip_prefix("author-time ") {
            time = seconds.parse().unwrap_or(0);
        } else if head.is_none() {
            let mut words = line.split(' ');
            let revision = words.next().and_then(|word| word.parse::<Revision>().ok());
            let number = words.nth(1).and_then(|word| word.parse().ok());
            head = revision.zip(number);
        }
    }
    lines
}

fn failed(error: &GitError) -> Failure {
    Failure::new(ErrorKind::Unavailable, chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_is_read_line_by_line() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "{a} 1 1 1\nauthor Maria\nauthor-mail <m@shop.example>\nauthor-time 1700000000\n\
             summary Add\nfilename a.php\n\t<?php\n{b} 2 2\nauthor Jo\nauthor-time 1800000000\n\
             filename a.php\n\t\techo 1;\n"
        );
        let lines = parse_blame(&text);
        let read: Vec<_> = lines
            .iter()
            .map(|one| (one.line, one.author.as_str(), one.time_seconds, one.text.as_str()))
            .collect();
        assert_eq!(
            read,
            [(1, "Maria", 1_700_000_000, "<?php"), (2, "Jo", 1_800_000_000, "\techo 1;")]
        );
        assert_eq!(lines[1].revision.as_str(), b);
    }
}
