//! People change plugins, themes and files in the workshop, with a real browser and without one, and
//! every change reaches every instance while customers order.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::api::{CaptureItem, HistoryItem};
use flotilla_core::capture::CaptureState;
use flotilla_testkit::browser::Browser;
use flotilla_testkit::exchange::{failed, tally};
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use flotilla_testkit::wordpress::{Version, copy, wordpress, write};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};
use reqwest::Method;
use serde_json::Value;

const INSTANCES: u16 = 3;
const LIMIT: Duration = Duration::from_secs(60);
/// Prints a line at the end of each page.
const GOOD: &str = "<?php
/* Plugin Name: Hand
Version: 1.0 */
add_action( 'wp_footer', static function () { echo 'hand 1.0 works'; } );
";
/// Ends each page of visitors in its middle, when it has begun well.
const FATAL: &str = "<?php
/* Plugin Name: Broken
Version: 1.0 */
add_action( 'wp_footer', static function () { a_function_that_is_nowhere(); } );
";
/// How often the foreman is killed while changes are captured.
const KILLS: usize = 6;
const KILL_STEP: Duration = Duration::from_millis(400);
const FILES: usize = 40;

/// A site in the hands of a person.
struct Person<'a> {
    fleet: &'a Fleet,
    browser: Browser,
    site: String,
}

#[tokio::test]
async fn what_people_change_in_wp_admin_reaches_every_instance() {
    let settings = Settings::new("workshop")
        .instances(INSTANCES)
        .set("foreman", "deploy_on_push", true)
        .set("deploy", "verify_window", "'500ms'");
    let fleet = Fleet::prepare(settings).await.unwrap();
    let login = fleet.up().await.unwrap();
    let load = Load::start(&fleet, "customers", &Plan::default()).unwrap();
    load.more(20).await.unwrap();

    let person = Person::log_in(&fleet, &login).await;
    person.uploads_a_plugin_and_activates_it().await;
    person.edits_the_theme().await;
    person.deletes_the_plugin().await;
    person.breaks_the_site_and_undoes_it().await;
    person.breaks_wp_admin_and_undoes_it().await;

    customers_noticed_nothing(&fleet, load).await;

    person.is_served_by_the_fleet_while_the_workshop_is_away().await;
    a_push_and_a_change_of_files_are_merged(&fleet).await;
    what_conflicts_is_told_and_undone(&fleet).await;
    nothing_is_lost_when_the_foreman_is_killed(&fleet).await;
    what_changes_on_an_instance_is_restored(&fleet).await;
}

#[tokio::test]
async fn changes_wait_for_somebody_who_approves_or_undoes_them() {
    let settings = Settings::new("review").instances(1).set("capture", "mode", "'review'").set(
        "deploy",
        "verify_window",
        "'500ms'",
    );
    let fleet = Fleet::start(settings).await.unwrap();
    workshop_has(&fleet, "wp-load.php", true).await;
    put(&fleet, "wp-content/first.txt", "first");
    let first = captured(&fleet, CaptureState::PendingReview).await.record;
    put(&fleet, "wp-content/second.txt", "second");
    let second = until("another capture", LIMIT, async || {
        let newest = captured(&fleet, CaptureState::PendingReview).await;
        let is_told = newest.record.number != first.number && newest.reason.contains("approved");
        if is_told { Ok(newest.record) } else { Err(format!("{newest:?}")) }
    })
    .await
    .unwrap();
    let (first, second) = (first.number.to_string(), second.number.to_string());
    let refused = fleet.run(&["captures", "revert", &first]).await.unwrap();
    assert!(refused.stderr.contains("goes on from capture 1"), "{refused:?}");
    fleet.run(&["captures", "revert", &second]).await.unwrap().ok().unwrap();
    workshop_has(&fleet, "wp-content/second.txt", false).await;
    workshop_has(&fleet, "wp-content/first.txt", true).await;
    everywhere(&fleet, "/wp-content/first.txt", |status, _| status != 200).await;
    fleet.run(&["captures", "approve", &first]).await.unwrap().ok().unwrap();
    everywhere(&fleet, "/wp-content/first.txt", |_, text| text == "first").await;
    captured_first(&fleet, CaptureState::Deployed).await;
    let again = fleet.run(&["captures", "approve", &first]).await.unwrap();
    assert!(again.stderr.contains("waits for nobody"), "{again:?}");
    let blame = fleet.run(&["blame", "wp-content/first.txt"]).await.unwrap().ok().unwrap();
    assert!(blame.stdout.contains("workshop") && blame.stdout.contains("first"), "{blame:?}");
    let nothing = fleet.run(&["blame", "wp-content/third.txt"]).await.unwrap();
    assert!(nothing.stderr.contains("has no file `wp-content/third.txt`"), "{nothing:?}");
}

