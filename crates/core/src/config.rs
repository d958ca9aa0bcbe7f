//! The configuration of a site: what `flotilla.toml` may say and what each key means.
//!
//! Every key is declared once, in `keys.rs`: its name, type, default, limits, meaning and an
//! example. Reading the file, the reference page, the commented file that `flotilla init` writes
//! and the output of `flotilla config` are all made from that declaration. Nothing here opens a
//! file: the text is an argument, and paths stay as they were written.

mod checks;
mod cidr;
mod constants;
mod database_url;
mod declare;
mod error;
mod keys;
mod kind;
mod number;
mod read;
mod source;
mod text;
mod write;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::deploy::Policy;

pub use checks::CONNECTIONS_RESERVED;
pub use cidr::Cidr;
pub use database_url::DatabaseUrl;
pub use error::{ConfigError, ConfigErrors};
pub use keys::{
    Balancer, Cache, Capture, Config, Database, Deploy, Fleet, Foreman, Log, Media, Php, Secrets,
    Sessions, Site, Target, WordPress,
};
pub use kind::{
    CaptureMode, DatabaseTls, LogLevel, MediaStore, ObjectCache, SessionBackend, TargetKind,
};
pub use number::Size;
pub use source::Source;
pub use write::reference_markdown;

/// The name of the configuration file.
pub const FILE_NAME: &str = "flotilla.toml";

/// The largest file that is read.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

impl Config {
    /// Reads a configuration from the text of the file; `file_name` is for the messages only.
    ///
    /// # Errors
    ///
    /// All faults that are found, in the order of the file. TOML that cannot be parsed is told alone.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, ConfigErrors> {
        read::read(file_name, text)
    }

    /// Writes the file that `flotilla init` makes: every key with its meaning, those that have
    /// their default commented out. It holds secrets as they are.
    #[must_use]
    pub fn template(&self) -> String {
        write::template(self)
    }

    /// Writes the values in force as TOML, with secrets replaced by `***`.
    #[must_use]
    pub fn effective_toml(&self) -> String {
        write::effective(self)
    }

    /// Returns the same values as [`Self::effective_toml`], by section and key.
    ///
    /// # Errors
    /// A value has no form in TOML, which is a fault of flotilla.
    pub fn effective(&self) -> Result<toml::Table, toml::de::Error> {
        toml::from_str(&self.effective_toml())
    }

    /// Returns the address at which people reach the site, without a slash at its end.
    /// `port` is the one that the balancer listens on.
    #[must_use]
    pub fn site_url(&self, port: u16) -> String {
        match &self.site.url {
            Some(url) => url.clone(),
            None if port == 80 => "http://localhost".to_owned(),
            None => format!("http://localhost:{port}"),
        }
    }

    /// Returns the data directory, with the directory of the configuration file as the base.
    #[must_use]
    pub fn data_dir(&self, base: &Path) -> PathBuf {
        base.join(&self.target.data_dir)
    }

    /// Returns how many database connections the fleet can ask for: one for each PHP worker of both
    /// slots of every instance and of the workshop, one for each runner of scheduled work, and some for
    /// flotilla itself.
    #[must_use]
    pub fn connections_needed(&self) -> u32 {
        let workers = u32::from(self.fleet.instances) * u32::from(self.php.workers);
        let workshop = if self.has_workshop() { u32::from(self.php.workers) } else { 0 };
        workers * 2 + workshop + u32::from(self.cron.runners) + CONNECTIONS_RESERVED
    }

    /// Returns whether wp-admin can change code.
    #[must_use]
    pub fn has_workshop(&self) -> bool {
        self.capture.mode != CaptureMode::Off
    }
}

impl Sessions {
    /// Returns whether the nodes that keep the sessions are flotilla's own.
    #[must_use]
    pub fn are_on_own_nodes(&self) -> bool {
        self.backend == SessionBackend::Memcached
            && self.nodes.is_empty()
            && self.discovery.is_none()
    }
}

impl Deploy {
    /// Returns the limits of a deploy as the deploy engine takes them.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        Policy {
            lease: self.agent_lease,
            prepare_timeout: self.prepare_timeout,
            min_ready: self.min_ready,
            hold: self.hold,
            hold_limit: self.hold_limit,
            drain_timeout: self.drain_timeout,
            verify_window: self.verify_window,
            max_error_ratio: self.max_error_ratio,
        }
    }
}
