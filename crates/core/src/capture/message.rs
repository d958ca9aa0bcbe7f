//! What a capture's commit says: what people did, read off the paths and versions that changed.

use std::collections::BTreeMap;
use std::ops::Not;

use super::{Change, Happened, Kind, Part, shown};

/// How long a first line may be before it is told in short.
const SUBJECT_CHARACTERS_MAX: usize = 100;
/// How many lines a body has at most.
const LINES_MAX: usize = 60;
/// How many edited files a line names.
const FILES_NAMED_MAX: usize = 2;

/// A plugin, theme or WordPress that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// The version that its header tells.
    pub version: Option<String>,
}

/// A package before and after; `None` where it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// As it was.
    pub before: Option<Package>,
    /// As it is now.
    pub after: Option<Package>,
}

impl Versions {
    fn before(&self) -> Option<&str> {
        self.before.as_ref()?.version.as_deref()
    }

    fn after(&self) -> Option<&str> {
        self.after.as_ref()?.version.as_deref()
    }
}

/// What is known of the parts that changed: WordPress, plugins and themes.
pub type Packages = BTreeMap<Part, Versions>;

/// A commit's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub subject: String,
    /// A line for each thing that happened; empty when the subject says it all.
    pub body: String,
}

impl Message {
    /// Returns all of it, as git takes it.
    #[must_use]
    pub fn text(&self) -> String {
        if self.body.is_empty() {
            self.subject.clone()
        } else {
            format!("{}\n\n{}", self.subject, self.body)
        }
    }
}

/// One thing that happened, such as "Update" "plugin" "akismet 5.1 → 5.2".
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    verb: &'static str,
    /// `None` when the object says what it is.
    noun: Option<&'static str>,
    object: String,
}

impl Phrase {
    fn new(verb: &'static str, noun: Option<&'static str>, object: impl Into<String>) -> Self {
        Self { verb, noun, object: object.into() }
    }

    fn text(&self) -> String {
        match self.noun {
            Some(noun) => format!("{} {noun} {}", self.verb, self.object),
            None => format!("{} {}", self.verb, self.object),
        }
    }
}

/// Describes what changed.
#[must_use]
pub fn describe(changes: &[Change], packages: &Packages) -> Message {
    let mut parts: BTreeMap<Part, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        parts.entry(Part::of(&change.path)).or_default().push(change);
    }
    let unknown = Versions::default();
    let phrases: Vec<Phrase> = parts
        .iter()
        .map(|(part, changes)| phrase(part, changes, packages.get(part).unwrap_or(&unknown)))
        .collect();
    let body = if phrases.len() > 1 { lines(&phrases) } else { String::new() };
    Message { subject: subject(&phrases), body }
}

fn phrase(part: &Part, changes: &[&Change], versions: &Versions) -> Phrase {
    match part.kind {
        Kind::WordPress => wordpress(changes, versions),
        Kind::Plugin => package(part, "plugin", changes, versions),
        Kind::Theme => package(part, "theme", changes, versions),
        Kind::MustUse => package(part, "must-use plugin", changes, versions),
        Kind::DropIn => {
            let verb = match changes.first().map(|change| change.happened) {
                Some(Happened::Added) => "Install",
                Some(Happened::Deleted) => "Delete",
                _ => "Edit",
            };
            Phrase::new(verb, Some("drop-in"), part.name())
        }
        Kind::Translations => {
            let is_over = changes.iter().all(|change| change.happened == Happened::Deleted);
            Phrase::new(if is_over { "Delete" } else { "Update" }, None, "translations")
        }
        Kind::Other => other(changes),
    }
}

fn wordpress(changes: &[&Change], versions: &Versions) -> Phrase {
    match (versions.before(), versions.after()) {
        (Some(before), Some(after)) if before != after => {
            Phrase::new("Update", None, format!("WordPress {before} → {after}"))
        }
        (None, Some(after)) => Phrase::new("Install", None, format!("WordPress {after}")),
        _ => Phrase::new("Edit", None, format!("WordPress: {}", files(changes, b""))),
    }
}

fn package(part: &Part, noun: &'static str, changes: &[&Change], versions: &Versions) -> Phrase {
    let name = part.name();
    let noun = Some(noun);
    match (&versions.before, &versions.after) {
        (None, Some(_)) => {
            let version = versions.after().map(|version| format!(" {version}"));
            Phrase::new("Install", noun, name + &version.unwrap_or_default())
        }
        (Some(_), None) => Phrase::new("Delete", noun, name),
        _ => match (versions.before(), versions.after()) {
            (Some(before), Some(after)) if before != after => {
                Phrase::new("Update", noun, format!("{name} {before} → {after}"))
            }
            (None, Some(after)) => Phrase::new("Update", noun, format!("{name} to {after}")),
            _ if part.is_directory() => {
                Phrase::new("Edit", noun, format!("{name}: {}", files(changes, &part.root)))
            }
            _ => Phrase::new("Edit", noun, name),
        },
    }
}

