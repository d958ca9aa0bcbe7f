//! The real git clones and pushes over HTTP, as far as its token lets it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use flotilla_core::id::{InstanceName, Token};
use flotilla_foreman::auth::{Doorman, digest};
use flotilla_foreman::repository::Repository;
use flotilla_foreman::smart_http;
use flotilla_foreman::store::{Role, Store};
use flotilla_host::command::{Command, Output};
use flotilla_host::tasks::Tasks;
use tokio::sync::Notify;

use crate::support::{held, write, write_wordpress};

const OPERATOR: &str = "operator-token";
const AGENT: &str = "agent-token";

struct Server {
    directory: tempfile::TempDir,
    repository: Repository,
    address: String,
    pushed: Arc<Notify>,
    /// Counts the requests with a compressed body.
    compressed: Arc<AtomicUsize>,
    tasks: Tasks,
}

async fn count_compressed(
    State(compressed): State<Arc<AtomicUsize>>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip") {
        compressed.fetch_add(1, Ordering::Relaxed);
    }
    next.run(request).await
}

async fn identify(State(doorman): State<Doorman>, mut request: Request, next: Next) -> Response {
    match doorman.identify(request.headers()).await.unwrap() {
        Some(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
    }
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let git_dir = directory.path().join("site.git");
        let repository = Repository::open(&git_dir).await.unwrap();
        let site = directory.path().join("site");
        write_wordpress(&site, "6.1.9");
        repository.import(&site, "main", "Import").await.unwrap();
        let store = Store::open(&directory.path().join("foreman.db")).unwrap();
        let agent = digest(&Token::new(AGENT.to_owned()));
        store.add_token(agent, Role::Agent(InstanceName::numbered(1))).await.unwrap();
        let doorman = Doorman::new(&Token::new(OPERATOR.to_owned()), store);
        let pushed = Arc::new(Notify::new());
        let compressed = Arc::new(AtomicUsize::new(0));
        let app = smart_http::router(&git_dir, Arc::clone(&pushed))
            .layer(middleware::from_fn_with_state(doorman, identify))
            .layer(middleware::from_fn_with_state(Arc::clone(&compressed), count_compressed));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("server", async move {
            let stop = async move { stopping.cancelled().await };
            axum::serve(listener, app).with_graceful_shutdown(stop).await.unwrap();
        });
        Self { directory, repository, address, pushed, compressed, tasks }
    }

    fn url(&self, token: &str) -> String {
        format!("http://git:{token}@{}{}", self.address, smart_http::PATH)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    async fn git(&self, directory: &Path, arguments: &[&str]) -> Output {
        Command::new("git")
            .clear_environment()
            .env("HOME", self.directory.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "Maria")
            .env("GIT_AUTHOR_EMAIL", "maria@example.org")
            .env("GIT_COMMITTER_NAME", "Maria")
            .env("GIT_COMMITTER_EMAIL", "maria@example.org")
            .directory(directory)
            .args(arguments)
            .run_unchecked()
            .await
            .unwrap()
    }

    async fn good(&self, directory: &Path, arguments: &[&str]) {
        let output = self.git(directory, arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    async fn bad(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = self.git(directory, arguments).await;
        assert!(!output.status.success(), "{arguments:?} worked");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn clone(&self, token: &str, name: &str) {
        self.good(self.directory.path(), &["clone", "--quiet", &self.url(token), name]).await;
    }

    async fn stop(self) {
        assert!(self.tasks.shut_down(Duration::from_secs(10)).await);
    }
}

#[tokio::test]
async fn a_clone_can_push_and_the_next_clone_has_it() {
    let server = Server::start().await;
    server.clone(OPERATOR, "a").await;
    let a = server.path("a");
    // More than git sends in one piece, so that the body comes in chunks.
    let noise: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    write(&a, "noise.bin", &noise);
    server.good(&a, &["add", "-A"]).await;
    server.good(&a, &["commit", "-qm", "Push"]).await;
    server.good(&a, &["push", "--quiet", "origin", "HEAD:main"]).await;
    let told = tokio::time::timeout(Duration::from_secs(10), server.pushed.notified()).await;
    assert!(told.is_ok(), "nobody was told of the push");
    let tip = server.repository.resolve("main").await.unwrap();
    assert_eq!(server.repository.subject(&tip).await.unwrap(), "Push");
    server.clone(AGENT, "b").await;
    std::fs::remove_dir_all(a.join(".git")).unwrap();
    std::fs::remove_dir_all(server.path("b/.git")).unwrap();
    assert_eq!(held(&a), held(&server.path("b")));
    server.stop().await;
}

#[tokio::test]
async fn requests_that_git_compresses_are_understood() {
    let server = Server::start().await;
    server.clone(AGENT, "a").await;
    let a = server.path("a");
    // Commits that the server lacks make git send a long list of what it has, compressed.
    let mut commits = String::new();
    for number in 0..200 {
        let from = if number == 0 { "from refs/heads/main^0\n" } else { "" };
        let who = format!("committer A <a@example.org> {} +0000", 2_000_000_000 + number);
        commits.extend(["commit refs/heads/own\n", &who, "\ndata 1\nx\n", from, "\n"]);
    }
    write(&a, "commits", commits);
    let import = "git fast-import --quiet < commits";
    Command::new("sh").args(["-c", import]).directory(&a).run().await.unwrap();
    write(&server.path("site"), "index.php", "<?php // newest\n");
    let tip = server.repository.import(&server.path("site"), "main", "newest").await.unwrap();
    server.good(&a, &["fetch", "--quiet", "origin"]).await;
    let seen = server.git(&a, &["rev-parse", "origin/main"]).await;
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), tip.as_str());
    assert!(server.compressed.load(Ordering::Relaxed) > 0, "git compressed no request");
    server.stop().await;
}

#[tokio::test]
async fn strangers_get_nothing_and_agents_only_read() {
    let server = Server::start().await;
    let root = server.directory.path().to_owned();
    let said = server.bad(&root, &["ls-remote", &server.url("wrong")]).await;
    assert!(said.contains("Authentication failed"), "{said}");
    server.clone(AGENT, "a").await;
    let a = server.path("a");
    write(&a, "index.php", "<?php // agent\n");
    server.good(&a, &["commit", "-qam", "x"]).await;
    let said = server.bad(&a, &["push", "origin", "HEAD:main"]).await;
    assert!(said.contains("403"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn history_is_not_rewritten_and_inner_references_are_out_of_reach() {
    let server = Server::start().await;
    server.clone(OPERATOR, "a").await;
    let a = server.path("a");
    server.good(&a, &["commit", "-q", "--amend", "-m", "Rewritten"]).await;
    let said = server.bad(&a, &["push", "--force", "origin", "HEAD:main"]).await;
    assert!(said.contains("non-fast-forward"), "{said}");
    server.bad(&a, &["push", "origin", "HEAD:refs/flotilla/releases/x"]).await;
    let listed = server.git(&a, &["ls-remote", "origin"]).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains("flotilla"), "{listed}");
    server.stop().await;
}

#[tokio::test]
async fn one_commit_can_be_fetched_by_its_id() {
    let server = Server::start().await;
    let first = server.repository.resolve("main").await.unwrap();
    write(&server.path("site"), "index.php", "<?php // 2\n");
    server.repository.import(&server.path("site"), "main", "2").await.unwrap();
    let a = server.path("a");
    server.good(server.directory.path(), &["init", "--quiet", "a"]).await;
    server.good(&a, &["fetch", "--quiet", &server.url(AGENT), first.as_str()]).await;
    server.stop().await;
}
