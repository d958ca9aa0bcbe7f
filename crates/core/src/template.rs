//! Fills the configuration templates of a slot, and refuses values that could change their meaning.
//!
//! A template has `{{name}}` where a value goes, and nothing else: no conditions, no loops. What
//! repeats is rendered by [`render_each`] and put in as one value. Every value stays on its line, so
//! that none can add a line to an nginx, ini or PHP file.

use std::collections::BTreeSet;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Says why a template could not be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template wants a value that was not given.
    #[error("the template has a placeholder `{0}` that has no value")]
    UnknownPlaceholder(String),
    /// A value was given that the template has no place for.
    #[error("the template has no placeholder for the value `{0}`")]
    UnusedValue(String),
    /// A value was given twice.
    #[error("the value `{0}` is given twice")]
    RepeatedValue(String),
    /// A placeholder is not closed, or its name is not `a-z`, `0-9` and `_`.
    #[error("line {line} of the template has a malformed placeholder")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
    },
    /// A value would end its line or hide in it.
    #[error("the value `{0}` has a line break or another control character")]
    ControlCharacter(String),
    /// An item is more than one plain word.
    #[error("`{0}` is not a plain word (letters, digits and any of -_.:/@)")]
    NotPlain(String),
}

/// Fills every `{{name}}` of a template.
///
/// # Errors
///
/// A placeholder without a value, a value without a placeholder, and a value with a control
/// character are errors that name it.
pub fn render(template: &str, values: &[(&str, &str)]) -> Result<String, TemplateError> {
    check_values(values)?;
    let mut unused: BTreeSet<&str> = values.iter().map(|(name, _)| *name).collect();
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once(OPEN) {
        filled.push_str(before);
        let line = || line_of(template, after);
        let malformed = || TemplateError::Malformed { line: line() };
        let (name, tail) = after.split_once(CLOSE).ok_or_else(malformed)?;
        if !is_name(name) {
            return Err(malformed());
        }
        let (_, value) = values
            .iter()
            .find(|(given, _)| *given == name)
            .ok_or_else(|| TemplateError::UnknownPlaceholder(name.to_owned()))?;
        filled.push_str(value);
        unused.remove(name);
        rest = tail;
    }
    filled.push_str(rest);
    match unused.first() {
        Some(name) => Err(TemplateError::UnusedValue((*name).to_owned())),
        None => Ok(filled),
    }
}

/// Fills the `{{item}}` of a one-line template for each item and joins the results with spaces.
///
/// An item must be one plain word: an address, a network, a user name.
///
/// # Errors
///
/// An item that is not a plain word, and whatever [`render`] refuses.
pub fn render_each(template: &str, items: &[&str]) -> Result<String, TemplateError> {
    let mut lines = Vec::with_capacity(items.len());
    for item in items {
        if !is_plain(item) {
            return Err(TemplateError::NotPlain((*item).to_owned()));
        }
        lines.push(render(template, &[("item", item)])?);
    }
    Ok(lines.join(" "))
}

/// Checks that a text is one plain word, which means the same unquoted in nginx and ini files.
///
/// # Errors
///
/// Anything but letters, digits and `-_.:/@`, and the empty text.
pub fn plain(text: &str) -> Result<&str, TemplateError> {
    if is_plain(text) { Ok(text) } else { Err(TemplateError::NotPlain(text.to_owned())) }
}

/// Writes a text as a single-quoted PHP string, with its quotes.
#[must_use]
pub fn php_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('\'');
    quoted
}