#[tokio::test]
async fn an_update_of_wordpress_upgrades_the_database_under_a_hold() {
    let newer = wordpress(Version::Newer).await.unwrap();
    let settings = Settings::new("update").instances(2).set("deploy", "verify_window", "'500ms'");
    let fleet = Fleet::start(settings).await.unwrap();
    workshop_has(&fleet, "wp-load.php", true).await;
    let before = fleet.status().await.unwrap().release.unwrap().db_version.unwrap();
    let load = Load::start(&fleet, "update", &Plan::default()).unwrap();
    load.more(20).await.unwrap();

    // What an update does: it says so, replaces the files, and takes its word back.
    put(&fleet, ".maintenance", "<?php $upgrading = time();");
    for name in ["wp-admin", "wp-includes"] {
        std::fs::remove_dir_all(workshop(&fleet).join(name)).unwrap();
    }
    copy(&newer, &workshop(&fleet)).unwrap();
    std::fs::remove_file(workshop(&fleet).join(".maintenance")).unwrap();
    captured(&fleet, CaptureState::Deployed).await;

    customers_noticed_nothing(&fleet, load).await;
    let history: Vec<HistoryItem> = json(&fleet, &["history", "--json"]).await;
    assert_eq!(history.len(), 2, "an update is one commit: {history:?}");
    assert!(history[0].subject.starts_with("Update WordPress 6.1.9 → "), "{history:?}");
    let release = fleet.status().await.unwrap().release.unwrap();
    assert!(release.db_version.unwrap() > before);
    let log = std::fs::read_to_string(fleet.layout().log("foreman")).unwrap();
    assert!(log.contains("phase=\"holding\"") && log.contains("phase=\"upgrading\""), "{log}");
    let maintenance = fleet.run(&["history", ".maintenance"]).await.unwrap().ok().unwrap();
    assert!(maintenance.stdout.contains("No commit changed"), "{maintenance:?}");
}

impl<'a> Person<'a> {
    async fn log_in(fleet: &'a Fleet, login: &Value) -> Self {
        let browser = Browser::start().await.unwrap();
        let site = format!("http://{}", fleet.host().unwrap());
        browser.log_in(&site, login).await.unwrap();
        Self { fleet, browser, site }
    }

    async fn open(&self, path: &str) {
        self.browser.open(&format!("{}/wp-admin/{path}", self.site)).await.unwrap();
    }

    /// Uploads a plugin as a zip and asks to activate it.
    async fn installs(&self, name: &str, php: &str) {
        let zip = zip(self.fleet.path(), name, php);
        self.open("plugin-install.php?tab=upload").await;
        self.browser.upload("input[name=pluginzip]", &zip).await.unwrap();
        self.browser.click("#install-plugin-submit").await.unwrap();
        self.browser.click("a[href*='action=activate']").await.unwrap();
    }

    async fn uploads_a_plugin_and_activates_it(&self) {
        self.installs("hand", GOOD).await;
        self.browser.text("#message").await.unwrap();
        everywhere(self.fleet, "/", |_, page| page.contains("hand 1.0 works")).await;
        // Byte for byte, also what git would leave out or change by itself.
        let log = "/wp-content/plugins/hand/kept.log";
        everywhere(self.fleet, log, |status, text| status == 200 && text == "kept\r\n").await;
        let newest = newest(self.fleet).await;
        assert_eq!(newest.subject, "Install plugin hand 1.0");
        assert_eq!((newest.author.as_str(), newest.email.as_str()), ("admin", "admin@example.com"));
        captured(self.fleet, CaptureState::Deployed).await;
    }

