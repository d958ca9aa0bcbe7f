//! `flotilla wp`: WP-CLI in the workshop, with the site's own paths, user and configuration.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use flotilla_core::layout;
use flotilla_targets::local::packages::Machine;

use crate::failure::configuration;
use crate::local::workshop;
use crate::site::Site;

pub(crate) async fn run(site: &Site, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    let Some(wp) = Machine::this().find("wp") else {
        return Err(configuration("WP-CLI is not installed: there is no `wp` on this machine")
            .with_hint("https://wp-cli.org tells how to get it; put it where PATH leads, such as /usr/local/bin/wp")
            .into());
    };
    let place = workshop(site).await?;
    let mut all = vec![wp.to_string_lossy().into_owned(), format!("--path={}", layout::SITE)];
    all.extend(arguments);
    let spec = serde_json::to_string(&place.inside(all))?;
    #[expect(clippy::disallowed_methods, reason = "this process becomes WP-CLI, with its terminal")]
    let error = std::process::Command::new(std::env::current_exe()?)
        .args(["internal", "inside", &spec])
        // What WP-CLI changes is captured, and the updates that it makes are allowed.
        .env("FLOTILLA_SLOT", "workshop")
        .exec();
    Err(error.into())
}
