//! The peer: WordPress as people set it up on one Debian server, with plain nginx and php-fpm.
//!
//! The same code, the same `wp-config.php`, the same database, the same PHP settings and the same
//! number of PHP workers as the slot beside it; no balancer, no namespace, no code of ours.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use nix::unistd::Uid;

use super::cpu::{Root, pids};
use super::process::{Background, wait_until};
use super::{machine, write};
use crate::program::Program;

const START_LIMIT: Duration = Duration::from_secs(20);
const USER: &str = "www-data";
/// What only makes sense in a slot: the peer has PHP's defaults.
const OURS: [&str; 2] = ["auto_prepend_file", "user_ini.filename"];

/// What a peer is made from.
pub(crate) struct Plan<'a> {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    /// The slot whose configuration and code it shares.
    pub(crate) slot: &'a Path,
    pub(crate) workers: u16,
    /// How many nginx workers; Debian has one for each core.
    pub(crate) nginx_workers: &'a str,
}

/// A server that runs.
pub(crate) struct Peer {
    directory: PathBuf,
    pub(crate) address: SocketAddr,
    workers: u16,
    fpm: Option<Background>,
    nginx: Background,
}

impl Peer {
    /// Starts nginx and php-fpm over the code in `site` below the directory.
    pub(crate) fn start(plan: &Plan<'_>) -> anyhow::Result<Self> {
        let directory = &plan.directory;
        check_reachable(directory)?;
        for name in ["body", "fastcgi", "proxy", "scgi", "uwsgi"] {
            std::fs::create_dir_all(directory.join("nginx").join(name))?;
        }
        write(&directory.join("nginx.conf"), &nginx_conf(plan)?)?;
        write(&directory.join("php-fpm.conf"), &fpm_conf(plan)?)?;
        write(&directory.join("php.ini"), &php_ini(plan)?)?;
        let words = ["/usr/sbin/nginx", "-e", "stderr", "-c"].map(str::to_owned);
        let words = [words.as_slice(), &[text(&directory.join("nginx.conf"))]].concat();
        let nginx = Background::start("nginx", &words, &directory.join("nginx.log"))?;
        let mut peer = Self {
            directory: directory.clone(),
            address: plan.address,
            workers: plan.workers,
            fpm: None,
            nginx,
        };
        peer.restart_php()?;
        peer.wait_until_served()?;
        Ok(peer)
    }

    /// Ends php-fpm and starts it again: nothing is compiled.
    pub(crate) fn restart_php(&mut self) -> anyhow::Result<()> {
        self.fpm = None;
        let words = [
            text(&machine::php_fpm()?),
            "--nodaemonize".to_owned(),
            "--fpm-config".to_owned(),
            text(&self.directory.join("php-fpm.conf")),
            "-c".to_owned(),
            text(&self.directory.join("php.ini")),
        ];
        let log = self.directory.join("php-fpm.log");
        let fpm = self.fpm.insert(Background::start("php-fpm", &words, &log)?);
        let (socket, workers) = (self.directory.join("php.sock"), usize::from(self.workers));
        wait_until("the start of php-fpm", START_LIMIT, || {
            fpm.check()?;
            let has_workers = pids(&[(String::new(), fpm.pid())]).len() > workers;
            Ok(has_workers && std::os::unix::net::UnixStream::connect(&socket).is_ok())
        })
    }

    /// Sends the signals of a reload, as a play does through a handler.
    pub(crate) fn pids(&self) -> (i32, i32) {
        (self.fpm.as_ref().map_or(0, Background::pid), self.nginx.pid())
    }

    /// The first processes of its trees.
    pub(crate) fn roots(&self) -> Vec<Root> {
        let (fpm, nginx) = self.pids();
        vec![("php".to_owned(), fpm), ("nginx".to_owned(), nginx)]
    }

    fn wait_until_served(&mut self) -> anyhow::Result<()> {
        let (address, nginx) = (self.address, &mut self.nginx);
        wait_until("the start of nginx", START_LIMIT, || {
            nginx.check()?;
            Ok(std::net::TcpStream::connect(address).is_ok())
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Requests end first; dropping sends SIGTERM.
        drop(self.nginx.signal(Signal::SIGQUIT));
    }
}

/// Copies the code and the configuration of a slot to where a peer serves them from.
pub(crate) fn copy_site(slot: &Path, directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)?;
    let site = directory.join("site");
    Program::new("cp").arg("-a").arg(slot.join("site")).arg(&site).run()?;
    let pointer = site.join(".git");
    if pointer.is_file() {
        std::fs::remove_file(pointer)?;
    }
    copy_configuration(slot, directory)
}

/// Copies `wp-config.php` to where WordPress looks for it, beside the code.
pub(crate) fn copy_configuration(slot: &Path, directory: &Path) -> anyhow::Result<()> {
    let copy = directory.join("wp-config.php");
    std::fs::copy(slot.join("wp-config.php"), &copy).context("cannot copy `wp-config.php`")?;
    if Uid::effective().is_root() {
        Program::new("chown").arg(USER).arg(&copy).run()?;
    }
    Ok(())
}

/// PHP of the peer has another user than root, and no namespace that brings the code to it.
fn check_reachable(directory: &Path) -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    for above in directory.ancestors() {
        let mode = above.metadata().with_context(|| format!("cannot see `{}`", above.display()))?;
        if mode.permissions().mode() & 0o001 == 0 {
            bail!("`{USER}` cannot enter `{}`; the peer needs a checkout it can", above.display());
        }
    }
    Ok(())
}

