//! What the foreman's interface tells of captures, and what people decide about them there.

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use flotilla_core::api::{CAPTURES_PATH, CaptureItem, CaptureVerdict, Verdict};
use flotilla_core::capture::CaptureNumber;
use serde::Deserialize;

use super::{Handle, item};
use crate::api::Answer;
use crate::auth::Identity;
use crate::capture::CaptureError;
use crate::repository::Author;
use crate::store::Store;

const SHOWN_DEFAULT: u32 = 20;
const SHOWN_MAX: u32 = 1_000;

/// What the handlers work with.
#[derive(Debug, Clone)]
struct Room {
    store: Store,
    workshop: Handle,
}

/// Returns the routes; a layer above says who is asking.
pub fn router(store: Store, workshop: Handle) -> Router {
    Router::new()
        .route(CAPTURES_PATH, get(list))
        .route(&format!("{CAPTURES_PATH}/{{number}}/{{verdict}}"), post(decide))
        .with_state(Room { store, workshop })
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<u32>,
}

async fn list(
    State(room): State<Room>,
    Extension(identity): Extension<Identity>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<CaptureItem>>, Answer> {
    identity.operator()?;
    let limit = query.limit.unwrap_or(SHOWN_DEFAULT).min(SHOWN_MAX);
    let mut items = Vec::new();
    for record in room.store.captures(limit).await? {
        items.push(item(&room.store, record).await?);
    }
    Ok(Json(items))
}

async fn decide(
    State(room): State<Room>,
    Extension(identity): Extension<Identity>,
    Path((number, verdict)): Path<(u64, Verdict)>,
    Json(by): Json<CaptureVerdict>,
) -> Result<Json<CaptureItem>, Answer> {
    identity.operator()?;
    let number = CaptureNumber(number);
    let author = Author { name: by.author, email: "operator@localhost".to_owned() };
    room.workshop.wish(verdict, number, author).await?;
    let record = room.store.capture(number).await?;
    let record = record.ok_or_else(|| CaptureError::NoSuchCapture(number).failure())?;
    Ok(Json(item(&room.store, record).await?))
}
