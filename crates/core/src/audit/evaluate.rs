//! Works out which path an expression stands for, as far as the code tells.

use std::collections::BTreeMap;

use super::Place;
use crate::layout;
use crate::php::{Kind, Token, arguments};

/// A variable may be made of another one; no code goes further.
const DEPTH_MAX: usize = 6;
const WORDS: [(&str, &str); 6] = [
    ("ABSPATH", "/"),
    ("WP_CONTENT_DIR", "/wp-content"),
    ("WP_PLUGIN_DIR", "/wp-content/plugins"),
    ("WPMU_PLUGIN_DIR", "/wp-content/mu-plugins"),
    ("WP_LANG_DIR", "/wp-content/languages"),
    ("UPLOADS", "/wp-content/uploads"),
];
/// What does not change where a path leads.
const WRAPPERS: [&str; 8] = [
    "untrailingslashit",
    "wp_normalize_path",
    "realpath",
    "strval",
    "apply_filters",
    "rtrim",
    "esc_attr",
    "sanitize_text_field",
];

/// What is known around an expression.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The directory of the plugin or theme, as PHP sees it.
    pub owner: String,
    /// The directory of the file.
    pub directory: String,
    /// Constants that the plugin defines, and their values.
    pub constants: BTreeMap<String, String>,
    /// Variables, properties and class constants of the file: what is assigned to them.
    pub(super) assigned: BTreeMap<String, Vec<Token>>,
}

impl Surroundings {
    /// What is known at first: the directory of the plugin or theme, as PHP sees it.
    #[must_use]
    pub fn of(owner: String) -> Self {
        Self { owner, ..Self::default() }
    }
}

/// Collects the constants that a file defines as paths.
#[must_use]
pub fn constants_of(tokens: &[Token], around: &Surroundings) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let [name, open] = pair else { continue };
        if !name.is_word("define") || !open.is("(") {
            continue;
        }
        let (_, parts) = arguments(tokens, at + 1);
        if let [[name], value, ..] = parts.as_slice()
            && let Some(name) = name.plain_text()
            && let Some(Place::Path(path)) = place(value, around, 0)
        {
            found.insert(name.to_owned(), path);
        }
    }
    found
}

/// Collects what a file assigns to its variables; the first assignment of a name counts.
pub(super) fn assignments_of(tokens: &[Token]) -> BTreeMap<String, Vec<Token>> {
    let mut found = BTreeMap::new();
    for (at, token) in tokens.iter().enumerate() {
        if !token.is("=") || tokens.get(at + 1).is_some_and(|next| next.is("=")) {
            continue;
        }
        let Some(name) = at.checked_sub(1).and_then(|before| tokens.get(before)) else { continue };
        if !matches!(name.kind, Kind::Variable | Kind::Word) {
            continue;
        }
        let rest = tokens.get(at + 1..).unwrap_or_default();
        let end = rest.iter().position(|one| one.is(";")).unwrap_or(rest.len());
        let value = rest.get(..end).unwrap_or_default();
        found.entry(name.text.clone()).or_insert_with(|| value.to_vec());
    }
    found
}

/// Returns where an expression leads; `None` when nothing of it is known.
pub(super) fn place(expression: &[Token], around: &Surroundings, depth: usize) -> Option<Place> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut path = String::new();
    for (number, part) in split(expression).into_iter().enumerate() {
        match piece(part, around, depth) {
            Some(Place::Path(piece)) => path.push_str(&piece),
            Some(other) if number == 0 => return Some(other),
            _ if number == 0 => return None,
            _ => path.push('*'),
        }
    }
    let path = tidy(&path);
    path.starts_with('/').then_some(Place::Path(path))
}

/// Splits at the dots that join texts.
fn split(expression: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_usize;
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, token) in expression.iter().enumerate() {
        if token.is("(") || token.is("[") {
            depth += 1;
        } else if token.is(")") || token.is("]") {
            depth = depth.saturating_sub(1);
        } else if token.is(".") && depth == 0 {
            parts.push(expression.get(begin..at).unwrap_or_default());
            begin = at + 1;
        }
    }
    parts.push(expression.get(begin..).unwrap_or_default());
    parts
}

fn piece(part: &[Token], around: &Surroundings, depth: usize) -> Option<Place> {
    let (first, rest) = part.split_first()?;
    match first.kind {
        Kind::Text { is_plain: true } if rest.is_empty() => Some(Place::Path(first.text.clone())),
        Kind::Text { is_plain: false } if rest.is_empty() => {
            interpolated(&first.text, around, depth)
        }
        Kind::Variable => variable(part, around, depth),
        Kind::Word if rest.first().is_some_and(|next| next.is("(")) => {
            function(first, part, around, depth)
        }
        Kind::Word if rest.first().is_some_and(|next| next.is("::")) => {
            named(&rest.get(1)?.text, around, depth)
        }
        Kind::Word if rest.is_empty() => constant(&first.text, around),
        Kind::Symbol if first.is("(") => {
            let (_, inner) = arguments(part, 0);
            place(inner.first()?, around, depth + 1)
        }
        _ => None,
    }
}

