//! Which plugin writes what where, and what becomes of it on a fleet: found in its code, and in what
//! PHP has said when a write was denied.

mod denied;
mod evaluate;
mod scan;

use serde::{Deserialize, Serialize};

use crate::storage::{Class, below_site, class_of, is_backup};

pub use denied::{Denied, denied_write};
pub use evaluate::{Surroundings, constants_of};
pub use scan::{Finding, scan};

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is refused on instances.
    Refused,
    /// It is on one machine only, and nobody else will find it.
    Lost,
    /// It shows only at run time where it goes.
    Unclear,
    /// It stays private to an instance and may vanish, which is what such files are for.
    Scratch,
    /// It is the same for the whole fleet.
    Fine,
}

impl Verdict {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Unclear => "unclear",
            Self::Scratch => "scratch",
            Self::Fine => "fine",
        }
    }
}

/// Where a write goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A path as PHP sees it, with `*` for what is known at run time only.
    Path(String),
    /// A file with a name that nobody else has, in the instance's `/tmp`.
    Temporary,
    /// The session store.
    Sessions,
    /// WordPress' schedule.
    Schedule,
    /// Nothing of it is known from the code.
    Unknown,
}

impl Place {
    /// Says it in a few words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Path(path) => below_site(path).filter(|path| !path.is_empty()).unwrap_or(path),
            Self::Temporary => "a temporary file",
            Self::Sessions => "PHP sessions",
            Self::Schedule => "scheduled work",
            Self::Unknown => "?",
        }
    }
}

/// Says what becomes of a write by a plugin or theme (`owner` is its directory's name), and in one
/// line what to do about it.
#[must_use]
pub fn judge(owner: &str, place: &Place) -> (Verdict, &'static str) {
    let path = match place {
        Place::Path(path) => path.as_str(),
        Place::Temporary => return (Verdict::Fine, "the instance has a `/tmp` of its own"),
        Place::Sessions => {
            return (
                Verdict::Fine,
                "sessions are kept by the fleet; a session on every page makes pages uncacheable",
            );
        }
        Place::Schedule => return (Verdict::Fine, "scheduled work runs once for the fleet"),
        Place::Unknown => {
            return (Verdict::Unclear, "use the plugin, then look here again for denied writes");
        }
    };
    if path.starts_with("/tmp/") || path == "/tmp" {
        return (Verdict::Scratch, "`/tmp` is private to the instance; nothing there lasts");
    }
    match class_of(path) {
        Class::Media => (Verdict::Fine, "uploads are the same on every instance"),
        Class::Shared => (Verdict::Fine, "lies with the uploads and is the same on every instance"),
        Class::Scratch => (Verdict::Scratch, scratch_remedy(owner, path)),
        Class::Outside => {
            (Verdict::Lost, "lies outside of the site; let it write below `wp-content/uploads`")
        }
        Class::Forbidden => (Verdict::Refused, forbidden_remedy(path)),
        Class::Code => (Verdict::Refused, code_remedy(owner, path)),
    }
}

fn scratch_remedy(owner: &str, path: &str) -> &'static str {
    match owner {
        "autoptimize" => {
            "visitors fetch these files from any instance: set `wordpress.constants` \
             AUTOPTIMIZE_CACHE_CHILD_DIR = \"/uploads/autoptimize/\""
        }
        "wp-super-cache" | "w3-total-cache" | "wp-fastest-cache" | "litespeed-cache" => {
            "each instance has its own and does not hear when another one's is emptied; let the \
             balancer or a CDN keep pages instead"
        }
        _ if path.ends_with("debug.log") => {
            "WP_DEBUG_LOG = true in `wordpress.constants` logs to the slot's log"
        }
        _ => "private to each instance, empty after a release",
    }
}

fn forbidden_remedy(path: &str) -> &'static str {
    if path.ends_with("wp-config.php") {
        "it is generated; put the constants that it wants into `wordpress.constants`"
    } else if path.ends_with(".htaccess") || path.ends_with(".user.ini") {
        "nginx does not read it; what WordPress needs of it is built in"
    } else if is_backup(path) {
        "backups would be lost with the instance: use `flotilla db dump`, the code is in git"
    } else {
        "only a deploy may change it"
    }
}

fn code_remedy(owner: &str, path: &str) -> &'static str {
    let path = below_site(path).unwrap_or(path);
    let is_own = path.split('/').any(|part| part == owner);
    if path.starts_with("wp-content/languages") {
        "install languages on the workshop; they come with the next release"
    } else if ["advanced-cache.php", "object-cache.php", "db.php", "sunrise.php"]
        .iter()
        .any(|name| path.ends_with(name))
    {
        "switch it on on the workshop; the drop-in comes with the next release"
    } else if is_own {
        "writes beside its own code: do it on the workshop, or let it write to the uploads"
    } else {
        "changes code: do it on the workshop, it comes with the next release"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_verdict_and_a_remedy() {
        let path = |path: &str| Place::Path(path.to_owned());
        let site = |rest: &str| path(&format!("/srv/flotilla/site/{rest}"));
        for (place, verdict, word) in [
            (site("wp-content/uploads/wc-logs/*"), Verdict::Fine, "uploads"),
            (site("wp-content/cache/*"), Verdict::Scratch, "private"),
            (site("wp-content/updraft/*"), Verdict::Refused, "db dump"),
            (path("/srv/flotilla/wp-config.php"), Verdict::Refused, "wordpress.constants"),
            (site(".htaccess"), Verdict::Refused, "nginx"),
            (site("wp-content/languages/*"), Verdict::Refused, "workshop"),
            (site("wp-content/plugins/shop/log.txt"), Verdict::Refused, "its own code"),
            (site("wp-content/object-cache.php"), Verdict::Refused, "drop-in"),
            (path("/var/log/shop.log"), Verdict::Lost, "outside"),
            (path("/tmp/*"), Verdict::Scratch, "private"),
            (Place::Unknown, Verdict::Unclear, "denied writes"),
            (Place::Sessions, Verdict::Fine, "sessions"),
        ] {
            let (found, remedy) = judge("shop", &place);
            assert_eq!(found, verdict, "{place:?}");
            assert!(remedy.contains(word), "{place:?}: {remedy}");
        }
    }
}
