//! Takes PHP source apart into tokens, as far as looking for calls and definitions needs it.
//!
//! It does not run or resolve anything, and it never fails: what is not PHP gives odd tokens.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `$name`.
    Variable,
    /// A keyword, a constant or the name of a function or class, with its namespace.
    Word,
    /// A string; its text is without quotes and escapes.
    Text {
        /// Whether it holds no variable.
        is_plain: bool,
    },
    /// A number as it is written.
    Number,
    /// One character of punctuation, or one of `=>`, `->`, `::`, `||`, `&&`.
    Symbol,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// The line it begins on, counted from 1.
    pub line: usize,
}

impl Token {
    /// Whether it is this punctuation.
    #[must_use]
    pub fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// Whether it is this word; PHP's functions and keywords have no case.
    #[must_use]
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.trim_start_matches('\\').eq_ignore_ascii_case(word)
    }

    /// Returns the text of a string without variables.
    #[must_use]
    pub fn plain_text(&self) -> Option<&str> {
        (self.kind == Kind::Text { is_plain: true }).then_some(self.text.as_str())
    }
}

/// Returns the tokens of a file; comments, spaces and what is outside of `<?php` are left out.
#[must_use]
pub fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { rest: source, line: 1, tokens: Vec::new() };
    reader.skip_html();
    while !reader.rest.is_empty() {
        reader.next();
    }
    reader.tokens
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

const PAIRS: [&str; 5] = ["=>", "->", "::", "||", "&&"];

impl<'a> Reader<'a> {
    fn next(&mut self) {
        let Some(first) = self.rest.chars().next() else { return };
        if first.is_whitespace() {
            self.advance(first.len_utf8());
        } else if self.rest.starts_with("?>") {
            self.advance(2);
            self.skip_html();
        } else if self.rest.starts_with("//") || first == '#' && !self.rest.starts_with("#[") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            // The end of PHP ends a comment too.
            let end = self.rest.find("?>").map_or(end, |other| end.min(other));
            self.advance(end);
        } else if self.rest.starts_with("/*") {
            let end = self.rest.get(2..).and_then(|rest| rest.find("*/"));
            self.advance(end.map_or(self.rest.len(), |end| end + 4));
        } else if self.rest.starts_with("<<<") {
            self.heredoc();
        } else if matches!(first, '\'' | '"' | '`') {
            self.quoted(first);
        } else if first.is_ascii_digit() {
            self.take(Kind::Number, |one| one.is_ascii_alphanumeric() || matches!(one, '.' | '_'));
        } else if first == '$' && self.rest[1..].starts_with(is_name) {
            self.advance(1);
            self.take(Kind::Variable, is_name);
        } else if is_name(first) || first == '\\' {
            self.take(Kind::Word, |one| is_name(one) || one == '\\');
        } else {
            let pair = PAIRS.iter().find(|pair| self.rest.starts_with(**pair));
            let length = pair.map_or(first.len_utf8(), |pair| pair.len());
            let text = self.rest.get(..length).unwrap_or_default().to_owned();
            self.push(Kind::Symbol, text, length);
        }
    }

    fn skip_html(&mut self) {
        let php = self.rest.find("<?php").map(|at| at + 5);
        let short = self.rest.find("<?=").map(|at| at + 3);
        let begin = match (php, short) {
            (Some(php), Some(short)) => php.min(short),
            (php, short) => php.or(short).unwrap_or(self.rest.len()),
        };
        self.advance(begin);
    }

    fn take(&mut self, kind: Kind, belongs: impl Fn(char) -> bool) {
        let end = self.rest.find(|one| !belongs(one)).unwrap_or(self.rest.len());
        let text = self.rest.get(..end).unwrap_or_default().to_owned();
        self.push(kind, text, end);
    }

    fn quoted(&mut self, quote: char) {
        let mut text = String::new();
        let mut is_plain = quote != '`';
        let mut characters = self.rest.char_indices().skip(1).peekable();
        let mut end = self.rest.len();
        while let Some((at, one)) = characters.next() {
            match one {
                '\\' => {
                    let Some((_, escaped)) = characters.next() else { break };
                    push_escaped(&mut text, quote, escaped);
                }
                one if one == quote => {
                    end = at + one.len_utf8();
                    break;
                }
                '$' if quote != '\'' => {
                    let is_variable =
                        characters.peek().is_some_and(|(_, next)| is_name(*next) || *next == '{');
                    is_plain &= !is_variable;
                    text.push('$');
                }
                one => text.push(one),
            }
        }
        self.push(Kind::Text { is_plain }, text, end);
    }

    fn heredoc(&mut self) {
        let body = self.rest.get(3..).unwrap_or_default().trim_start_matches([' ', '\t']);
        let is_now = body.starts_with('\'');
        let label = body.trim_start_matches(['\'', '"']);
        let label_end = label.find(|one| !is_name(one)).unwrap_or(label.len());
        let label = label.get(..label_end).unwrap_or_default();
        if label.is_empty() {
            return self.push(Kind::Symbol, "<".to_owned(), 1);
        }
        let start = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let mut end = start;
        let mut text_end = self.rest.len();
        for line in self.rest.get(start..).unwrap_or_default().split_inclusive('\n') {
            let bare = line.trim_start();
            let is_end = bare.strip_prefix(label).is_some_and(|rest| !rest.starts_with(is_name));
            if is_end {
                text_end = end;
                end += line.len() - bare.len() + label.len();
                break;
            }
            end += line.len();
        }
        let text = self.rest.get(start..text_end.max(start)).unwrap_or_default().to_owned();
        let is_plain = is_now || !text.contains('$');
        self.push(Kind::Text { is_plain }, text, end);
    }

    fn push(&mut self, kind: Kind, text: String, length: usize) {
        self.tokens.push(Token { kind, text, line: self.line });
        self.advance(length);
    }

    fn advance(&mut self, length: usize) {
        let (passed, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.line += passed.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
    }
}

