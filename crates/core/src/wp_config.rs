//! Reads a `wp-config.php` that somebody else wrote: what of it can be kept as configuration, and
//! what cannot and why.
//!
//! flotilla makes `wp-config.php` itself. A site that moves in brings one, and plugins add lines to
//! it; constants that are the site's own become `wordpress.constants`.

use crate::constants::{ConstantValue, Constants, is_name, refusal};
use crate::layout;
use crate::php::{Kind, Token, arguments, tokens};

/// Longer pieces of code are cut in a note.
const SHOWN_TOKENS_MAX: usize = 8;
/// A file that is not a configuration has more.
const NOTES_MAX: usize = 100;

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Constants that the site may set.
    pub taken: Constants,
    /// What the names of the tables begin with.
    pub table_prefix: Option<String>,
    /// What is left out, in the order of the file.
    pub notes: Vec<Note>,
}

/// Something that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its line, counted from 1.
    pub line: usize,
    /// What it is; never a value.
    pub what: String,
    /// Why it is left out, or what stands for it.
    pub why: String,
}

impl Reading {
    /// Writes the constants as a section of `flotilla.toml`.
    #[must_use]
    pub fn toml(&self) -> String {
        let lines: Vec<String> =
            self.taken.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        format!("[wordpress.constants]\n{}", lines.concat())
    }

    fn note(&mut self, line: usize, what: impl Into<String>, why: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Note { line, what: what.into(), why: why.into() });
        }
    }
}

/// Reads the text of a file.
#[must_use]
pub fn read(text: &str) -> Reading {
    let tokens = tokens(text);
    let mut reading = Reading::default();
    for statement in tokens.split(|token| [";", "{", "}"].iter().any(|end| token.is(end))) {
        read_statement(statement, &mut reading);
    }
    reading
}

fn read_statement(statement: &[Token], reading: &mut Reading) {
    if let Some(at) = call(statement, "define") {
        return read_define(statement, at, reading);
    }
    let Some(first) = statement.iter().find(|token| !token.is("@")) else { return };
    let line = first.line;
    let begins_with = |words: &[&str]| words.iter().any(|word| first.is_word(word));
    if first.kind == Kind::Variable {
        match first.text.as_str() {
            "table_prefix" => {
                let value = statement.get(2).and_then(Token::plain_text);
                reading.table_prefix = value.map(str::to_owned);
            }
            "_SERVER" => reading.note(
                line,
                "`$_SERVER`",
                "HTTPS and the visitor's address come from the balancer",
            ),
            name => reading.note(line, format!("`${name}`"), OTHER_CODE),
        }
    } else if begins_with(&["ini_set", "set_time_limit", "error_reporting"]) {
        reading.note(
            line,
            format!("`{}`", first.text),
            "`[php]` in flotilla.toml has such settings",
        );
    } else if begins_with(&["require", "require_once", "include", "include_once"]) {
        if !statement.iter().any(|token| token.text.contains("wp-settings.php")) {
            reading.note(line, format!("`{}`", first.text), OTHER_CODE);
        }
    } else if begins_with(&["if", "else", "elseif"]) {
        // Its condition: mostly `defined( … )`. What it guards is read by itself.
        let guarded = call(statement, "ini_set").or_else(|| call(statement, "set_time_limit"));
        let server = statement.iter().any(|token| token.text == "_SERVER");
        if server {
            reading.note(
                line,
                "`$_SERVER`",
                "HTTPS and the visitor's address come from the balancer",
            );
        } else if guarded.is_some() {
            reading.note(line, "`ini_set`", "`[php]` in flotilla.toml has such settings");
        }
    } else {
        let shown: Vec<&str> = statement.iter().take(SHOWN_TOKENS_MAX).filter_map(shown).collect();
        reading.note(line, format!("`{} …`", shown.join(" ")), OTHER_CODE);
    }
}

const OTHER_CODE: &str =
    "code is not configuration: put it into a file in `wp-content/mu-plugins` and deploy that";

/// Texts may be secrets.
fn shown(token: &Token) -> Option<&str> {
    let is_shown = matches!(token.kind, Kind::Word | Kind::Variable | Kind::Symbol);
    is_shown.then_some(token.text.as_str())
}

fn call(statement: &[Token], function: &str) -> Option<usize> {
    let is_call = |pair: &[Token]| match pair {
        [name, open] => name.is_word(function) && open.is("("),
        _ => false,
    };
    statement.windows(2).position(is_call)
}

fn read_define(statement: &[Token], at: usize, reading: &mut Reading) {
    let (_, parts) = arguments(statement, at + 1);
    let line = statement.get(at).map_or(0, |token| token.line);
    let (Some([name]), Some(value)) = (parts.first().copied(), parts.get(1)) else {
        return reading.note(line, "`define`", OTHER_CODE);
    };
    let Some(name) = name.plain_text().filter(|name| is_name(name)) else {
        return reading.note(line, "`define`", "its name is computed");
    };
    // Every file has this one.
    if name == "ABSPATH" {
        return;
    }
    if let Some(reason) = refusal(name) {
        return reading.note(line, format!("`{name}`"), reason);
    }
    match evaluate(value) {
        Some(value) => drop(reading.taken.insert(name.to_owned(), value)),
        None => reading.note(
            line,
            format!("`{name}`"),
            "its value is computed; write the value itself into `wordpress.constants`",
        ),
    }
}

