//! Promises about Debian packages: what is missing is named, and nothing is started or enabled.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flotilla_targets::local::packages::{Installer, Machine, PackagesError};
use tempfile::TempDir;

const ALL_MODULES: &str = "imagick\nmysqli\nmemcached\nigbinary\ngd\ncurl\ndom\nSimpleXML\nmbstring\nzip\nintl\nZend OPcache\n";

struct Fake {
    directory: TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(fake.path("bin")).unwrap();
        fs::create_dir(fake.path("units")).unwrap();
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", self.path("").display())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    fn php(&self, name: &str, modules: &str) {
        self.program(name, &format!("echo '[PHP Modules]'; echo '{modules}'"));
    }

    fn all_but_php(&self) {
        for name in
            ["nginx", "mariadbd", "mariadb-install-db", "mariadb", "memcached", "git", "curl"]
        {
            self.program(name, "");
        }
        fs::write(self.path("certificates"), "").unwrap();
    }

    fn machine(&self) -> Machine {
        Machine::of(vec![self.path("bin")], self.path("certificates"))
    }

    fn installer(&self) -> Installer {
        let path = format!("PATH={}:/usr/bin:/bin", self.path("bin").display());
        let shell = ["env", &path, "/bin/sh"].map(str::to_owned);
        Installer::of(shell.into(), self.path("policy-rc.d"), self.path("units"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn an_empty_machine_misses_everything_and_nothing_of_apache_is_named() {
    let fake = Fake::new();
    let missing = fake.machine().missing().await.unwrap();
    let expected = "ca-certificates curl git mariadb-client mariadb-server memcached nginx-light \
        php-cli php-curl php-fpm php-gd php-igbinary php-imagick php-intl php-mbstring php-memcached php-mysql php-xml \
        php-zip";
    assert_eq!(missing.join(" "), expected);
}

#[tokio::test]
async fn modules_are_missed_for_the_version_that_serves() {
    let fake = Fake::new();
    fake.all_but_php();
    fake.php("php-fpm8.2", ALL_MODULES);
    fake.php("php8.2", ALL_MODULES);
    assert_eq!(fake.machine().missing().await.unwrap(), names(&[]));
    // The highest version serves, by number and not by letter.
    fake.php("php-fpm8.9", ALL_MODULES);
    fake.php("php-fpm8.10", &ALL_MODULES.replace("dom\n", ""));
    let missing = fake.machine().missing().await.unwrap();
    assert_eq!(missing, names(&["php8.10-cli", "php8.10-xml"]));
    assert_eq!(fake.machine().php().unwrap().version, "8.10");
}

#[tokio::test]
async fn this_machine_has_all_that_its_tests_need() {
    assert_eq!(Machine::this().missing().await.unwrap(), names(&[]));
}

#[tokio::test]
async fn an_installation_starts_and_enables_no_service_and_leaves_no_policy() {
    for status in [0, 7] {
        let fake = Fake::new();
        fs::write(fake.path("units/nginx.service"), "").unwrap();
        fake.program("systemctl", "echo \"$@\" >> disabled");
        fake.program(
            "apt-get",
            &format!(
                "case \"$*\" in *update) exit 100 ;; esac
                echo Setting up; echo \"$@\" > asked; cat policy-rc.d > policy-then
                sh policy-rc.d; echo $? >> policy-then
                touch units/mariadb.service; exit {status}"
            ),
        );
        let mut lines = Vec::new();
        let outcome = fake
            .installer()
            .install(&names(&["mariadb-server", "git"]), |line| lines.push(line.to_owned()))
            .await;
        match (status, outcome) {
            (0, Ok(())) => {}
            (7, Err(PackagesError::Failed { tail })) => assert!(tail.contains("Setting up")),
            other => panic!("{other:?}"),
        }
        assert!(lines.contains(&"Setting up".to_owned()), "{lines:?}");
        assert!(fake.read("asked").ends_with("install mariadb-server git\n"));
        assert!(fake.read("asked").contains("--no-install-recommends"));
        assert!(fake.read("policy-then").ends_with("exit 101\n101\n"));
        assert!(!fake.path("policy-rc.d").exists());
        // The one that was there before is somebody's.
        assert_eq!(fake.read("disabled"), "--quiet disable mariadb.service\n");
    }
}

#[tokio::test]
async fn a_policy_of_somebody_else_stays() {
    let fake = Fake::new();
    fake.program("apt-get", "exit 0");
    fs::write(fake.path("policy-rc.d"), "#!/bin/sh\nexit 0\n").unwrap();
    fake.installer().install(&names(&["git"]), |_| {}).await.unwrap();
    fake.installer().install(&[], |_| {}).await.unwrap();
    assert_eq!(fake.read("policy-rc.d"), "#!/bin/sh\nexit 0\n");
}

#[tokio::test]
async fn a_policy_that_a_killed_installation_left_is_removed() {
    for packages in [names(&[]), names(&["git"])] {
        let fake = Fake::new();
        fake.program("apt-get", "cp policy-rc.d left; kill -9 $PPID");
        let killed = fake.installer().install(&names(&["git"]), |_| {}).await;
        assert!(matches!(killed, Err(PackagesError::Failed { .. })), "{killed:?}");
        assert!(fake.path("policy-rc.d").exists());
        fake.program("apt-get", "exit 0");
        fake.installer().install(&packages, |_| {}).await.unwrap();
        assert!(!fake.path("policy-rc.d").exists());
    }
}

#[tokio::test]
async fn who_may_not_install_is_told_what_to_type() {
    let fake = Fake::new();
    let installer =
        Installer::of(names(&["false"]), Path::new("/x").into(), Path::new("/x").into());
    let error = installer.install(&names(&["git", "curl"]), |_| {}).await.unwrap_err().to_string();
    assert!(error.ends_with("type: apt-get install --no-install-recommends git curl"), "{error}");
    drop(fake);
}
