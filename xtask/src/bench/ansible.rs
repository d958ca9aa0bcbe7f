//! Ansible's hosts: each a directory with its own sshd, nginx and php-fpm, on the loopback address.
//!
//! All of it is below target/bench and runs as children of this process. The play is the usual one:
//! the `git` module, then a reload of php-fpm and nginx where something changed.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use super::cpu::Root;
use super::fleet::Fleet;
use super::peer::{Peer, Plan, copy_configuration};
use super::process::{Background, wait_until};
use super::{address, directory, write};
use crate::program::Program;

const PLAY_MINUTES: u32 = 10;
const START_LIMIT: Duration = Duration::from_secs(20);
/// Where sshd wants an empty directory when it runs as root; Debian's service makes it at start.
const SSHD_ROOM: &str = "/run/sshd";

/// The hosts, while they run.
pub(crate) struct Hosts {
    directory: PathBuf,
    peers: Vec<Peer>,
    sshds: Vec<Background>,
    has_made_room: bool,
}

impl Hosts {
    /// Starts as many hosts, with the site as it is in the fleet's repository.
    pub(crate) fn start(fleet: &Fleet, count: u16) -> anyhow::Result<Self> {
        let directory = directory().join("ansible");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        let has_made_room = make_sshd_room()?;
        let mut hosts = Self { directory, peers: Vec::new(), sshds: Vec::new(), has_made_room };
        hosts.make_keys()?;
        let slot = fleet.slot("web-1")?;
        let addresses = address::free(usize::from(count) * 2)?;
        let mut inventory = String::new();
        for (number, pair) in addresses.chunks_exact(2).enumerate() {
            let [site, ssh] = pair else { continue };
            let own = hosts.directory.join(format!("host-{}", number + 1));
            Program::new("git")
                .args(["clone", "--quiet"])
                .arg(fleet.repository())
                .arg(own.join("site"))
                .output()?;
            copy_configuration(&slot, &own)?;
            let plan = Plan {
                directory: own.clone(),
                address: *site,
                slot: &slot,
                workers: 1,
                nginx_workers: "1",
            };
            let peer = Peer::start(&plan)?;
            hosts.start_sshd(&own, *ssh)?;
            let (fpm, nginx) = peer.pids();
            writeln!(
                inventory,
                "host-{} ansible_host=127.0.0.1 ansible_port={} site={}/site fpm={fpm} nginx={nginx}",
                number + 1,
                ssh.port(),
                own.display()
            )?;
            hosts.peers.push(peer);
        }
        write(&hosts.directory.join("inventory"), &inventory)?;
        hosts.write_play(&fleet.repository())?;
        Ok(hosts)
    }

    /// Deploys the tip of the branch to all hosts.
    pub(crate) fn play(&self) -> anyhow::Result<()> {
        Program::new("ansible-playbook")
            .arg("-i")
            .arg(self.directory.join("inventory"))
            .arg(self.directory.join("deploy.yml"))
            .env("ANSIBLE_CONFIG", self.directory.join("ansible.cfg"))
            .env("HOME", &self.directory)
            .minutes(PLAY_MINUTES)
            .called("ansible-playbook")
            .output()
            .map(drop)
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(|peer| peer.address).collect()
    }

    pub(crate) fn roots(&self) -> Vec<Root> {
        let sshds = self.sshds.iter().map(|sshd| ("sshd".to_owned(), sshd.pid()));
        self.peers.iter().flat_map(Peer::roots).chain(sshds).collect()
    }

    fn make_keys(&self) -> anyhow::Result<()> {
        for name in ["host-key", "key"] {
            Program::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(self.directory.join(name))
                .output()?;
        }
        Ok(())
    }

    fn start_sshd(&mut self, own: &Path, address: SocketAddr) -> anyhow::Result<()> {
        let shared = self.directory.display();
        let configuration = format!(
            "ListenAddress {address}\nHostKey {shared}/host-key\nAuthorizedKeysFile {shared}/key.pub\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nMaxStartups 100\n"
        );
        let file = own.join("sshd_config");
        write(&file, &configuration)?;
        let words = ["/usr/sbin/sshd", "-D", "-e", "-f"].map(str::to_owned);
        let words = [words.as_slice(), &[file.to_string_lossy().into_owned()]].concat();
        let mut sshd = Background::start("sshd", &words, &own.join("sshd.log"))?;
        wait_until("the start of sshd", START_LIMIT, || {
            sshd.check()?;
            Ok(std::net::TcpStream::connect(address).is_ok())
        })?;
        self.sshds.push(sshd);
        Ok(())
    }

    fn write_play(&self, repository: &Path) -> anyhow::Result<()> {
        let own = self.directory.display();
        let configuration = format!(
            "[defaults]\nforks = 20\nhost_key_checking = False\nprivate_key_file = {own}/key\n\
             remote_tmp = {own}/remote-tmp\nlocal_tmp = {own}/local-tmp\n\
             interpreter_python = /usr/bin/python3\n\n\
             [ssh_connection]\npipelining = True\ncontrol_path_dir = {own}/cp\n\
             ssh_args = -F none -o ControlMaster=auto -o ControlPersist=60s \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR\n"
        );
        write(&self.directory.join("ansible.cfg"), &configuration)?;
        let play = format!(
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: Bring the code\n      \
             ansible.builtin.git:\n        repo: {}\n        dest: '{{{{ site }}}}'\n        \
             version: main\n        force: true\n      notify: [Reload PHP, Reload nginx]\n  \
             handlers:\n    - name: Reload PHP\n      ansible.builtin.command: kill -USR2 {{{{ fpm }}}}\n    \
             - name: Reload nginx\n      ansible.builtin.command: kill -HUP {{{{ nginx }}}}\n",
            repository.display()
        );
        write(&self.directory.join("deploy.yml"), &play)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The connections that Ansible keeps open would live for another minute.
        let sockets = std::fs::read_dir(self.directory.join("cp"));
        for socket in sockets.into_iter().flatten().flatten() {
            let path = socket.path();
            let option = format!("ControlPath={}", path.display());
            let exit =
                Program::new("ssh").args(["-F", "none", "-O", "exit", "-o", &option, "host"]);
            drop(exit.called("ssh -O exit").output());
        }
        self.sshds.clear();
        self.peers.clear();
        if self.has_made_room {
            drop(std::fs::remove_dir(SSHD_ROOM));
        }
    }
}

fn make_sshd_room() -> anyhow::Result<bool> {
    if !Uid::effective().is_root() || Path::new(SSHD_ROOM).exists() {
        return Ok(false);
    }
    std::fs::create_dir(SSHD_ROOM)?;
    Ok(true)
}
