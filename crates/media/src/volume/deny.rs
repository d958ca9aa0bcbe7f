//! Directories whose `.htaccess` denies everything: plugins keep what was paid for and logs in them.
//! nginx does not read such files, so it is given a list.
//!
//! The list is an object of the bucket, so that all instances agree; whoever stores a `.htaccess`
//! changes it, and everybody looks at it often.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flotilla_host::files::{Access, write_atomic};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Volume;
use crate::fault::Fault;
use crate::path::{MediaPath, RESERVED};
use crate::store::{Depth, Metadata, StoreError, Wanted};

/// How often the list is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How large a `.htaccess` may be to be understood, in bytes. A larger one denies.
const RULES_BYTES_MAX: usize = 256 * 1024;
/// How large the list may be, in bytes.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a change of the list is tried again when others change it too.
const ATTEMPTS_MAX: u32 = 20;
/// How many directories wait for a look at most; more than that are found by looking at all.
const CHANGED_MAX: usize = 1000;
const RULES_NAME: &str = ".htaccess";

/// What is known of the list, and what has to be looked at.
#[derive(Debug, Default)]
pub(super) struct DenyList {
    work: Mutex<Work>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Work {
    changed: BTreeSet<MediaPath>,
    is_scan_due: bool,
    /// The list as it was written for nginx.
    shown: Option<(String, BTreeSet<String>)>,
}

impl Volume {
    /// Learns that a file was stored, removed or renamed.
    pub(super) fn stored_file(&self, path: &MediaPath) {
        if path.as_str().rsplit('/').next() != Some(RULES_NAME) {
            return;
        }
        let mut work = self.deny_work();
        if work.changed.len() < CHANGED_MAX {
            work.changed.insert(path.parent());
        } else {
            work.is_scan_due = true;
        }
        drop(work);
        self.shared.deny.wake.notify_one();
    }

    /// Learns that directories have other names.
    pub(super) fn deny_changed(&self) {
        self.deny_work().is_scan_due = true;
        self.shared.deny.wake.notify_one();
    }

    /// Keeps the list up to date until told otherwise.
    pub(crate) async fn keep_deny_list(&self, stopping: CancellationToken) {
        loop {
            if let Err(fault) = self.update_deny_list().await {
                self.complain("list private directories", &MediaPath::root(), &fault);
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.shared.deny.wake.notified() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    async fn update_deny_list(&self) -> Result<(), Fault> {
        let (changed, is_scan_due) = {
            let mut work = self.deny_work();
            (std::mem::take(&mut work.changed), std::mem::take(&mut work.is_scan_due))
        };
        let outcome = self.change_deny_list(&changed, is_scan_due).await;
        if outcome.is_err() {
            let mut work = self.deny_work();
            work.changed.extend(changed);
            work.is_scan_due |= is_scan_due;
        }
        outcome
    }

    async fn change_deny_list(
        &self,
        changed: &BTreeSet<MediaPath>,
        is_scan_due: bool,
    ) -> Result<(), Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let there = self.read_deny_list().await?;
            let mut list = match (&there, is_scan_due) {
                (Some((_, list)), false) => list.clone(),
                _ => self.scan().await?,
            };
            for directory in changed {
                if self.denies(directory).await? {
                    list.insert(directory.as_str().to_owned());
                } else {
                    list.remove(directory.as_str());
                }
            }
            let etag = match there {
                Some((etag, old)) if old == list => etag,
                there => {
                    let wanted = there.map_or(Wanted::Absent, |(etag, _)| Wanted::Version(etag));
                    match self.write_deny_list(&list, &wanted).await {
                        Err(StoreError::Changed(_)) => continue,
                        outcome => outcome?,
                    }
                }
            };
            return self.show_deny_list(etag, list).await;
        }
        Err(StoreError::Changed(list_key()).into())
    }

    async fn read_deny_list(&self) -> Result<Option<(String, BTreeSet<String>)>, Fault> {
        let Some(object) = self.store().head(&list_key()).await? else { return Ok(None) };
        let shown = self.deny_work().shown.clone();
        if let Some(shown) = shown.filter(|(etag, _)| *etag == object.etag) {
            return Ok(Some(shown));
        }
        let Some((object, text)) = self.store().get_small(&list_key(), LIST_BYTES_MAX).await?
        else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&text);
        let list = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Some((object.etag, list)))
    }

