//! The foreman's HTTP interface. A stranger gets 401 and nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use flotilla_core::api::{
    DEPLOYS_PATH, DeployReply, DeployRequest, INVENTORY_PATH, Inventory, InventoryItem, JOIN_PATH,
    JOIN_TOKENS_PATH, JoinReply, JoinRequest, JoinTokenRequest, ROLLBACK_PATH, Resize,
    RollbackRequest, SETTINGS_PATH, SHA256_HEADER, SIZE_PATH, STATUS_PATH, SYNC_PATH, SiteState,
    SlotSettings, Status, SyncReply, SyncRequest,
};
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_core::fleet::Accepted;
use flotilla_core::id::{DeployId, Revision};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::auth::{Doorman, Identity, digest};
use crate::bundle::Bundles;
use crate::deploys::Deploys;
use crate::engine::{Engine, Snapshot};
use crate::secrets::random_token;
use crate::status;
use crate::store::{Role, Store, StoreError};

/// The longest that a request may wait for news.
const WAIT_MAX: Duration = Duration::from_secs(30);
const DEPLOYS_SHOWN_DEFAULT: u32 = 20;
const DEPLOYS_SHOWN_MAX: u32 = 1_000;
const INSTANCES_MAX: u16 = 100;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Api {
    /// Drives the fleet.
    pub engine: Engine,
    /// Turns requests of people into deploys.
    pub deploys: Deploys,
    /// Keeps tokens and history.
    pub store: Store,
    /// Knows who is asking.
    pub doorman: Doorman,
    /// Makes bundles.
    pub bundles: Arc<Bundles>,
    /// What slots need to run.
    pub settings: Arc<SlotSettings>,
    /// The digest of [`Self::settings`].
    pub settings_digest: String,
    /// Where visitors find the site.
    pub site_url: String,
    /// How far the making of the site is.
    pub site: watch::Receiver<SiteState>,
}

