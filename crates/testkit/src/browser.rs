//! A real Chromium, driven as a person drives it, through its own `WebDriver`.
//!
//! The protocol is <https://www.w3.org/TR/webdriver2/>; only what tests need of it is here.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use flotilla_host::http;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::program::text_of;
use crate::wait::until;

const START_LIMIT: Duration = Duration::from_secs(120);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const FIND_LIMIT: Duration = Duration::from_secs(60);
/// The key under which `WebDriver` names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window; it ends with this value.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    session: String,
    // Kills Chromium too, which is its child.
    _driver: Child,
}

impl Browser {
    /// Starts Chromium without a screen.
    ///
    /// # Errors
    /// `chromedriver` or `chromium` is not installed, or does not answer.
    pub async fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("`chromedriver` is missing; `make packages` installs it")?;
        let client = http::client_builder().no_proxy().timeout(ANSWER_LIMIT).build()?;
        let base = format!("http://127.0.0.1:{port}/session");
        let arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"];
        let options = json!({ "args": arguments });
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let order = json!({ "capabilities": { "alwaysMatch": wanted } });
        let id = until("a browser", START_LIMIT, async || {
            let answer = ask(&client, Method::POST, &base, &order).await;
            let answer = answer.map_err(|error| format!("{error:#}"))?;
            let id = answer.get("sessionId").and_then(Value::as_str);
            id.map(str::to_owned).ok_or_else(|| answer.to_string())
        })
        .await?;
        Ok(Self { client, session: format!("{base}/{id}"), _driver: driver })
    }

    /// Opens an address and waits until the page is loaded.
    ///
    /// # Errors
    /// The page cannot be had.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, "/url", &json!({ "url": url })).await.map(drop)
    }

    /// Logs in to wp-admin of a site; `login` is what `flotilla up` has told.
    ///
    /// # Errors
    /// WordPress does not let this user in.
    pub async fn log_in(&self, site: &str, login: &Value) -> anyhow::Result<()> {
        let told = |key: &str| text_of(login, key).with_context(|| format!("no `{key}` was told"));
        self.open(&format!("{site}/wp-login.php")).await?;
        self.type_into("#user_login", &told("admin_user")?).await?;
        self.type_into("#user_pass", &told("admin_password")?).await?;
        self.click("#wp-submit").await?;
        self.text("#wpadminbar").await.map(drop)
    }

    /// Types into the element that a CSS selector finds; a file input is given a path so.
    ///
    /// # Errors
    /// There is no such element.
    pub async fn type_into(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.find(selector).await?;
        let path = format!("/element/{element}/value");
        self.ask(Method::POST, &path, &json!({ "text": text })).await.map(drop)
    }

    /// Clicks on the element that a CSS selector finds.
    ///
    /// # Errors
    /// There is no such element, or something covers it.
    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.find(selector).await?;
        self.ask(Method::POST, &format!("/element/{element}/click"), &json!({})).await.map(drop)
    }

    /// Waits for an element and returns its text.
    ///
    /// # Errors
    /// It does not appear.
    pub async fn text(&self, selector: &str) -> anyhow::Result<String> {
        let element = self.find(selector).await?;
        let text = self.ask(Method::GET, &format!("/element/{element}/text"), &json!(null)).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Runs JavaScript in the page and returns what it returns.
    ///
    /// # Errors
    /// It throws.
    pub async fn run(&self, script: &str) -> anyhow::Result<Value> {
        let order = json!({ "script": script, "args": [] });
        self.ask(Method::POST, "/execute/sync", &order).await
    }

    /// Says yes to the question that a page asks.
    ///
    /// # Errors
    /// It asks none.
    pub async fn accept(&self) -> anyhow::Result<()> {
        until("a question", FIND_LIMIT, async || {
            let accepted = self.ask(Method::POST, "/alert/accept", &json!({})).await;
            accepted.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await
    }

    /// Uploads a file through an input.
    ///
    /// # Errors
    /// There is no such input or no such file.
    pub async fn upload(&self, selector: &str, file: &Path) -> anyhow::Result<()> {
        let file = file.canonicalize().with_context(|| format!("no `{}`", file.display()))?;
        self.type_into(selector, &file.to_string_lossy()).await
    }

    async fn find(&self, selector: &str) -> anyhow::Result<String> {
        let order = json!({ "using": "css selector", "value": selector });
        until(selector, FIND_LIMIT, async || {
            let found = self.ask(Method::POST, "/element", &order).await;
            let found = found.map_err(|error| format!("{error:#}"))?;
            let id = found.get(ELEMENT).and_then(Value::as_str);
            id.map(str::to_owned).ok_or_else(|| found.to_string())
        })
        .await
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        ask(&self.client, method, &format!("{}{path}", self.session), body).await
    }
}

async fn ask(client: &Client, method: Method, url: &str, body: &Value) -> anyhow::Result<Value> {
    let request = client.request(method.clone(), url);
    let request = if method == Method::GET { request } else { request.json(body) };
    let mut answer: Value = request.send().await?.json().await?;
    let value = answer.get_mut("value").map(Value::take).unwrap_or_default();
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        let message = value.get("message").and_then(Value::as_str).unwrap_or_default();
        bail!("{error}: {message}");
    }
    Ok(value)
}
