//! From the text of a file to a configuration, or to all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FILE_BYTES_MAX;
use super::checks::CHECKS;
use super::declare::Section;
use super::error::{ConfigError, ConfigErrors, quoted};
use super::keys::{Config, sections};

/// See [`Config::parse`].
pub(super) fn read(file: &str, text: &str) -> Result<Config, ConfigErrors> {
    let mut reader = Reader::new(file, text);
    if text.len() > FILE_BYTES_MAX {
        reader.fault(0, None, format!("the file has more than {FILE_BYTES_MAX} bytes; shorten it"));
        return Err(ConfigErrors(reader.errors));
    }
    match DeTable::parse(text) {
        Ok(document) => reader.document(document.get_ref()),
        Err(error) => {
            let (at, key, message) = explain_syntax(text, &error, &reader.sections);
            reader.fault(at, key, message);
        }
    }
    reader.finish()
}

/// What is gathered while a file is read.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    sections: Vec<Section>,
    config: Config,
    errors: Vec<ConfigError>,
    /// The lines of the keys that are in the file.
    lines: BTreeMap<String, usize>,
    /// The keys with a fault. They have no value, so rules between keys leave them out.
    faulty: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            sections: sections(),
            config: Config::default(),
            errors: Vec::new(),
            lines: BTreeMap::new(),
            faulty: BTreeSet::new(),
        }
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let Some(index) = self.sections.iter().position(|section| section.name == name) else {
                let message = self.unknown_section(name, value);
                self.fault(at, Some(name.to_owned()), message);
                continue;
            };
            let Some(table) = value.get_ref().as_table() else {
                let message = format!("`{name}` is a section; write `[{name}]` and its keys below");
                self.fault(at, Some(name.to_owned()), message);
                continue;
            };
            self.section(index, table);
        }
        self.check_rules();
    }

    fn section(&mut self, index: usize, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let Some(section) = self.sections.get(index) else { return };
            let path = format!("{}.{name}", section.name);
            let Some(key) = section.key(name) else {
                let message = self.unknown_key(section, name);
                self.fault(at, Some(path), message);
                continue;
            };
            let outcome = (key.read)(&mut self.config, value);
            self.lines.insert(path.clone(), line_of(self.text, at));
            for problem in outcome.err().unwrap_or_default() {
                self.faulty.insert(path.clone());
                let message = format!("`{path}` {}", problem.message);
                self.fault(problem.at, Some(path.clone()), message);
            }
        }
    }

    fn check_rules(&mut self) {
        for check in CHECKS {
            if check.keys.iter().any(|key| self.faulty.contains(*key)) {
                continue;
            }
            let Some(message) = (check.problem)(&self.config) else { continue };
            let given = |key: &&&str| self.lines.get(**key).map(|line| (*line, (**key).to_owned()));
            let (line, key) = check
                .keys
                .iter()
                .filter_map(|key| given(&key))
                .max()
                .map_or((1, None), |(line, key)| (line, Some(key)));
            self.errors.push(ConfigError { file: self.file.to_owned(), line, key, message });
        }
    }

    fn unknown_section(&self, name: &str, value: &Spanned<DeValue<'_>>) -> String {
        if value.get_ref().is_table() {
            let names: Vec<&str> = self.sections.iter().map(|section| section.name).collect();
            let shown = quoted(&format!("[{name}]"));
            return match nearest(name, &names) {
                Some(near) => format!("unknown section {shown}; did you mean `[{near}]`?"),
                None => format!("unknown section {shown}; there are {}", list_sections(&names)),
            };
        }
        let shown = quoted(name);
        match self.elsewhere(name) {
            Some(path) => format!("{shown} stands before any section; did you mean `{path}`?"),
            None => format!("{shown} stands before any section, and no section has such a key"),
        }
    }

    fn unknown_key(&self, section: &Section, name: &str) -> String {
        let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
        let shown = quoted(&format!("{}.{name}", section.name));
        let near = nearest(name, &names)
            .map(|near| format!("{}.{near}", section.name))
            .or_else(|| self.elsewhere(name));
        match near {
            Some(near) => format!("unknown key {shown}; did you mean `{near}`?"),
            None => {
                let keys: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("unknown key {shown}; `[{}]` has {}", section.name, keys.join(", "))
            }
        }
    }

    /// Finds a key of this name in any section.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let section = self.sections.iter().find(|section| section.key(name).is_some())?;
        Some(format!("{}.{name}", section.name))
    }

    fn fault(&mut self, at: usize, key: Option<String>, message: String) {
        let (file, line) = (self.file.to_owned(), line_of(self.text, at));
        self.errors.push(ConfigError { file, line, key, message });
    }

    fn finish(mut self) -> Result<Config, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(self.config);
        }
        self.errors.sort_by_key(|error| error.line);
        Err(ConfigErrors(self.errors))
    }
}

fn list_sections(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`[{name}]`")).collect();
    names.join(", ")
}

/// Says what TOML does not allow here. The text itself is not shown: it may hold a password.
fn explain_syntax(
    text: &str,
    error: &toml::de::Error,
    sections: &[Section],
) -> (usize, Option<String>, String) {
    let span = error.span().unwrap_or_default();
    let message = error.message().trim_end();
    if message == "duplicate key" {
        let name = text.get(span.clone()).unwrap_or_default();
        let section = section_at(text, span.start, sections);
        let is_section = sections.iter().any(|section| section.name == name);
        return match section {
            Some(section) if !is_section => {
                let path = format!("{section}.{name}");
                let message = format!("duplicate key {}; keep one of the two", quoted(&path));
                (span.start, Some(path), message)
            }
            _ => {
                let message = format!("duplicate {}; merge the two into one", quoted(name));
                (span.start, Some(name.to_owned()), message)
            }
        };
    }
    if message.starts_with("string values must be quoted") {
        let message = "the value is missing, or it is a text without quotes; write texts, durations \
                       and sizes in double quotes, such as `\"30s\"`";
        return (span.start, None, message.to_owned());
    }
    (span.start, None, format!("not valid TOML: {message}"))
}

/// Finds the section that a place in the text belongs to, by the headers above it.
fn section_at<'a>(text: &str, at: usize, sections: &'a [Section]) -> Option<&'a str> {
    let above = text.get(..at).unwrap_or_default();
    let header = above.lines().rev().find_map(|line| {
        let inner = line.trim_start().strip_prefix('[')?;
        Some(inner.split_once(']')?.0.trim())
    })?;
    sections.iter().map(|section| section.name).find(|name| *name == header)
}

/// Returns the line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Finds the name that the given one was probably meant to be.
fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64;
    if given.len() > LENGTH_MAX {
        return None;
    }
    let allowed = given.chars().count().div_ceil(3);
    names
        .iter()
        .map(|name| (distance(given, name), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Counts the letters to insert, remove or replace to make one text of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (above, expected) in row.iter().skip(1).zip(&other) {
            let replaced = diagonal + usize::from(letter != *expected);
            left = replaced.min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