fn push_escaped(text: &mut String, quote: char, escaped: char) {
    match (quote, escaped) {
        (_, '\\') => text.push('\\'),
        (quote, escaped) if quote == escaped => text.push(escaped),
        ('\'', other) => text.extend(['\\', other]),
        (_, 'n') => text.push('\n'),
        (_, 't') => text.push('\t'),
        (_, 'r') => text.push('\r'),
        (_, '$') => text.push('$'),
        (_, other) => text.extend(['\\', other]),
    }
}

const fn is_name(one: char) -> bool {
    one.is_ascii_alphanumeric() || one == '_' || !one.is_ascii()
}

/// Returns the place after the `)` that closes the `(` at `open`, and the arguments in between,
/// each as the tokens between the commas.
#[must_use]
pub fn arguments(tokens: &[Token], open: usize) -> (usize, Vec<&[Token]>) {
    let mut depth = 0_usize;
    let mut all = Vec::new();
    let mut begin = open + 1;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.is("(") || token.is("[") || token.is("{") {
            depth += 1;
        } else if token.is(")") || token.is("]") || token.is("}") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                if at > begin || !all.is_empty() {
                    all.push(tokens.get(begin..at).unwrap_or_default());
                }
                return (at + 1, all);
            }
        } else if token.is(",") && depth == 1 {
            all.push(tokens.get(begin..at).unwrap_or_default());
            begin = at + 1;
        }
    }
    (tokens.len(), all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_html_and_spaces_are_no_tokens() {
        let source = "<p>$no</p><?php // a ?>b<?= $x /* c */ # d\n . \"y\" ?> html";
        assert_eq!(texts(source), ["x", ".", "y"]);
    }

    #[test]
    fn strings_are_read_as_php_reads_them() {
        let source = r#"<?php 'it\'s \n' "a\n\"$" "x$y" "{$z}" `ls`"#;
        let read: Vec<_> =
            tokens(source).into_iter().map(|token| (token.text, token.kind)).collect();
        let text = |text: &str, is_plain| (text.to_owned(), Kind::Text { is_plain });
        assert_eq!(
            read,
            [
                text(r"it's \n", true),
                text("a\n\"$", true),
                text("x$y", false),
                text("{$z}", false),
                text("ls", false),
            ]
        );
    }

    #[test]
    fn a_heredoc_is_one_text_and_lines_go_on() {
        let source =
            "<?php $a = <<<EOT\n  line define('X', 1);\n  EOT;\n$b = <<<'RAW'\n$c\nRAW;\n$d";
        let found: Vec<_> =
            tokens(source).into_iter().map(|token| (token.text, token.line)).collect();
        let expected = [("a", 1), ("=", 1), ("  line define('X', 1);\n", 1), (";", 3), ("b", 4)];
        for (token, (text, line)) in found.iter().zip(expected) {
            assert_eq!((token.0.as_str(), token.1), (text, line));
        }
        assert_eq!(found.last().map(|(text, line)| (text.as_str(), *line)), Some(("d", 7)));
    }

    #[test]
    fn arguments_are_split_at_their_own_commas() {
        let all = tokens("<?php f(a(1, 2), [3, 4], 'x,y') + 1");
        let (end, arguments) = arguments(&all, 1);
        assert_eq!(arguments.len(), 3);
        assert!(all[end].is("+"));
        let all = tokens("<?php f() f(1");
        assert_eq!(super::arguments(&all, 1), (3, Vec::new()));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart(source in ".{0,200}") {
            let source = format!("<?php {source}");
            let lines = source.lines().count().max(1);
            for token in tokens(&source) {
                prop_assert!(token.line <= lines + 1);
            }
        }

        #[test]
        fn odd_php_is_taken_apart(source in "[<?'\"\\\\$({\\[\\])}a\\n/*#`=.>-]{0,60}") {
            let found = tokens(&format!("<?php {source}"));
            prop_assert!(found.len() <= source.len() + 1);
        }
    }
}