fn check_values(values: &[(&str, &str)]) -> Result<(), TemplateError> {
    let mut names = BTreeSet::new();
    for (name, value) in values {
        if !names.insert(*name) {
            return Err(TemplateError::RepeatedValue((*name).to_owned()));
        }
        // Unicode's own line ends are no line ends for nginx and PHP, but they are for editors.
        if value.chars().any(|one| one.is_control() || matches!(one, '\u{2028}' | '\u{2029}')) {
            return Err(TemplateError::ControlCharacter((*name).to_owned()));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|one| matches!(one, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn is_plain(text: &str) -> bool {
    let allowed = |one: u8| one.is_ascii_alphanumeric() || b"-_.:/@".contains(&one);
    !text.is_empty() && text.bytes().all(allowed)
}

/// Returns the line on which the unread part `rest` of a template begins.
fn line_of(template: &str, rest: &str) -> usize {
    let read = template.len().saturating_sub(rest.len());
    template.bytes().take(read).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_placeholder_is_filled_as_often_as_it_occurs() {
        let text = render("a {{x}} {b} {{y_2}}{{x}}\n", &[("x", "1"), ("y_2", "{{x}}")]);
        assert_eq!(text.as_deref(), Ok("a 1 {b} {{x}}1\n"), "a value is not a template");
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: [Case; 5] = [
            ("{{x}}", &[], "the template has a placeholder `x` that has no value"),
            ("", &[("x", "")], "the template has no placeholder for the value `x`"),
            ("{{x}}", &[("x", "1"), ("x", "2")], "the value `x` is given twice"),
            ("\n\n{{x", &[("x", "")], "line 3 of the template has a malformed placeholder"),
            ("\n{{X y}}", &[], "line 2 of the template has a malformed placeholder"),
        ];
        for (template, values, message) in cases {
            let error = render(template, values).expect_err(template);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_value_cannot_add_a_line() {
        for value in ["a\nb", "a\rb", "a\0", "a\tb", "\u{85}", "\u{2028}", "\u{7f}"] {
            let error = render("{{x}}", &[("x", value)]).expect_err(value);
            assert_eq!(error, TemplateError::ControlCharacter("x".to_owned()), "{value:?}");
        }
        assert!(render("{{x}}", &[("x", "pässword $1 ; '")]).is_ok());
    }

    #[test]
    fn a_list_becomes_one_line() {
        let hops = ["127.0.0.1", "10.0.0.0/8"];
        assert_eq!(
            render_each("set_real_ip_from {{item}};", &hops).as_deref(),
            Ok("set_real_ip_from 127.0.0.1; set_real_ip_from 10.0.0.0/8;")
        );
        assert_eq!(render_each("{{item}} 1;", &[]).as_deref(), Ok(""));
    }

    #[test]
    fn an_item_cannot_bring_a_directive() {
        for item in ["", "a;b", "a b", "a}", "$a", "a\n", "\"a", "#"] {
            assert!(render_each("{{item}} 1;", &[item]).is_err(), "{item:?}");
            assert!(plain(item).is_err(), "{item:?}");
        }
        assert_eq!(plain("[::1]:80"), Err(TemplateError::NotPlain("[::1]:80".to_owned())));
        assert_eq!(plain("127.0.0.1:8080"), Ok("127.0.0.1:8080"));
    }

    #[test]
    fn a_php_string_cannot_be_left() {
        for (text, quoted) in [
            ("", "''"),
            ("a$b\"c", "'a$b\"c'"),
            ("it's", "'it\\'s'"),
            ("\\", "'\\\\'"),
            ("\\'; evil(); //", "'\\\\\\'; evil(); //'"),
        ] {
            assert_eq!(php_quote(text), quoted);
        }
    }

    #[test]
    fn the_templates_of_a_slot_take_these_values() {
        const WP_CONFIG: &str = "db_name db_user db_password db_host db_flags db_wait constants table_prefix home \
            environment_type auth_key secure_auth_key logged_in_key nonce_key auth_salt \
            secure_auth_salt logged_in_salt nonce_salt cache cache_nodes cache_prefix \
            workshop_key";
        for (template, names) in [
            (
                include_str!("../../../templates/nginx.conf"),
                "listen user group trusted trusted_hops body_max timeout",
            ),
            (
                include_str!("../../../templates/php-fpm.conf"),
                "user group workers timeout instance slot",
            ),
            (
                include_str!("../../../templates/php.ini"),
                "memory_limit upload_max body_max timeout opcache_mib session_lifetime ca_file \
                    looks_again",
            ),
            (include_str!("../../../templates/wp-config.php"), WP_CONFIG),
        ] {
            let values: Vec<_> = names.split_whitespace().map(|name| (name, "1")).collect();
            assert_eq!(render(template, &values).err(), None, "{names}");
        }
    }

    /// Reads a single-quoted string as PHP does.
    fn php_read(quoted: &str) -> Option<String> {
        let mut characters = quoted.strip_prefix('\'')?.chars();
        let mut text = String::new();
        loop {
            match characters.next()? {
                '\'' => return characters.as_str().is_empty().then_some(text),
                '\\' => match characters.next()? {
                    escaped @ ('\'' | '\\') => text.push(escaped),
                    other => text.extend(['\\', other]),
                },
                other => text.push(other),
            }
        }
    }

    proptest! {
        #[test]
        fn php_reads_back_any_text(text in ".*") {
            prop_assert_eq!(php_read(&php_quote(&text)), Some(text));
        }

        #[test]
        fn rendering_keeps_the_number_of_lines(template in "[a-z\n {}]{0,40}", value in "\\PC*") {
            let template = format!("{template}{{{{v}}}}");
            if let Ok(text) = render(&template, &[("v", &value)]) {
                prop_assert_eq!(text.matches('\n').count(), template.matches('\n').count());
            }
        }
    }
}
