//! `flotilla wp`: WP-CLI in the workshop, with the site's own paths, user and configuration.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use flotilla_core::layout;
use flotilla_foreman::workshop;
use flotilla_targets::local::packages::Machine;

use crate::failure::{configuration, unavailable};
use crate::local::{php_cli, php_identity};
use crate::site::Site;

pub(crate) async fn run(site: &Site, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    let Some(wp) = Machine::this().find("wp") else {
        return Err(configuration("WP-CLI is not installed: there is no `wp` on this machine")
            .with_hint("https://wp-cli.org tells how to get it; put it where PATH leads, such as /usr/local/bin/wp")
            .into());
    };
    // The workshop is there once the site is made; asking also tells whether the fleet is up.
    site.client()?.status().await?;
    let directory = site.layout.foreman().join("workshop");
    if !directory.join("site/wp-load.php").exists() {
        return Err(unavailable("the site is not made yet")
            .with_hint("`flotilla status` tells how far it is")
            .into());
    }
    let (user, _group) = php_identity(&site.config)?;
    let is_root = nix::unistd::Uid::effective().is_root();
    let place = workshop::Place {
        directory,
        media: site.layout.media(),
        php: php_cli()?,
        php_user: is_root.then_some(user),
    };
    let mut all = vec![wp.to_string_lossy().into_owned(), format!("--path={}", layout::SITE)];
    all.extend(arguments);
    let spec = serde_json::to_string(&place.inside(all))?;
    #[expect(clippy::disallowed_methods, reason = "this process becomes WP-CLI, with its terminal")]
    let error = std::process::Command::new(std::env::current_exe()?)
        .args(["internal", "inside", &spec])
        .exec();
    Err(error.into())
}
