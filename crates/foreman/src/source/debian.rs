//! WordPress out of Debian's packages, turned back into the plain directory that WordPress ships.
//!
//! apt works in private directories and installs nothing, so this needs no root and changes nothing
//! of the machine. Debian splits WordPress over packages that link to each other: all links are
//! replaced by what they lead to.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use flotilla_host::command::Command;

use super::{SourceError, Taken, check, empty};

const TIME_LIMIT: Duration = Duration::from_secs(600);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where the package has WordPress.
const ROOT: &str = "/usr/share/wordpress";
/// What Debian put in for itself.
const NOT_WORDPRESS: &[&str] = &[".htaccess", "wp-config.php"];
/// A link to the machine's own file, which no package of these has.
const CERTIFICATES: &str = "/etc/ssl/certs";
const LINKS_MAX: usize = 40;
const DEPTH_MAX: usize = 60;

/// Gets WordPress from this suite, or from the one that the machine runs.
pub(super) async fn take<S: Fn(String)>(
    suite: Option<&str>,
    scratch: &Path,
    say: &S,
) -> Result<Taken, SourceError> {
    let apt = Apt::prepare(suite, scratch).await?;
    say("Reading Debian's list of packages".to_owned());
    apt.command("apt-get").arg("update").run().await.map_err(SourceError::Debian)?;
    let packages = apt.packages().await?;
    say(format!("Downloading {} packages of Debian", packages.len()));
    let archives = apt.root.join("packages");
    empty(&archives).await?;
    apt.command("apt-get")
        .arg("download")
        .args(&packages)
        .directory(&archives)
        .run()
        .await
        .map_err(SourceError::Debian)?;
    let unpacked = apt.root.join("unpacked");
    empty(&unpacked).await?;
    extract(&archives, &unpacked).await?;
    let directory = scratch.join("unpacked");
    empty(&directory).await?;
    let into = directory.clone();
    tokio::task::spawn_blocking(move || assemble(&unpacked, &into)).await??;
    let name = match suite {
        Some(suite) => format!("Debian {suite}"),
        None => machine_name().await,
    };
    check(&directory, &name).await
}

/// apt with directories of its own.
#[derive(Debug)]
struct Apt {
    root: PathBuf,
    options: Vec<String>,
}

impl Apt {
    async fn prepare(suite: Option<&str>, scratch: &Path) -> Result<Self, SourceError> {
        // apt takes relative directories for relative to its own.
        let scratch = std::path::absolute(scratch).map_err(SourceError::file("find", scratch))?;
        let root = scratch.join("apt");
        for name in ["lists/partial", "cache/archives/partial", "preferences.d"] {
            let path = root.join(name);
            tokio::fs::create_dir_all(&path).await.map_err(SourceError::file("create", &path))?;
        }
        let write = async |name: &str, text: String| {
            let path = root.join(name);
            tokio::fs::write(&path, text).await.map_err(SourceError::file("write", &path))
        };
        write("status", String::new()).await?;
        let option = |name: &str, value: &str| format!("-o{name}={}/{value}", root.display());
        let mut options = vec![
            option("Dir::State", "state"),
            option("Dir::State::lists", "lists"),
            option("Dir::State::status", "status"),
            option("Dir::Cache", "cache"),
            option("Dir::Etc::preferences", "preferences"),
            option("Dir::Etc::preferencesparts", "preferences.d"),
            "-oAPT::Sandbox::User=".to_owned(),
            "-oAPT::Get::AllowUnauthenticated=false".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
            "-oAcquire::Retries=2".to_owned(),
            "-oAcquire::http::Timeout=30".to_owned(),
        ];
        if let Some(suite) = suite {
            let mirror = mirror().await.ok_or_else(|| SourceError::NoMirror(suite.to_owned()))?;
            write("sources.list", format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
                .await?;
            options.push(option("Dir::Etc::sourcelist", "sources.list"));
            options.push(option("Dir::Etc::sourceparts", "no-parts"));
        }
        Ok(Self { root, options })
    }

    fn command(&self, program: &str) -> Command {
        Command::new(program)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .args(&self.options)
            .time_limit(TIME_LIMIT)
    }

    /// Returns `wordpress`, the packages that it has links into, and the theme it starts with.
    async fn packages(&self) -> Result<Vec<String>, SourceError> {
        let output = self
            .command("apt-cache")
            .args(["depends", "wordpress"])
            .run()
            .await
            .map_err(SourceError::Debian)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut packages = vec!["wordpress".to_owned()];
        for line in text.lines() {
            let Some((kind, name)) = line.trim().trim_start_matches('|').split_once(": ") else {
                continue;
            };
            let is_part = match kind {
                "Depends" => {
                    let starts = ["libjs-", "libphp-", "php-getid3", "php-simplepie"];
                    starts.iter().any(|start| name.starts_with(start))
                }
                "Recommends" => name.starts_with("wordpress-theme-"),
                _ => false,
            };
            if is_part && !packages.iter().any(|package| package == name) {
                packages.push(name.to_owned());
            }
        }
        Ok(packages)
    }
}

/// Returns the mirror of Debian that the machine itself uses.
async fn mirror() -> Option<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .args(["Origin: Debian"])
        .run_unchecked()
        .await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let own = text.lines().find(|line| line.contains("debian") && !line.contains("security"));
    own.map(str::to_owned)
}

