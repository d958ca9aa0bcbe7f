//! The machine of a measurement: what it is, and what it lacks.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::program::Program;

/// Programs that are measured, and the Debian packages that bring them. What a fleet itself runs on
/// is `flotilla packages`' business.
const ANSIBLE: [(&str, &str); 3] = [
    ("/usr/bin/ansible-playbook", "ansible-core"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
];
const SESSIONS: [(&str, &str); 2] =
    [("/usr/sbin/nutcracker", "nutcracker"), ("/usr/bin/memcached", "memcached")];
const MEDIA: [(&str, &str); 1] = [("/usr/bin/s3fs", "s3fs")];

/// Whom flotilla is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Peers {
    pub(crate) has_ansible: bool,
    pub(crate) has_sessions: bool,
    pub(crate) has_media: bool,
}

/// Makes sure that everything is there.
pub(crate) fn require(peers: Peers, installs: bool) -> anyhow::Result<()> {
    let Peers { has_ansible, has_sessions, has_media } = peers;
    let mut missing: Vec<&str> = Vec::new();
    let ansible = ANSIBLE.iter().filter(|_| has_ansible);
    let sessions = SESSIONS.iter().filter(|_| has_sessions);
    let media = MEDIA.iter().filter(|_| has_media);
    for (program, package) in ansible.chain(sessions).chain(media) {
        if !Path::new(program).exists() {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !installs {
        let way_out = if has_ansible { ", --without-ansible leaves Ansible out" } else { "" };
        bail!("`{names}` is not installed; --install installs it{way_out}");
    }
    Program::new("apt-get")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

/// Returns the newest php-fpm that is installed.
pub(crate) fn php_fpm() -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir("/usr/sbin")?;
    let newest = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (major, minor) = name.strip_prefix("php-fpm")?.split_once('.')?;
            Some(((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?), entry.path()))
        })
        .max();
    match newest {
        Some((_, path)) => Ok(path),
        None => bail!("`php-fpm` is not installed; `flotilla packages --install` installs it"),
    }
}

/// Says in one line what machine this is, and how busy.
pub(crate) fn describe() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let line = |text: &str, key: &str| {
        let found = text.lines().find(|line| line.starts_with(key));
        found
            .and_then(|line| line.split_once([':', '=']))
            .map_or("unknown", |(_, value)| value.trim().trim_matches('"'))
            .to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = line(&read("/proc/cpuinfo"), "model name");
    let system = line(&read("/etc/os-release"), "PRETTY_NAME");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({cpu}), {system}, Linux {}, load average {}", kernel.trim(), busy())
}

/// Returns the load average of the last minute.
pub(crate) fn busy() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
