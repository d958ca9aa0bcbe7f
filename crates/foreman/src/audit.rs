//! Audits a site's plugins and themes: reads their code, and the logs in which PHP told of denied
//! writes. What it means is decided by `flotilla_core::audit`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flotilla_core::audit::{
    Denied, Place, Surroundings, Verdict, constants_of, denied_write, judge, scan,
};
use flotilla_core::layout;
use flotilla_core::php::{Token, tokens};
use flotilla_core::storage::below_site;
use serde::Serialize;

/// Where plugins and themes lie, each with its directory or file.
const PARTS: [&str; 3] = ["wp-content/mu-plugins", "wp-content/plugins", "wp-content/themes"];
/// Larger plugins exist, but not larger scripts that anybody wrote.
const FILES_MAX: usize = 20_000;
const FILE_BYTES_MAX: u64 = 2 << 20;
const DEPTH_MAX: usize = 32;
/// How much of the end of each log is read.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Says what could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", path.display())]
pub struct AuditError {
    path: PathBuf,
    source: io::Error,
}

/// One place that a plugin or theme writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its directory or file below `wp-content`, such as `plugins/shop`; `wordpress` for the rest.
    pub owner: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Where it writes, relative to the site.
    pub place: String,
    /// What to do about it, in one line.
    pub remedy: &'static str,
    /// How many places of the code write there.
    pub calls: usize,
    /// The first of them, as `file:line` relative to the site.
    pub first: String,
    /// How often PHP told that such a write was denied.
    pub denied: usize,
}

type Key = (String, Place);

/// Audits the code below `site` together with logs. Blocks.
///
/// # Errors
/// A directory of the code cannot be read.
pub fn audit(site: &Path, logs: &[PathBuf]) -> Result<Vec<Entry>, AuditError> {
    let mut found: BTreeMap<Key, Entry> = BTreeMap::new();
    for part in PARTS {
        let directory = site.join(part);
        for path in entries(&directory)? {
            audit_owner(site, &path, &mut found)?;
        }
    }
    for log in logs {
        for denied in denied_of(log) {
            add_denied(&denied, &mut found);
        }
    }
    let mut all: Vec<Entry> = found.into_values().collect();
    all.sort_by(|one, other| {
        (&one.owner, one.verdict, &one.place).cmp(&(&other.owner, other.verdict, &other.place))
    });
    Ok(all)
}

fn audit_owner(
    site: &Path,
    path: &Path,
    found: &mut BTreeMap<Key, Entry>,
) -> Result<(), AuditError> {
    let mut files = Vec::new();
    collect(path, 0, &mut files)?;
    let relative =
        |path: &Path| path.strip_prefix(site).unwrap_or(path).to_string_lossy().into_owned();
    let inside = |path: &Path| format!("{}/{}", layout::SITE, relative(path));
    let owner = owner_of(&relative(path));
    let parsed: Vec<(PathBuf, Vec<Token>)> = files
        .into_iter()
        .filter_map(|file| {
            let bytes = fs::read(&file).ok()?;
            Some((file, tokens(&String::from_utf8_lossy(&bytes))))
        })
        .collect();
    let mut around = Surroundings::of(inside(path));
    for (file, tokens) in &parsed {
        around.directory = inside(file.parent().unwrap_or(path));
        let more = constants_of(tokens, &around);
        around.constants.extend(more);
    }
    for (file, tokens) in &parsed {
        around.directory = inside(file.parent().unwrap_or(path));
        for finding in scan(tokens, &around) {
            let first = format!("{}:{}", relative(file), finding.line);
            let entry = entry(&owner, &finding.place, first, found);
            entry.calls += 1;
        }
    }
    Ok(())
}

fn entry<'a>(
    owner: &str,
    place: &Place,
    first: String,
    found: &'a mut BTreeMap<Key, Entry>,
) -> &'a mut Entry {
    let name = owner.rsplit('/').next().unwrap_or(owner);
    let (verdict, remedy) = judge(name, place);
    found.entry((owner.to_owned(), place.clone())).or_insert_with(|| Entry {
        owner: owner.to_owned(),
        verdict,
        place: place.text().to_owned(),
        remedy,
        calls: 0,
        first,
        denied: 0,
    })
}

fn add_denied(denied: &Denied, found: &mut BTreeMap<Key, Entry>) {
    let script = below_site(&denied.script).unwrap_or(&denied.script);
    let (owner, first) = (owner_of(script), format!("{script}:{}", denied.line));
    let place = match &denied.path {
        Some(path) => Place::Path(path.clone()),
        // PHP does not tell it of every function, but the code may.
        None => {
            let is_it = |(key, entry): &(&Key, &Entry)| key.0 == owner && entry.first == first;
            found.iter().find(is_it).map_or(Place::Unknown, |(key, _)| key.1.clone())
        }
    };
    let entry = entry(&owner, &place, first, found);
    entry.denied += 1;
    // Whatever the code seemed to say: it was denied.
    entry.verdict = Verdict::Refused;
    if denied.is_for_want_of_space() {
        entry.remedy =
            "the slot's scratch was full; its caches must be bounded, or be switched off";
    } else if place == Place::Unknown {
        entry.remedy = "PHP did not say where; the named line of the code does";
    }
}