fn constant(name: &str, around: &Surroundings) -> Option<Place> {
    if name == "__DIR__" {
        return Some(Place::Path(around.directory.clone()));
    }
    if name == "__FILE__" {
        return Some(Place::Path(format!("{}/file.php", around.directory)));
    }
    if let Some((_, rest)) = WORDS.iter().find(|(word, _)| *word == name) {
        return Some(Place::Path(format!("{}{rest}", layout::SITE)));
    }
    around.constants.get(name).cloned().map(Place::Path)
}

fn named(name: &str, around: &Surroundings, depth: usize) -> Option<Place> {
    place(around.assigned.get(name)?, around, depth + 1)
}

/// `$a`, `$this->a`, `self::$a`, `$uploads['basedir']`.
fn variable(part: &[Token], around: &Surroundings, depth: usize) -> Option<Place> {
    let name = match part {
        [_, arrow, property, ..] if arrow.is("->") => property,
        [name, ..] => name,
        [] => return None,
    };
    let key = part.iter().find_map(Token::plain_text);
    let assigned = around.assigned.get(&name.text)?;
    if key.is_some()
        && let Some(uploads) = uploads(assigned, key)
    {
        return Some(uploads);
    }
    named(&name.text, around, depth)
}

/// `"{$dir}/name"`: what stands before is looked up, what follows is kept as far as it is text.
fn interpolated(text: &str, around: &Surroundings, depth: usize) -> Option<Place> {
    let (before, rest) = text.split_once('$')?;
    let before = before.trim_end_matches('{');
    let end = rest.find(|one: char| !one.is_alphanumeric() && one != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let after = after.split('$').next().unwrap_or_default().replace(['{', '}'], "");
    let ending = if rest.get(end..).unwrap_or_default().contains('$') { "*" } else { "" };
    if !before.is_empty() {
        return Some(Place::Path(format!("{before}*")));
    }
    match named(name, around, depth)? {
        Place::Path(path) => Some(Place::Path(format!("{path}{after}{ending}"))),
        other => Some(other),
    }
}

fn uploads(call: &[Token], key: Option<&str>) -> Option<Place> {
    let is_uploads = call
        .iter()
        .any(|token| token.is_word("wp_upload_dir") || token.is_word("wp_get_upload_dir"));
    let is_path = key.is_none_or(|key| matches!(key, "basedir" | "path"));
    (is_uploads && is_path).then(|| Place::Path(layout::UPLOADS.to_owned()))
}

fn function(name: &Token, part: &[Token], around: &Surroundings, depth: usize) -> Option<Place> {
    let (_, parts) = arguments(part, 1);
    let first = || place(parts.first()?, around, depth + 1);
    let path = |text: String| Some(Place::Path(text));
    let name = name.text.trim_start_matches('\\').to_ascii_lowercase();
    match name.as_str() {
        "wp_upload_dir" | "wp_get_upload_dir" => {
            let key = part.iter().rev().find_map(Token::plain_text);
            uploads(part, key)
        }
        "plugin_dir_path" => path(format!("{}/", around.directory)),
        "get_template_directory" | "get_stylesheet_directory" | "get_theme_file_path" => {
            path(around.owner.clone())
        }
        "get_home_path" => path(format!("{}/", layout::SITE)),
        "get_temp_dir" | "sys_get_temp_dir" => path("/tmp/".to_owned()),
        "tempnam" | "wp_tempnam" | "tmpfile" | "download_url" => Some(Place::Temporary),
        "dirname" => {
            let levels = parts.get(1).and_then(|level| level.first()?.text.parse().ok());
            match first()? {
                Place::Path(path) => Some(Place::Path(parent(&path, levels.unwrap_or(1)))),
                other => Some(other),
            }
        }
        "trailingslashit" => match first()? {
            Place::Path(text) => path(format!("{text}/")),
            other => Some(other),
        },
        "path_join" => match (first()?, parts.get(1)) {
            (Place::Path(text), Some(rest)) => match place(rest, around, depth + 1) {
                Some(Place::Path(rest)) => path(format!("{text}/{rest}")),
                _ => path(format!(
                    "{text}/{}",
                    rest.first().and_then(Token::plain_text).unwrap_or("*")
                )),
            },
            (other, _) => Some(other),
        },
        // The value that a filter is given stands second.
        "apply_filters" => place(parts.get(1)?, around, depth + 1),
        name if WRAPPERS.contains(&name) => first(),
        _ => None,
    }
}

fn parent(path: &str, levels: usize) -> String {
    let mut path = path.trim_end_matches('/');
    for _ in 0..levels.min(DEPTH_MAX) {
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    path.to_owned()
}

/// Takes doubled slashes and `.`, `..` out; a slash at the end stays: a name may be put behind it.
fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let slash = if path.starts_with('/') { "/" } else { "" };
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("{slash}{}{end}", parts.join("/"))
}
