//! Finds the calls in PHP source that write something.

use super::Place;
use super::evaluate::{Surroundings, assignments_of, place};
use crate::php::{Kind, Token, arguments};

/// A call that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its line, counted from 1.
    pub line: usize,
    /// The function or method.
    pub function: String,
    /// Where it writes.
    pub place: Place,
}

/// Functions that write, and which of their arguments says where.
const WRITERS: [(&str, usize); 19] = [
    ("copy", 1),
    ("error_log", 2),
    ("file_put_contents", 0),
    ("fopen", 0),
    ("gzopen", 0),
    ("imagegif", 1),
    ("imagejpeg", 1),
    ("imagepng", 1),
    ("imagewebp", 1),
    ("insert_with_markers", 0),
    ("mkdir", 0),
    ("move_uploaded_file", 1),
    ("rename", 1),
    ("rmdir", 0),
    ("touch", 0),
    ("unlink", 0),
    ("unzip_file", 1),
    ("wp_mkdir_p", 0),
    ("symlink", 1),
];
/// Methods that write: of WordPress' file system, of images, of zip archives.
const METHODS: [(&str, usize); 7] = [
    ("copy", 1),
    ("mkdir", 0),
    ("move", 1),
    ("open", 0),
    ("put_contents", 0),
    ("writeimage", 0),
    ("extractto", 0),
];
/// Functions that write to one place, whatever they are given.
const FIXED: [(&str, Place); 4] = [
    ("session_start", Place::Sessions),
    ("wp_schedule_event", Place::Schedule),
    ("wp_schedule_single_event", Place::Schedule),
    ("tmpfile", Place::Temporary),
];

/// Finds what a file writes.
#[must_use]
pub fn scan(tokens: &[Token], around: &Surroundings) -> Vec<Finding> {
    let mut around = around.clone();
    around.assigned = assignments_of(tokens);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if let Some(finding) = call(tokens, at, &around) {
            found.push(finding);
        }
    }
    found
}

fn call(tokens: &[Token], at: usize, around: &Surroundings) -> Option<Finding> {
    let name = tokens.get(at).filter(|token| token.kind == Kind::Word)?;
    if !tokens.get(at + 1)?.is("(") {
        return None;
    }
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    let is_method = before.is_some_and(|token| token.is("->"));
    let is_other = before.is_some_and(|token| token.is("::") || token.is_word("function"));
    if is_other {
        return None;
    }
    let function = name.text.trim_start_matches('\\').to_ascii_lowercase();
    let finding = |place| Some(Finding { line: name.line, function: function.clone(), place });
    if !is_method && let Some((_, place)) = FIXED.iter().find(|(known, _)| *known == function) {
        return finding(place.clone());
    }
    let known: &[(&str, usize)] = if is_method { &METHODS } else { &WRITERS };
    let (_, position) = known.iter().find(|(known, _)| *known == function)?;
    let (_, parts) = arguments(tokens, at + 1);
    if !writes(&function, is_method, &parts) {
        return None;
    }
    let expression = parts.get(*position)?;
    if is_stream(expression) {
        return None;
    }
    finding(match place(expression, around, 0) {
        Some(Place::Path(path)) => Place::Path(path.trim_end_matches('/').to_owned()),
        other => other.unwrap_or(Place::Unknown),
    })
}

/// Whether the call writes at all, which some say by another argument.
fn writes(function: &str, is_method: bool, parts: &[&[Token]]) -> bool {
    let text = |position: usize| parts.get(position).and_then(|part| part.first()?.plain_text());
    match (function, is_method) {
        ("fopen" | "gzopen", false) => {
            text(1).is_none_or(|mode| mode.contains(['w', 'a', 'x', 'c', '+']))
        }
        ("error_log", false) => {
            parts.get(1).is_some_and(|kind| kind.first().is_some_and(|one| one.text == "3"))
        }
        // ZipArchive::open only with the flag to make one; other classes have an `open` too.
        ("open", true) => parts.get(1).is_some_and(|flags| {
            flags.iter().any(|flag| flag.is_word("CREATE") || flag.is_word("OVERWRITE"))
        }),
        _ => true,
    }
}

fn is_stream(expression: &[Token]) -> bool {
    let text = expression.first().map_or("", |first| first.text.as_str());
    text.starts_with("php://") || text.starts_with("http://") || text.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::constants_of;
    use crate::php::tokens;

    const OWNER: &str = "/srv/flotilla/site/wp-content/plugins/shop";

    fn places(source: &str) -> Vec<String> {
        let tokens = tokens(&format!("<?php\n{source}"));
        let mut around = Surroundings {
            owner: OWNER.to_owned(),
            directory: format!("{OWNER}/inc"),
            ..Surroundings::default()
        };
        around.constants = constants_of(&tokens, &around);
        let found = scan(&tokens, &around);
        found.iter().map(|one| format!("{} {}", one.function, one.place.text())).collect()
    }

    #[test]
    fn paths_are_followed_through_constants_variables_and_functions() {
        for (source, expected) in [
            (
                "file_put_contents(WP_CONTENT_DIR . '/cache/' . $key . '.html', $x);",
                "file_put_contents wp-content/cache/*.html",
            ),
            (
                "define('SHOP_DIR', plugin_dir_path(__FILE__)); fopen(SHOP_DIR . 'log.txt', 'a');",
                "fopen wp-content/plugins/shop/inc/log.txt",
            ),
            (
                "$up = wp_upload_dir(); $dir = $up['basedir'] . '/shop'; wp_mkdir_p($dir);",
                "wp_mkdir_p wp-content/uploads/shop",
            ),
            (
                "class A { private $dir; function f() { $this->dir = ABSPATH . 'x/'; @mkdir($this->dir); } }",
                "mkdir x",
            ),
            (
                "$f = dirname(dirname(__FILE__)) . '/data.json'; file_put_contents($f, 1);",
                "file_put_contents wp-content/plugins/shop/data.json",
            ),
            (
                "class B { const LOG = '/var/log/shop.log'; function f() { error_log('x', 3, self::LOG); } }",
                "error_log /var/log/shop.log",
            ),
            ("$d = WP_CONTENT_DIR; rename('a', \"$d/db.php\");", "rename wp-content/db.php"),
            (
                "$zip->open(trailingslashit(WP_CONTENT_DIR) . 'updraft/a.zip', ZipArchive::CREATE);",
                "open wp-content/updraft/a.zip",
            ),
            (
                "$wp_filesystem->put_contents(get_home_path() . '.htaccess', $r);",
                "put_contents .htaccess",
            ),
            (
                "copy($a, apply_filters('shop_dir', WP_CONTENT_DIR . '/w') . '/b');",
                "copy wp-content/w/b",
            ),
            (
                "file_put_contents(tempnam(sys_get_temp_dir(), 'x'), $y);",
                "file_put_contents a temporary file",
            ),
            ("file_put_contents($unknown, $y);", "file_put_contents ?"),
            ("\\session_start();", "session_start PHP sessions"),
        ] {
            assert_eq!(places(source), [expected], "{source}");
        }
    }

    #[test]
    fn what_only_reads_or_is_no_call_is_not_told() {
        for source in [
            "fopen(WP_CONTENT_DIR . '/a', 'r');",
            "fopen('php://memory', 'w+');",
            "error_log('x');",
            "function mkdir($a) {}",
            "Other::copy('a', '/b');",
            "$db->open('x');",
            "'file_put_contents(WP_CONTENT_DIR)';",
        ] {
            assert_eq!(places(source), Vec::<String>::new(), "{source}");
        }
    }
}
