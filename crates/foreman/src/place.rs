//! A place of the foreman's where PHP's command line works on the site: it shows PHP the same absolute
//! paths as a slot does.

use std::path::PathBuf;

use flotilla_core::layout;
use flotilla_host::certificates::write_certificates;
use flotilla_host::files::{Access, FileError, make_directory, write_atomic};
use flotilla_host::inside::Inside;
use flotilla_host::media::Media;
use flotilla_host::ownership::{give_to, make_directory_of, set_mode};
use flotilla_host::room::{Bind, Room};

/// Where PHP works, as whom, and on what.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory it may fill.
    pub directory: PathBuf,
    /// The site's media.
    pub media: Media,
    /// The command line PHP.
    pub php: PathBuf,
    /// The user PHP runs as where the foreman is root.
    pub php_user: Option<String>,
    /// Whether PHP may change the code.
    pub is_writable: bool,
}

impl Place {
    /// Makes the directories and writes what PHP finds in them besides the site.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn make(&self, wp_config: &str, certificates: &str) -> Result<(), FileError> {
        for name in ["site", "php", "etc", "tmp", "log", "run"] {
            make_directory(&self.path(name))?;
        }
        self.media.make(self.php_user.as_deref())?;
        set_mode(&self.path("tmp"), 0o1777)?;
        if self.is_writable {
            make_directory_of(&self.path("desk"), self.php_user.as_deref())?;
        }
        let file = self.path("wp-config.php");
        write_atomic(&file, wp_config.as_bytes(), Access::Private)?;
        give_to(&file, self.php_user.as_deref())?;
        write_certificates(&self.path("etc"), certificates)?;
        for (name, content) in flotilla_host::php::SCRIPTS {
            write_atomic(&self.path("php").join(name), content.as_bytes(), Access::Public)?;
        }
        Ok(())
    }

    /// Returns what has to be launched to run PHP's command line here.
    #[must_use]
    pub fn inside(&self, args: Vec<String>) -> Inside {
        let mut all = certificate_arguments(self.path("etc/ca.pem").exists());
        all.extend(args);
        Inside {
            program: self.php.clone(),
            args: all,
            directory: PathBuf::from(layout::SITE),
            user: self.php_user.clone(),
            room: self.room(),
        }
    }

    pub(crate) fn room(&self) -> Room {
        let site = self.path("site");
        let desk = self.is_writable.then(|| Bind::writable(self.path("desk"), layout::DESK));
        let binds = vec![
            Bind { source: site, target: layout::SITE.into(), is_writable: self.is_writable },
            Bind::read_only(self.path("wp-config.php"), layout::WP_CONFIG),
            Bind::read_only(self.path("php"), layout::PHP),
            Bind::writable(self.path("run"), layout::RUN),
            Bind::read_only(self.path("etc"), layout::ETC),
            Bind::writable(self.path("log"), layout::LOG),
            self.media.bind(),
        ];
        Room {
            binds: binds.into_iter().chain(desk).collect(),
            tmp: Some(self.path("tmp")),
            has_own_pids: false,
            scratch: None,
            base: self.media.base(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Returns what PHP's command line is told when there are certificates besides the machine's.
pub(crate) fn certificate_arguments(has_certificates: bool) -> Vec<String> {
    if !has_certificates {
        return Vec::new();
    }
    vec!["-d".to_owned(), format!("openssl.cafile={}", layout::CERTIFICATES)]
}