fn other(changes: &[&Change]) -> Phrase {
    if let [change] = changes {
        let verb = match change.happened {
            Happened::Added => "Add",
            Happened::Edited => "Edit",
            Happened::Deleted => "Delete",
        };
        return Phrase::new(verb, None, shown(&change.path));
    }
    if changes.is_empty() {
        return Phrase::new("Change", None, "empty directories");
    }
    let below = common_directory(changes);
    let below = below.is_empty().not().then(|| format!(" below {}", shown(below)));
    let count = changes.len();
    Phrase::new("Change", None, format!("{count} files{}", below.unwrap_or_default()))
}

/// Names a few files, or counts many.
fn files(changes: &[&Change], root: &[u8]) -> String {
    if changes.len() > FILES_NAMED_MAX {
        return format!("{} files", changes.len());
    }
    let names = changes.iter().map(|change| {
        let below = change.path.strip_prefix(root).unwrap_or(&change.path);
        shown(below)
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Returns the deepest directory that has all the paths.
fn common_directory<'a>(changes: &[&'a Change]) -> &'a [u8] {
    let directory = |path: &'a [u8]| {
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        path.get(..end).unwrap_or_default()
    };
    let mut paths = changes.iter().map(|change| directory(&change.path));
    let first = paths.next().unwrap_or_default();
    paths.fold(first, |common, path| {
        let mut end = 0;
        let names = common.split(|byte| *byte == b'/').zip(path.split(|byte| *byte == b'/'));
        for (name, other) in names {
            if name != other {
                break;
            }
            end += name.len() + 1;
        }
        common.get(..end.saturating_sub(1)).unwrap_or(common)
    })
}

/// Joins what happened to one line, telling less of each when there is too much.
fn subject(phrases: &[Phrase]) -> String {
    if phrases.is_empty() {
        return Phrase::new("Change", None, "empty directories").text();
    }
    let groups = groups(phrases);
    let all: Vec<String> = groups.iter().map(|group| long(group)).collect();
    let short: Vec<String> = groups.iter().map(|group| brief(group)).collect();
    for texts in [&all, &short] {
        let joined = join(texts);
        if joined.chars().count() <= SUBJECT_CHARACTERS_MAX {
            return joined;
        }
    }
    let first = short.first().cloned().unwrap_or_default();
    match short.len() - 1 {
        0 => first,
        1 => format!("{first}; and another change"),
        more => format!("{first}; and {more} other changes"),
    }
}

/// Puts together what was done alike to things of the same sort.
fn groups(phrases: &[Phrase]) -> Vec<Vec<&Phrase>> {
    let mut groups: Vec<Vec<&Phrase>> = Vec::new();
    for phrase in phrases {
        let is_alike = |group: &&mut Vec<&Phrase>| {
            let first = group.first();
            phrase.noun.is_some()
                && first.is_some_and(|one| (one.verb, one.noun) == (phrase.verb, phrase.noun))
        };
        match groups.iter_mut().find(is_alike) {
            Some(group) => group.push(phrase),
            None => groups.push(vec![phrase]),
        }
    }
    groups
}

fn long(group: &[&Phrase]) -> String {
    match group {
        [] => String::new(),
        [one] => one.text(),
        [rest @ .., last] => {
            let objects: Vec<&str> = rest.iter().map(|one| one.object.as_str()).collect();
            let noun = last.noun.unwrap_or_default();
            format!("{} {noun}s {} and {}", last.verb, objects.join(", "), last.object)
        }
    }
}

fn brief(group: &[&Phrase]) -> String {
    match group {
        [] => String::new(),
        [one] => one.text(),
        [one, ..] => format!("{} {} {}s", one.verb, group.len(), one.noun.unwrap_or_default()),
    }
}

/// Joins sentences: only the first begins with a capital.
fn join(texts: &[String]) -> String {
    let mut joined = String::new();
    for text in texts {
        if joined.is_empty() {
            joined.push_str(text);
            continue;
        }
        joined.push_str("; ");
        let mut characters = text.chars();
        joined.extend(characters.next().map(|first| first.to_ascii_lowercase()));
        joined.push_str(characters.as_str());
    }
    joined
}

fn lines(phrases: &[Phrase]) -> String {
    let mut lines: Vec<String> =
        phrases.iter().take(LINES_MAX).map(|phrase| format!("- {}", phrase.text())).collect();
    if phrases.len() > LINES_MAX {
        lines.push(format!("- and {} more", phrases.len() - LINES_MAX));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