    async fn write_deny_list(
        &self,
        list: &BTreeSet<String>,
        wanted: &Wanted,
    ) -> Result<String, StoreError> {
        let text = Bytes::from(lines(list));
        self.store().put(&list_key(), text, &Metadata::default(), "text/plain", wanted).await
    }

    async fn show_deny_list(&self, etag: String, list: BTreeSet<String>) -> Result<(), Fault> {
        let is_shown = self.deny_work().shown.as_ref().is_some_and(|(_, shown)| *shown == list);
        if !is_shown {
            let (path, text) = (self.options().private_directories_file(), lines(&list));
            let written = crate::cache::blocking(move || {
                write_atomic(&path, text.as_bytes(), Access::Public).map_err(std::io::Error::other)
            });
            written.await.map_err(crate::fault::local("write the list of private directories"))?;
        }
        self.deny_work().shown = Some((etag, list));
        Ok(())
    }

    /// Looks at all rules in the bucket.
    async fn scan(&self) -> Result<BTreeSet<String>, Fault> {
        let mut list = BTreeSet::new();
        let mut next = None;
        loop {
            let page = self.store().list("", Depth::Everything, 0, next.as_deref()).await?;
            for object in &page.objects {
                let Some(path) = MediaPath::from_relative_key(&object.key) else { continue };
                if object.key.rsplit('/').next() != Some(RULES_NAME) {
                    continue;
                }
                let directory = path.parent();
                if self.denies(&directory).await? {
                    list.insert(directory.as_str().to_owned());
                }
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(list),
            }
        }
    }

    async fn denies(&self, directory: &MediaPath) -> Result<bool, Fault> {
        let key = format!("{}{RULES_NAME}", directory.inside());
        match self.store().get_small(&key, RULES_BYTES_MAX).await {
            Ok(Some((_, rules))) => Ok(denies_all(&String::from_utf8_lossy(&rules))),
            Ok(None) => Ok(false),
            Err(StoreError::Garbled { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn deny_work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.shared.deny.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list_key() -> String {
    format!("{RESERVED}/private-directories")
}

fn lines(list: &BTreeSet<String>) -> String {
    // A name with a line break in it cannot be in a list of lines; its directory above can.
    let sound = list.iter().filter(|name| !name.contains('\n'));
    sound.map(|name| format!("{name}\n")).collect()
}

/// Returns whether rules for Apache deny everything in their directory, in the words of version 2.2
/// or 2.4. What they allow again for some names is not understood: denied is denied.
pub(crate) fn denies_all(rules: &str) -> bool {
    let mut sections = Vec::new();
    let mut denies = false;
    for line in rules.lines() {
        let line = line.trim().to_ascii_lowercase();
        if let Some(name) = line.strip_prefix("</") {
            while sections.pop().is_some_and(|section: String| !name.starts_with(&section)) {}
        } else if let Some(name) = line.strip_prefix('<') {
            let name = name.split([' ', '\t', '>']).next().unwrap_or_default();
            sections.push(name.to_owned());
        } else if sections.iter().all(|section| is_about_everything(section)) {
            let words: Vec<&str> = line.split_whitespace().collect();
            denies |= matches!(
                words.as_slice(),
                ["deny", "from", "all", ..] | ["require", "all", "denied", ..]
            );
        }
    }
    denies
}

/// Returns whether rules in a section are about all files.
fn is_about_everything(section: &str) -> bool {
    matches!(section, "ifmodule" | "ifversion" | "ifdefine" | "requireall" | "requireany" | "limit")
}

#[cfg(test)]
mod tests {
    use super::denies_all;

    #[test]
    fn rules_of_plugins_are_understood() {
        let deny = [
            "deny from all",
            "Order Deny,Allow\nDeny from all\n",
            "<IfModule mod_authz_core.c>\n  Require all denied\n</IfModule>\n\
             <IfModule !mod_authz_core.c>\n  Deny from all\n</IfModule>",
            "Options -Indexes\ndeny from all\n<FilesMatch '\\.(jpg|png)$'>\nAllow from all\n</FilesMatch>",
            "# a comment\n\tRequire  all  denied",
        ];
        let open = [
            "",
            "# deny from all",
            "Options -Indexes",
            "<Files *.php>\ndeny from all\n</Files>",
            "<FilesMatch \"\\.php$\">\n<IfModule x>\nRequire all denied\n</IfModule>\n</FilesMatch>\nOptions -Indexes",
            "Require all granted",
        ];
        for rules in deny {
            assert!(denies_all(rules), "{rules}");
        }
        for rules in open {
            assert!(!denies_all(rules), "{rules}");
        }
    }
}