/// Returns the value of a simple expression.
fn evaluate(expression: &[Token]) -> Option<ConstantValue> {
    match expression {
        [one] if one.is_word("true") => Some(ConstantValue::Switch(true)),
        [one] if one.is_word("false") => Some(ConstantValue::Switch(false)),
        [minus, one] if minus.is("-") => integer(one).map(|number| ConstantValue::Number(-number)),
        [first, ..] if first.kind == Kind::Number => product(expression).map(ConstantValue::Number),
        _ => concatenation(expression).map(ConstantValue::Text),
    }
}

fn integer(token: &Token) -> Option<i64> {
    (token.kind == Kind::Number).then(|| token.text.replace('_', "").parse().ok()).flatten()
}

/// `60 * 60 * 24`, as people write times.
fn product(expression: &[Token]) -> Option<i64> {
    let mut factors = expression.split(|token| token.is("*"));
    factors.try_fold(1_i64, |product, factor| match factor {
        [one] => product.checked_mul(integer(one)?),
        _ => None,
    })
}

/// Texts and the paths of the code, joined.
fn concatenation(expression: &[Token]) -> Option<String> {
    let mut text = String::new();
    for part in expression.split(|token| token.is(".")) {
        match part {
            [one] if one.plain_text().is_some() => text.push_str(one.plain_text()?),
            [one] if one.is_word("ABSPATH") => {
                text.push_str(layout::SITE);
                text.push('/');
            }
            [one] if one.is_word("WP_CONTENT_DIR") => {
                text.push_str(layout::SITE);
                text.push_str("/wp-content");
            }
            [one] if one.is_word("__DIR__") => text.push_str(layout::SITE),
            [name, _, file, _] if name.is_word("dirname") && file.is_word("__FILE__") => {
                text.push_str(layout::SITE);
            }
            _ => return None,
        }
    }
    // Where the code was before is nowhere here.
    let text = match text.find("/wp-content/") {
        Some(at) if text.starts_with('/') => {
            format!("{}{}", layout::SITE, text.get(at..).unwrap_or_default())
        }
        _ => text,
    };
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"<?php
// ** Database settings ** //
define( 'DB_NAME', 'shop' );
define( 'DB_PASSWORD', 'hunter2' );
define('AUTH_KEY',         'put your unique phrase here');
$table_prefix = 'shop_';
define( 'WP_CACHE', true ); // Added by WP Super Cache
define( 'WPCACHEHOME', '/home/shop/public_html/wp-content/plugins/wp-super-cache/' );
//Begin Really Simple SSL session cookie settings
@ini_set('session.cookie_httponly', true);
@ini_set('session.cookie_secure', true);
//END Really Simple SSL
if (isset($_SERVER["HTTP_X_FORWARDED_PROTO"]) && $_SERVER["HTTP_X_FORWARDED_PROTO"] == 'https') {
    $_SERVER["HTTPS"] = "on";
}
define( 'WP_POST_REVISIONS', 5 );
defined( 'EMPTY_TRASH_DAYS' ) || define( 'EMPTY_TRASH_DAYS', 60 * 60 );
if ( ! defined( 'WP_MEMORY_LIMIT' ) ) { define( 'WP_MEMORY_LIMIT', '256M' ); }
define( 'LICENSE', getenv( 'LICENSE' ) );
define( 'MY_LOG', WP_CONTENT_DIR . '/uploads/my.log' );
phone_home( 'sesame' );
if ( ! defined( 'ABSPATH' ) ) {
	define( 'ABSPATH', __DIR__ . '/' );
}
require_once ABSPATH . 'wp-settings.php';
"#;

    #[test]
    fn what_is_the_sites_own_is_taken() {
        let reading = read(FILE);
        assert_eq!(reading.table_prefix.as_deref(), Some("shop_"));
        let toml = "[wordpress.constants]\n\
            EMPTY_TRASH_DAYS = 3600\n\
            MY_LOG = \"/srv/flotilla/site/wp-content/uploads/my.log\"\n\
            WPCACHEHOME = \"/srv/flotilla/site/wp-content/plugins/wp-super-cache/\"\n\
            WP_CACHE = true\n\
            WP_MEMORY_LIMIT = \"256M\"\n\
            WP_POST_REVISIONS = 5\n";
        assert_eq!(reading.toml(), toml);
    }

    #[test]
    fn what_is_left_out_is_told_with_its_line_and_without_its_value() {
        let reading = read(FILE);
        let told: Vec<(usize, &str)> =
            reading.notes.iter().map(|note| (note.line, note.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (3, "`DB_NAME`"),
                (4, "`DB_PASSWORD`"),
                (5, "`AUTH_KEY`"),
                (10, "`ini_set`"),
                (11, "`ini_set`"),
                (13, "`$_SERVER`"),
                (14, "`$_SERVER`"),
                (19, "`LICENSE`"),
                (21, "`phone_home ( ) …`"),
            ]
        );
        let all = format!("{:?}", reading.notes);
        assert!(!all.contains("hunter2") && !all.contains("sesame"), "{all}");
    }

    #[test]
    fn a_file_of_ours_has_nothing_to_take() {
        let ours = include_str!("../../../templates/wp-config.php");
        assert_eq!(read(ours).taken, Constants::new());
    }
}