    async fn edits_the_theme(&self) {
        let script = "return document.querySelector('#theme').value";
        self.open("theme-editor.php?file=style.css").await;
        let theme = self.browser.run(script).await.unwrap();
        let theme = theme.as_str().unwrap();
        self.browser.click(".file-editor-warning-dismiss").await.unwrap();
        let edit = "const editor = wp.themePluginEditor.instance.codemirror;
            editor.setValue(editor.getValue() + '/* edited by hand */');";
        self.browser.run(edit).await.unwrap();
        self.browser
            .run("document.querySelector('#template #submit').scrollIntoView()")
            .await
            .unwrap();
        self.browser.click("#template #submit").await.unwrap();
        self.browser.text("#template .notice-success").await.unwrap();
        let path = format!("/wp-content/themes/{theme}/style.css");
        everywhere(self.fleet, &path, |_, text| text.contains("/* edited by hand */")).await;
        assert_eq!(newest(self.fleet).await.author, "admin");
    }

    async fn deletes_the_plugin(&self) {
        self.open("plugins.php").await;
        self.browser.click("#deactivate-hand").await.unwrap();
        self.browser.text("#message").await.unwrap();
        self.browser.click("#delete-hand").await.unwrap();
        self.browser.accept().await.unwrap();
        let log = "/wp-content/plugins/hand/kept.log";
        everywhere(self.fleet, log, |status, _| status != 200).await;
        assert_eq!(newest(self.fleet).await.subject, "Delete plugin hand");
    }

    /// wp-admin itself is dead; its error page leads to one that needs nothing of the site's own.
    async fn breaks_wp_admin_and_undoes_it(&self) {
        put(self.fleet, "wp-content/mu-plugins/dead.php", "<?php a_function_that_is_nowhere();");
        captured(self.fleet, CaptureState::Failed).await;
        self.open("index.php").await;
        self.browser.click("a[href*='action=flotilla_captures']").await.unwrap();
        self.browser.click(".flotilla-notice button[value=revert]").await.unwrap();
        captured(self.fleet, CaptureState::Reverted).await;
        self.fleet.whole(INSTANCES.into()).await.unwrap();
        workshop_has(self.fleet, "wp-content/mu-plugins/dead.php", false).await;
        self.open("index.php").await;
        self.browser.text("#wpadminbar").await.unwrap();
    }

    async fn breaks_the_site_and_undoes_it(&self) {
        // Nobody could refuse it later: what is active is in the database of all.
        self.installs("broken", FATAL).await;
        let refusal = self.browser.text(".wp-die-message").await.unwrap();
        assert!(refusal.contains("is not activated"), "{refusal}");
        assert!(refusal.contains("a_function_that_is_nowhere"), "{refusal}");
        captured(self.fleet, CaptureState::Deployed).await;
        // What is active already breaks with its next version.
        put(self.fleet, "wp-content/mu-plugins/broken.php", FATAL);
        let failed = captured(self.fleet, CaptureState::Failed).await;
        assert!(failed.reason.contains("ended with a fatal error"), "{}", failed.reason);
        self.open("plugins.php").await;
        let notice = self.browser.text(".flotilla-notice").await.unwrap();
        assert!(notice.contains("did not reach the site"), "{notice}");
        assert!(notice.contains("a_function_that_is_nowhere"), "{notice}");
        self.browser.click(".flotilla-notice button[value=revert]").await.unwrap();
        captured(self.fleet, CaptureState::Reverted).await;
        self.fleet.whole(INSTANCES.into()).await.unwrap();
        workshop_has(self.fleet, "wp-content/mu-plugins/broken.php", false).await;
    }