fn nginx_conf(plan: &Plan<'_>) -> anyhow::Result<String> {
    let directory = plan.directory.display();
    let mut text = String::new();
    if Uid::effective().is_root() {
        writeln!(text, "user {USER};")?;
    }
    writeln!(text, "daemon off;\nworker_processes {};", plan.nginx_workers)?;
    writeln!(text, "pid {directory}/nginx.pid;\nevents {{ worker_connections 768; }}\nhttp {{")?;
    for (key, name) in [
        ("client_body", "body"),
        ("fastcgi", "fastcgi"),
        ("proxy", "proxy"),
        ("scgi", "scgi"),
        ("uwsgi", "uwsgi"),
    ] {
        writeln!(text, "  {key}_temp_path {directory}/nginx/{name};")?;
    }
    // As Debian's nginx.conf, its sites-available/default and snippets/fastcgi-php.conf have it.
    text.push_str(
        "  sendfile on; tcp_nopush on; types_hash_max_size 2048; gzip on;\n  \
           include /etc/nginx/mime.types; default_type application/octet-stream;\n",
    );
    writeln!(
        text,
        "  access_log {directory}/access.log;\n  server {{\n    listen {};",
        plan.address
    )?;
    writeln!(text, "    root {directory}/site; index index.php;")?;
    text.push_str("    location / { try_files $uri $uri/ /index.php$is_args$args; }\n");
    text.push_str("    location ~ \\.php$ {\n      fastcgi_split_path_info ^(.+?\\.php)(/.*)$;\n");
    text.push_str("      try_files $fastcgi_script_name =404;\n");
    for (name, value) in FASTCGI {
        writeln!(text, "      fastcgi_param {name} {value};")?;
    }
    writeln!(text, "      fastcgi_pass unix:{directory}/php.sock;\n    }}\n  }}\n}}")?;
    Ok(text)
}

/// Debian's fastcgi.conf, but for its last line, which takes the port from the host: WordPress on a
/// port of its own then redirects each page to itself.
const FASTCGI: [(&str, &str); 19] = [
    ("SCRIPT_FILENAME", "$document_root$fastcgi_script_name"),
    ("QUERY_STRING", "$query_string"),
    ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("SCRIPT_NAME", "$fastcgi_script_name"),
    ("REQUEST_URI", "$request_uri"),
    ("DOCUMENT_URI", "$document_uri"),
    ("DOCUMENT_ROOT", "$document_root"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"),
    ("SERVER_NAME", "$server_name"),
    ("REDIRECT_STATUS", "200"),
];

fn fpm_conf(plan: &Plan<'_>) -> anyhow::Result<String> {
    let directory = plan.directory.display();
    let mut text = format!(
        "[global]\npid = {directory}/php-fpm.pid\nerror_log = {directory}/php-fpm.error.log\n\
         daemonize = no\n\n[www]\n"
    );
    if Uid::effective().is_root() {
        writeln!(
            text,
            "user = {USER}\ngroup = {USER}\nlisten.owner = {USER}\nlisten.group = {USER}"
        )?;
    }
    writeln!(
        text,
        "listen = {directory}/php.sock\npm = static\npm.max_children = {}",
        plan.workers
    )?;
    Ok(text)
}

/// The slot's own settings, without those that only make sense in a slot.
fn php_ini(plan: &Plan<'_>) -> anyhow::Result<String> {
    let ini = std::fs::read_to_string(plan.slot.join("etc/php.ini"))
        .context("cannot read the slot's `php.ini`")?;
    let kept: Vec<String> = ini
        .lines()
        .filter(|line| !OURS.iter().any(|key| line.starts_with(key)))
        .map(|line| match line.split_once('=') {
            Some(("error_log ", _)) => {
                format!("error_log = {}/php-error.log", plan.directory.display())
            }
            _ => line.to_owned(),
        })
        .collect();
    Ok(kept.join("\n") + "\n")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
