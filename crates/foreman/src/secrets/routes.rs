//! The part of the foreman's interface that replaces secrets. No route tells a secret.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use flotilla_core::api::{ROTATIONS_PATH, RotateRequest, RotationStatus};
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_core::rotation::{Kind, Open};
use tokio::sync::{Mutex, watch};

use super::rotate::Rotation;
use crate::api::Answer;
use crate::auth::Identity;
use crate::clock;

#[derive(Clone)]
struct Desk {
    rotation: Rotation,
    status: watch::Receiver<RotationStatus>,
    /// One at a time: the file is read, changed and written.
    busy: Arc<Mutex<()>>,
}

/// Returns the routes.
pub fn router(rotation: Rotation, status: watch::Receiver<RotationStatus>) -> Router {
    let desk = Desk { rotation, status, busy: Arc::default() };
    Router::new().route(ROTATIONS_PATH, get(show).post(begin)).with_state(desk)
}

async fn show(
    State(desk): State<Desk>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<RotationStatus>, Answer> {
    identity.operator()?;
    Ok(Json(desk.status.borrow().clone()))
}

async fn begin(
    State(desk): State<Desk>,
    Extension(identity): Extension<Identity>,
    Json(request): Json<RotateRequest>,
) -> Result<Json<RotationStatus>, Answer> {
    identity.operator()?;
    let _alone = desk.busy.lock().await;
    let unavailable =
        |error: &dyn std::error::Error| Failure::new(ErrorKind::Unavailable, chain(error));
    let rotation = &desk.rotation;
    let secrets = rotation.vault.load().map_err(|error| unavailable(&error))?;
    let mut secrets =
        secrets.ok_or_else(|| Failure::new(ErrorKind::Unavailable, "the site has no secrets"))?;
    if secrets.open() != Open::default() {
        let busy = Failure::new(ErrorKind::Refused, "another rotation is not over yet");
        return Err(busy.with_hint("`flotilla secrets list` shows how far it is").into());
    }
    if request.kinds.contains(&Kind::Database) && rotation.account.is_none() {
        let not_ours = Failure::new(
            ErrorKind::Refused,
            "the password in `database.url` is not flotilla's to change",
        );
        let hint = "let the server take a second user or password, set `database.url` to it, then \
                    `flotilla up`, `flotilla deploy --force`, and remove the old one";
        return Err(not_ours.with_hint(hint).into());
    }
    for kind in &request.kinds {
        secrets.begin(*kind, clock::now()).map_err(|error| unavailable(&error))?;
    }
    rotation.vault.store(&secrets).map_err(|error| unavailable(&error))?;
    tracing::info!(event = "secrets.rotate", kinds = ?request.kinds, "A rotation of secrets begins");
    rotation.nudge.notify_one();
    let doing = "Beginning".to_owned();
    Ok(Json(RotationStatus { is_over: false, doing, trouble: None }))
}