/// Returns what the machine calls itself: `Debian bookworm`.
async fn machine_name() -> String {
    let text = tokio::fs::read_to_string("/etc/os-release").await.unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_matches('"').to_owned())
    };
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some(id), Some(codename)) if id == "debian" => format!("Debian {codename}"),
        (Some(id), Some(codename)) => format!("{id} {codename}"),
        _ => "Debian".to_owned(),
    }
}

async fn extract(archives: &Path, into: &Path) -> Result<(), SourceError> {
    let fail = || SourceError::file("read", archives);
    let mut entries = tokio::fs::read_dir(archives).await.map_err(fail())?;
    while let Some(entry) = entries.next_entry().await.map_err(fail())? {
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(entry.path())
            .arg(into)
            .run()
            .await
            .map_err(SourceError::Debian)?;
    }
    Ok(())
}

/// Copies WordPress out of the unpacked packages, links replaced by what they lead to. Blocks.
fn assemble(packages: &Path, into: &Path) -> Result<(), SourceError> {
    copy(packages, Path::new(ROOT), into, 0)?;
    for name in NOT_WORDPRESS {
        let path = into.join(name);
        if path.exists() {
            std::fs::remove_file(&path).map_err(SourceError::file("remove", &path))?;
        }
    }
    // WordPress ships it, Debian does not.
    let index = into.join("wp-content/index.php");
    if !index.exists() {
        std::fs::write(&index, "<?php\n// Silence is golden.\n")
            .map_err(SourceError::file("write", &index))?;
    }
    Ok(())
}

fn copy(packages: &Path, from: &Path, into: &Path, depth: usize) -> Result<(), SourceError> {
    let dead = |path: &Path| SourceError::DeadLink(path.display().to_string());
    if depth > DEPTH_MAX {
        return Err(dead(from));
    }
    let real = packages.join(from.strip_prefix("/").unwrap_or(from));
    for entry in std::fs::read_dir(&real).map_err(SourceError::file("read", &real))? {
        let name = entry.map_err(SourceError::file("read", &real))?.file_name();
        if depth == 0 && NOT_WORDPRESS.iter().any(|other| name == *other) {
            continue;
        }
        let (path, target) = (from.join(&name), into.join(&name));
        let resolved = resolve(packages, &path).ok_or_else(|| dead(&path))?;
        let inside = packages.join(resolved.strip_prefix("/").unwrap_or(&resolved));
        let source = if resolved.starts_with(CERTIFICATES) { resolved.clone() } else { inside };
        let Ok(metadata) = source.metadata() else { return Err(dead(&path)) };
        if metadata.is_dir() {
            std::fs::create_dir_all(&target).map_err(SourceError::file("create", &target))?;
            copy(packages, &resolved, &target, depth + 1)?;
        } else {
            std::fs::copy(&source, &target).map_err(SourceError::file("copy", &source))?;
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))
                .map_err(SourceError::file("change", &target))?;
        }
    }
    Ok(())
}

/// Follows all links of a path as if the unpacked packages were the whole machine.
fn resolve(packages: &Path, path: &Path) -> Option<PathBuf> {
    let names = |path: &Path| -> Vec<OsString> {
        let normal = |one: Component<'_>| match one {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        };
        path.components().filter_map(normal).collect()
    };
    let mut left: VecDeque<OsString> = names(path).into();
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == OsStr::new("..") {
            resolved.pop();
            continue;
        }
        resolved.push(&name);
        let real = packages.join(resolved.strip_prefix("/").ok()?);
        let Ok(target) = std::fs::read_link(&real) else { continue };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        resolved.pop();
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        for name in names(&target).into_iter().rev() {
            left.push_front(name);
        }
    }
    Some(resolved)
}