/// A failure as an HTTP answer.
#[derive(Debug)]
pub struct Answer(Failure);

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<StoreError> for Answer {
    fn from(error: StoreError) -> Self {
        Self(Failure::new(ErrorKind::Unavailable, chain(&error)))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.kind.http_status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}

type Reply<T> = Result<Json<T>, Answer>;

/// Returns the routes, all behind authentication; `others` are mounted below the same door.
pub fn router(api: Api, others: Router) -> Router {
    let bundles = format!("{}/{{to}}", flotilla_core::api::BUNDLES_PATH);
    let deploy = format!("{DEPLOYS_PATH}/{{id}}");
    Router::new()
        .route(JOIN_PATH, post(join))
        .route(JOIN_TOKENS_PATH, post(make_join_token))
        .route(SYNC_PATH, post(sync))
        .route(SETTINGS_PATH, get(settings))
        .route(&bundles, get(bundle))
        .route(STATUS_PATH, get(show_status))
        .route(DEPLOYS_PATH, post(start_deploy).get(list_deploys))
        .route(&deploy, get(show_deploy))
        .route(ROLLBACK_PATH, post(roll_back))
        .route(SIZE_PATH, put(resize))
        .route(INVENTORY_PATH, get(inventory))
        .with_state(api.clone())
        .merge(others)
        .layer(middleware::from_fn_with_state(api.doorman, identify))
}

async fn identify(
    State(doorman): State<Doorman>,
    mut request: Request,
    next: Next,
) -> Result<Response, Answer> {
    match doorman.identify(request.headers()).await? {
        Some(identity) => {
            request.extensions_mut().insert(identity);
            Ok(next.run(request).await)
        }
        None => {
            let challenge = [("www-authenticate", "Basic realm=\"flotilla\"")];
            Ok((StatusCode::UNAUTHORIZED, challenge).into_response())
        }
    }
}

async fn join(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    headers: http::HeaderMap,
    Json(request): Json<JoinRequest>,
) -> Reply<JoinReply> {
    let refused = || {
        Answer(
            Failure::new(
                ErrorKind::Refused,
                format!("this token does not let `{}` join", request.instance),
            )
            .with_hint("a join token is good once and for one instance; ask for a new one"),
        )
    };
    if identity != Identity::Joiner(request.instance.clone()) {
        return Err(refused());
    }
    let Some(join_token) = crate::auth::token_of(&headers) else { return Err(refused()) };
    let token = random_token().map_err(bug)?;
    let instance = request.instance.clone();
    if !api.store.redeem(digest(&join_token), digest(&token), instance).await? {
        return Err(refused());
    }
    Ok(Json(JoinReply { token }))
}

async fn make_join_token(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Json(request): Json<JoinTokenRequest>,
) -> Reply<JoinReply> {
    identity.operator()?;
    let token = random_token().map_err(bug)?;
    api.store.add_token(digest(&token), Role::Join(request.instance)).await?;
    Ok(Json(JoinReply { token }))
}

async fn sync(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Json(request): Json<SyncRequest>,
) -> Reply<SyncReply> {
    let instance = identity.agent()?;
    if *instance != request.report.instance {
        return Err(Answer(Failure::new(
            ErrorKind::Refused,
            format!("the token of `{instance}` cannot report for `{}`", request.report.instance),
        )));
    }
    let seen = request.report.generation;
    api.engine.report(request.report).await;
    let wait = Duration::from_millis(request.wait_millis);
    let snapshot = wait_for(&api.engine, wait, |snapshot| snapshot.fleet.generation > seen).await;
    Ok(Json(SyncReply { desired: snapshot.fleet.desired(), settings: api.settings_digest.clone() }))
}

async fn settings(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
) -> Reply<SlotSettings> {
    identity.agent()?;
    Ok(Json(SlotSettings::clone(&api.settings)))
}

#[derive(Deserialize)]
struct BundleQuery {
    from: Option<Revision>,
}

async fn bundle(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Path(to): Path<Revision>,
    Query(query): Query<BundleQuery>,
) -> Result<Response, Answer> {
    identity.reader()?;
    let unavailable =
        |error: &dyn std::error::Error| Answer(Failure::new(ErrorKind::Unavailable, chain(error)));
    let path =
        api.bundles.bundle(query.from.as_ref(), &to).await.map_err(|error| unavailable(&error))?;
    let sum = api.bundles.sha256(&path).await.map_err(|error| unavailable(&error))?;
    let file = tokio::fs::File::open(&path).await.map_err(|error| unavailable(&error))?;
    let stream = tokio_util::io::ReaderStream::new(file);
    Ok(([(SHA256_HEADER, sum)], axum::body::Body::from_stream(stream)).into_response())
}

async fn show_status(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
) -> Reply<Status> {
    identity.operator()?;
    let snapshot = api.engine.snapshots().borrow().clone();
    let subject = match snapshot.fleet.serving_release() {
        Some(release) => api.deploys.subject(&release.revision).await,
        None => None,
    };
    Ok(Json(status::of(&snapshot, &api.site_url, api.site.borrow().clone(), subject)))
}

async fn start_deploy(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Json(request): Json<DeployRequest>,
) -> Reply<DeployReply> {
    identity.operator()?;
    let (id, revision, accepted) = api.deploys.deploy(&request).await?;
    Ok(Json(reply(id, revision, &accepted)))
}

async fn roll_back(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Json(request): Json<RollbackRequest>,
) -> Reply<DeployReply> {
    identity.operator()?;
    if let Some((id, revision)) = api.deploys.call_off(&request).await? {
        return Ok(Json(DeployReply { id, revision, behind: None, is_called_off: true }));
    }
    let (id, revision, accepted) = api.deploys.roll_back(&request).await?;
    Ok(Json(reply(id, revision, &accepted)))
}

fn reply(id: DeployId, revision: Revision, accepted: &Accepted) -> DeployReply {
    let behind = match accepted {
        Accepted::Started => None,
        Accepted::Queued { behind, .. } => Some(*behind),
    };
    DeployReply { id, revision, behind, is_called_off: false }
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<u32>,
}

async fn list_deploys(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Query(query): Query<ListQuery>,
) -> Reply<Vec<flotilla_core::api::DeployRecord>> {
    identity.operator()?;
    let limit = query.limit.unwrap_or(DEPLOYS_SHOWN_DEFAULT).min(DEPLOYS_SHOWN_MAX);
    Ok(Json(api.store.deploys(limit).await?))
}

#[derive(Deserialize)]
struct WaitQuery {
    wait_millis: Option<u64>,
}

/// Shows one deploy; with `wait_millis`, once it is over or the time is up.
async fn show_deploy(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<u64>,
    Query(query): Query<WaitQuery>,
) -> Reply<flotilla_core::api::DeployRecord> {
    identity.operator()?;
    let id = DeployId(id);
    let is_over = |snapshot: &Snapshot| {
        let fleet = &snapshot.fleet;
        fleet.deploy.as_ref().is_none_or(|deploy| deploy.request.id != id)
            && fleet.queued.as_ref().is_none_or(|request| request.id != id)
    };
    wait_for(&api.engine, Duration::from_millis(query.wait_millis.unwrap_or(0)), is_over).await;
    api.store
        .deploy(id)
        .await?
        .map(Json)
        .ok_or_else(|| Answer(Failure::new(ErrorKind::Usage, format!("there is no deploy {id}"))))
}

async fn resize(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Json(size): Json<Resize>,
) -> Reply<Inventory> {
    identity.operator()?;
    if size.instances == 0 || size.instances > INSTANCES_MAX {
        return Err(Answer(
            Failure::new(
                ErrorKind::Usage,
                format!(
                    "`{}` is not a number of instances from 1 to {INSTANCES_MAX}",
                    size.instances
                ),
            )
            .with_hint("to stop the whole fleet use `flotilla down`"),
        ));
    }
    api.engine.resize(size.instances).await?;
    Ok(Json(items(&api.engine.snapshots().borrow().clone())))
}

async fn inventory(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
) -> Reply<Inventory> {
    identity.operator()?;
    Ok(Json(items(&api.engine.snapshots().borrow().clone())))
}

fn items(snapshot: &Snapshot) -> Inventory {
    let item = |(name, member): (&flotilla_core::id::InstanceName, &_)| InventoryItem {
        name: name.clone(),
        member: *member,
    };
    Inventory { instances: snapshot.fleet.instances.iter().map(item).collect() }
}

/// Waits until a snapshot is as wanted, or the time is up; returns the newest either way.
async fn wait_for(
    engine: &Engine,
    wait: Duration,
    is_wanted: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let deadline = Instant::now() + wait.min(WAIT_MAX);
    let mut snapshots = engine.snapshots();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if is_wanted(&snapshot) || Instant::now() >= deadline {
            return snapshot;
        }
        if let Ok(Err(_stopping)) = timeout_at(deadline, snapshots.changed()).await {
            return snapshot;
        }
    }
}

fn bug(error: impl std::error::Error) -> Answer {
    Answer(Failure::new(ErrorKind::Bug, chain(&error)))
}
