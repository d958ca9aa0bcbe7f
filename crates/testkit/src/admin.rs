//! Somebody who is logged in to wp-admin, as with a browser.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::fleet::Fleet;

/// A person with the cookies of a login.
#[derive(Debug)]
pub struct Admin<'a> {
    fleet: &'a Fleet,
    cookies: String,
}

impl<'a> Admin<'a> {
    /// Logs in through the balancer; `None` when WordPress does not let them in.
    ///
    /// # Errors
    /// The site does not answer.
    pub async fn log_in(
        fleet: &'a Fleet,
        user: &Value,
        password: &Value,
    ) -> anyhow::Result<Option<Self>> {
        let form = format!(
            "log={}&pwd={}&testcookie=1&wp-submit=Log+In",
            user.as_str().context("the user is no text")?,
            password.as_str().context("the password is no text")?
        );
        let response = fleet
            .visit(fleet.address()?, Method::POST, "/wp-login.php")?
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", "wordpress_test_cookie=WP%20Cookie%20check")
            .body(form)
            .send()
            .await?;
        let cookies: Vec<&str> = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok()?.split(';').next())
            .collect();
        let is_in = cookies.iter().any(|cookie| cookie.starts_with("wordpress_logged_in_"));
        Ok(is_in.then(|| Self { fleet, cookies: cookies.join("; ") }))
    }

    /// Begins a request of theirs, sent to the balancer or straight to a slot.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn visit(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
    ) -> anyhow::Result<RequestBuilder> {
        Ok(self.fleet.visit(to, method, path)?.header("cookie", &self.cookies))
    }

    /// Returns what WordPress' REST interface wants as `X-WP-Nonce`.
    ///
    /// # Errors
    /// The site does not answer, or does not know them.
    pub async fn nonce(&self) -> anyhow::Result<String> {
        let path = "/wp-admin/admin-ajax.php?action=rest-nonce";
        let request = self.visit(self.fleet.address()?, Method::GET, path)?;
        let nonce = request.send().await?.error_for_status()?.text().await?;
        ensure!(nonce.len() == 10, "`{nonce}` is no nonce");
        Ok(nonce)
    }
}