/// Names the plugin or theme that a path relative to the site belongs to.
fn owner_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["wp-content", kind @ ("plugins" | "themes" | "mu-plugins"), name, ..] => {
            format!("{kind}/{name}")
        }
        _ => "wordpress".to_owned(),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let error = |source| AuditError { path: directory.to_owned(), source };
    let found = match fs::read_dir(directory) {
        Ok(found) => found,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    let mut paths = Vec::new();
    for one in found {
        paths.push(one.map_err(error)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Collects the PHP below a path; links are not followed, and what is too large is left out.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), AuditError> {
    let Ok(data) = fs::symlink_metadata(path) else { return Ok(()) };
    if data.is_dir() && depth < DEPTH_MAX {
        for inner in entries(path)? {
            collect(&inner, depth + 1, files)?;
        }
    } else if data.is_file() && data.len() <= FILE_BYTES_MAX && files.len() < FILES_MAX {
        let is_php = path.extension().is_some_and(|end| end == "php" || end == "inc");
        if is_php {
            files.push(path.to_owned());
        }
    }
    Ok(())
}

/// Reads the denied writes out of the end of a log; a log that is not there tells of none.
fn denied_of(path: &Path) -> Vec<Denied> {
    let Ok(mut file) = fs::File::open(path) else { return Vec::new() };
    let size = file.metadata().map_or(0, |data| data.len());
    if file.seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES_MAX))).is_err() {
        return Vec::new();
    }
    let lines = io::BufReader::new(file.take(LOG_BYTES_MAX)).split(b'\n');
    lines
        .map_while(Result::ok)
        .filter_map(|line| denied_write(&String::from_utf8_lossy(&line)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// In the style of plugins that are known for it.
    fn offenders(site: &Path) {
        let plugins = site.join("wp-content/plugins");
        write(
            &plugins.join("wp-super-cache/wp-cache.php"),
            "<?php
            define( 'WPCACHECONFIGPATH', WP_CONTENT_DIR );
            $file = ABSPATH . 'wp-config.php';
            function write() { file_put_contents( WPCACHECONFIGPATH . '/wp-cache-config.php', 'x' ); }
            fopen( $file, 'w' );
            wp_mkdir_p( WP_CONTENT_DIR . '/cache/supercache' );",
        );
        write(
            &plugins.join("wordfence/lib/log.php"),
            "<?php if (!defined('WFWAF_LOG_PATH')) { define('WFWAF_LOG_PATH', WP_CONTENT_DIR . '/wflogs/'); }
            fopen(WFWAF_LOG_PATH . 'attack-data.php', 'r+');",
        );
        write(
            &plugins.join("woocommerce/log.php"),
            "<?php $uploads = wp_upload_dir( null, false );
            $dir = $uploads['basedir'] . '/wc-logs/';
            fopen( $dir . $handle, 'a' );",
        );
        write(&plugins.join("hello.php"), "<?php echo 'hello';");
    }

    #[test]
    fn known_offenders_get_a_verdict_and_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        offenders(directory.path());
        let log = directory.path().join("php-error.log");
        let denied = "[25-Nov-2026 22:00:00 UTC] PHP Warning:  \
            file_put_contents(/srv/flotilla/site/wp-content/wp-cache-config.php): Failed to open \
            stream: Read-only file system in \
            /srv/flotilla/site/wp-content/plugins/wp-super-cache/wp-cache.php on line 4\n";
        fs::write(&log, format!("{denied}{denied}noise\n")).unwrap();
        let logs = [log, directory.path().join("absent.log")];
        let all = audit(directory.path(), &logs).unwrap();
        let told: Vec<String> = all
            .iter()
            .map(|one| {
                let denied = one.denied;
                format!("{} {} {} {denied}", one.owner, one.verdict.as_str(), one.place)
            })
            .collect();
        assert_eq!(
            told,
            [
                "plugins/woocommerce fine wp-content/uploads/wc-logs/* 0",
                "plugins/wordfence scratch wp-content/wflogs/attack-data.php 0",
                "plugins/wp-super-cache refused wp-config.php 0",
                "plugins/wp-super-cache refused wp-content/wp-cache-config.php 2",
                "plugins/wp-super-cache scratch wp-content/cache/supercache 0",
            ]
        );
        assert_eq!(all[3].first, "wp-content/plugins/wp-super-cache/wp-cache.php:4");
    }
}