    async fn is_served_by_the_fleet_while_the_workshop_is_away(&self) {
        // Nobody is there to start it again.
        self.fleet.signal(Part::Foreman, Signal::SIGSTOP).unwrap();
        self.fleet.kill(Part::Workshop).unwrap();
        until("the fleet to serve wp-admin", LIMIT, async || {
            self.open("index.php").await;
            let script = "return document.querySelector('.flotilla-notice')?.textContent ?? ''";
            let notice = self.browser.run(script).await.map_err(|error| format!("{error:#}"))?;
            if notice.as_str().unwrap_or_default().contains("are paused") {
                Ok(())
            } else {
                Err(notice.to_string())
            }
        })
        .await
        .unwrap();
        // Menus stay, and who uses them hears why not.
        self.open("plugin-install.php?tab=upload").await;
        let zip = zip(self.fleet.path(), "late", GOOD);
        self.browser.upload("input[name=pluginzip]", &zip).await.unwrap();
        self.browser.click("#install-plugin-submit").await.unwrap();
        let page = self.browser.text("body").await.unwrap();
        assert!(page.contains("are paused"), "{page}");
        self.fleet.signal(Part::Foreman, Signal::SIGCONT).unwrap();
        until("the workshop to serve wp-admin", LIMIT, async || {
            self.open("index.php").await;
            let script = "return document.querySelector('.flotilla-notice') === null";
            match self.browser.run(script).await {
                Ok(Value::Bool(true)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }
}

async fn a_push_and_a_change_of_files_are_merged(fleet: &Fleet) {
    let code = fleet.clone_code().await.unwrap();
    code.write("wp-content/pushed.txt", "by git").unwrap();
    let pushed = code.commit("Push a file").await.unwrap();
    // As somebody does over SFTP.
    put(fleet, "wp-content/copied.txt", "by hand");
    code.push("main").await.unwrap();
    everywhere(fleet, "/wp-content/pushed.txt", |_, text| text == "by git").await;
    everywhere(fleet, "/wp-content/copied.txt", |_, text| text == "by hand").await;
    captured(fleet, CaptureState::Deployed).await;
    let copied = fleet.run(&["history", "wp-content/copied.txt"]).await.unwrap().ok().unwrap();
    assert!(copied.stdout.contains("Add wp-content/copied.txt"), "{copied:?}");
    let code = fleet.clone_code().await.unwrap();
    code.git(&["merge-base", "--is-ancestor", &pushed, "HEAD"]).await.unwrap().ok().unwrap();
}

async fn what_conflicts_is_told_and_undone(fleet: &Fleet) {
    fleet.whole(INSTANCES.into()).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    code.write("wp-content/both.txt", "by git").unwrap();
    let pushed = code.commit("Push a file that somebody writes, too").await.unwrap();
    put(fleet, "wp-content/both.txt", "by hand");
    code.push("main").await.unwrap();
    let failed = captured(fleet, CaptureState::Failed).await;
    assert!(failed.reason.contains("both changed `wp-content/both.txt`"), "{failed:?}");
    assert!(failed.reason.contains("origin/capture-"), "{failed:?}");
    let number = failed.record.number.to_string();
    fleet.run(&["captures", "revert", &number]).await.unwrap().ok().unwrap();
    until("the workshop to follow", LIMIT, async || {
        let text = std::fs::read_to_string(workshop(fleet).join("wp-content/both.txt"));
        let text = text.unwrap_or_default();
        if text == "by git" { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    let status = fleet.whole(INSTANCES.into()).await.unwrap();
    assert_eq!(status.release.unwrap().revision.as_str(), pushed);
}

async fn nothing_is_lost_when_the_foreman_is_killed(fleet: &Fleet) {
    for round in 0..KILLS {
        for number in 0..FILES {
            put(fleet, &format!("wp-content/many/{number}.txt"), &format!("{round} {number}"));
        }
        // From right after the write to the middle of the deploy.
        tokio::time::sleep(KILL_STEP * u32::try_from(round).unwrap()).await;
        fleet.kill(Part::Foreman).unwrap();
    }
    let round = KILLS - 1;
    for number in 0..FILES {
        let path = format!("/wp-content/many/{number}.txt");
        everywhere(fleet, &path, |_, text| text == format!("{round} {number}")).await;
    }
    captured(fleet, CaptureState::Deployed).await;
    fleet.whole(INSTANCES.into()).await.unwrap();
}

async fn what_changes_on_an_instance_is_restored(fleet: &Fleet) {
    let colour = fleet.colour().await.unwrap();
    let site = fleet.path().join(format!(".flotilla/instances/web-1/{colour}/site"));
    let whole = std::fs::read_to_string(site.join("readme.html")).unwrap();
    write(&site.join("readme.html"), "changed from outside").unwrap();
    write(&site.join("wp-content/plugins/evil.txt"), "left by somebody").unwrap();
    everywhere(fleet, "/readme.html", |_, text| text == whole).await;
    everywhere(fleet, "/wp-content/plugins/evil.txt", |status, _| status != 200).await;
    let logs = fleet.run(&["logs", "web-1"]).await.unwrap().ok().unwrap();
    assert!(logs.stdout.contains("was changed from outside"), "{}", logs.stdout);
}

async fn customers_noticed_nothing(fleet: &Fleet, load: Load) {
    load.more(20).await.unwrap();
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    let failed = failed(&exchanges);
    assert!(failed.is_empty(), "{} requests failed, such as {:?}", failed.len(), failed.first());
    assert!(orders::check(fleet, &exchanges).await.unwrap() > 0);
}

/// Writes a file in the workshop as PHP's user.
fn put(fleet: &Fleet, path: &str, text: &str) {
    let file = workshop(fleet).join(path);
    write(&file, text).unwrap();
    if Uid::effective().is_root() {
        let user = User::from_name("www-data").unwrap().unwrap();
        for path in [file.parent().unwrap(), &file] {
            chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }
}

fn workshop(fleet: &Fleet) -> PathBuf {
    fleet.path().join(".flotilla/foreman/workshop/site")
}

async fn workshop_has(fleet: &Fleet, path: &str, is_there: bool) {
    let file = workshop(fleet).join(path);
    until(path, LIMIT, async || {
        if file.exists() == is_there { Ok(()) } else { Err(format!("{}", !is_there)) }
    })
    .await
    .unwrap();
}

/// Waits until each instance answers a request as wanted.
async fn everywhere(fleet: &Fleet, path: &str, is_wanted: impl Fn(u16, &str) -> bool) {
    until(path, LIMIT, async || {
        let slots = fleet.slots_in_service().await.map_err(|error| format!("{error:#}"))?;
        for (name, address) in slots {
            let request = fleet.visit(address, Method::GET, path).unwrap();
            let response = request.send().await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let text = response.text().await.map_err(|error| error.to_string())?;
            if !is_wanted(status, &text) {
                return Err(format!("{name} answers {status}"));
            }
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until the oldest capture has a state.
async fn captured_first(fleet: &Fleet, state: CaptureState) {
    until("the first capture", LIMIT, async || {
        let items: Vec<CaptureItem> = json(fleet, &["captures", "--json"]).await;
        match items.last() {
            Some(item) if item.record.state == state => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

/// Waits until the newest capture has a state.
async fn captured(fleet: &Fleet, state: CaptureState) -> CaptureItem {
    until("the newest capture", LIMIT, async || {
        let items: Vec<CaptureItem> = json(fleet, &["captures", "--json"]).await;
        match items.into_iter().next() {
            Some(item) if item.record.state == state => Ok(item),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap()
}

async fn newest(fleet: &Fleet) -> HistoryItem {
    let items: Vec<HistoryItem> = json(fleet, &["history", "-n", "1", "--json"]).await;
    items.into_iter().next().unwrap()
}

async fn json<T: serde::de::DeserializeOwned>(fleet: &Fleet, args: &[&str]) -> T {
    let ran = fleet.run(args).await.unwrap().ok().unwrap();
    serde_json::from_value(ran.json().unwrap()).unwrap()
}

/// Makes a zip with a plugin, and with files that git would leave out or change.
fn zip(directory: &Path, name: &str, php: &str) -> PathBuf {
    let path = directory.join(format!("{name}.zip"));
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    let files = [
        (format!("{name}.php"), php),
        (".gitignore".into(), "*.log"),
        ("kept.log".into(), "kept\r\n"),
    ];
    for (file, text) in files {
        zip.start_file(format!("{name}/{file}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    path
}
