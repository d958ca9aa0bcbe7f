//! The kinds of value a key can have: how each is read from TOML, checked, described and written.
//!
//! Here are the trait and the plain kinds; amounts are in `number.rs`, texts in `text.rs`.

use std::marker::PhantomData;

use toml::Spanned;
use toml::de::DeValue;

use super::error::quoted;
use crate::deploy::HoldMode;

/// What is wrong with a value.
#[derive(Debug)]
pub(super) struct Problem {
    /// The byte of the text where the value begins.
    pub(super) at: usize,
    /// Follows the name of the key: "must be …".
    pub(super) message: String,
}

/// A kind of value. `describe` says what may be written, to follow "must be".
pub(super) trait Kind {
    type Value;

    fn describe(&self) -> String;

    /// Reads one value; the error follows the description: ", not 0".
    fn convert(&self, value: &DeValue<'_>) -> Result<Self::Value, String>;

    /// Writes the value as TOML, so that reading gives it back.
    fn reveal(&self, value: &Self::Value) -> String;

    /// Writes the value as TOML without its secrets.
    fn redact(&self, value: &Self::Value) -> String {
        self.reveal(value)
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Problem>> {
        self.convert(value.get_ref()).map_err(|why| {
            vec![Problem {
                at: value.span().start,
                message: format!("must be {}{why}", self.describe()),
            }]
        })
    }
}

/// Ends a message for a value of the wrong type, without showing the value.
pub(super) fn wrong_type(value: &DeValue<'_>) -> String {
    let what = match value {
        DeValue::String(_) => "a text in quotes",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!(", not {what}")
}

/// Writes a text as a TOML string.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `true` or `false`.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn describe(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| wrong_type(value))
    }

    fn reveal(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A list of values of one kind.
pub(super) struct List<K> {
    pub(super) item: K,
    pub(super) items_max: usize,
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn describe(&self) -> String {
        format!("a list in `[ ]`, at most {} long, each {}", self.items_max, self.item.describe())
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<Self::Value, String> {
        let items = value.as_array().ok_or_else(|| wrong_type(value))?;
        if items.len() > self.items_max {
            return Err(format!(", not {} long", items.len()));
        }
        items.iter().map(|item| self.item.convert(item.get_ref())).collect()
    }

    fn reveal(&self, values: &Self::Value) -> String {
        let items: Vec<String> = values.iter().map(|value| self.item.reveal(value)).collect();
        format!("[{}]", items.join(", "))
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Problem>> {
        let items = match value.get_ref().as_array() {
            Some(items) if items.len() <= self.items_max => items,
            _ => {
                let why = self.convert(value.get_ref()).err().unwrap_or_default();
                let message = format!("must be {}{why}", self.describe());
                return Err(vec![Problem { at: value.span().start, message }]);
            }
        };
        let mut values = Vec::with_capacity(items.len());
        let mut problems = Vec::new();
        for item in items {
            match self.item.read(item) {
                Ok(value) => values.push(value),
                Err(found) => problems.extend(found.into_iter().map(|problem| Problem {
                    at: problem.at,
                    message: format!("is a list, and each of its items {}", problem.message),
                })),
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(problems) }
    }
}

/// A set of words of which one is to be written.
pub(super) trait Words: Copy + 'static {
    /// All values with their words, in the order of the reference.
    const ALL: &'static [(Self, &'static str)];
}

/// One of a set of words.
pub(super) struct OneOf<T>(PhantomData<T>);

pub(super) const fn one_of<T: Words>() -> OneOf<T> {
    OneOf(PhantomData)
}

impl<T: Words + PartialEq> Kind for OneOf<T> {
    type Value = T;

    fn describe(&self) -> String {
        let words: Vec<String> = T::ALL.iter().map(|(_, word)| format!("`\"{word}\"`")).collect();
        format!("one of {}", words.join(", "))
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<T, String> {
        let given = value.as_str().ok_or_else(|| wrong_type(value))?;
        let found = T::ALL.iter().find(|(_, word)| *word == given);
        found.map(|(value, _)| *value).ok_or_else(|| format!(", not {}", quoted(given)))
    }

    fn reveal(&self, value: &T) -> String {
        let found = T::ALL.iter().find(|(one, _)| one == value);
        toml_text(found.map_or("", |(_, word)| word))
    }
}

/// Where a fleet runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Everything on this machine.
    Local,
    /// Servers of one's own.
    Hosts,
    /// An AWS account.
    Aws,
}

impl Words for TargetKind {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Local, "local"), (Self::Hosts, "hosts"), (Self::Aws, "aws")];
}

impl Words for HoldMode {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Auto, "auto"), (Self::Always, "always"), (Self::Never, "never")];
}

/// What becomes of changes that people make in wp-admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMode {
    /// They reach all instances by themselves.
    Auto,
    /// They wait until somebody approves them.
    Review,
    /// There is no workshop, so there are none.
    Off,
}

impl Words for CaptureMode {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Auto, "auto"), (Self::Review, "review"), (Self::Off, "off")];
}

/// Whose object cache WordPress uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectCache {
    /// That of the site's own code where it brings one, else that of flotilla.
    Auto,
    /// That of flotilla.
    On,
    /// None of flotilla.
    Off,
}

impl ObjectCache {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl Words for ObjectCache {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Auto, Self::Auto.as_str()),
        (Self::On, Self::On.as_str()),
        (Self::Off, Self::Off.as_str()),
    ];
}

/// What keeps media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaStore {
    /// A bucket, mounted on every machine.
    Bucket,
    /// A directory of the one machine.
    Directory,
}

impl Words for MediaStore {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Bucket, "bucket"), (Self::Directory, "directory")];
}

/// How the connection to a database of one's own is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseTls {
    /// Not at all.
    Off,
    /// It is encrypted; whoever answers is believed.
    Required,
    /// It is encrypted, and the server's certificate is checked.
    Verify,
}

impl Words for DatabaseTls {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Off, "off"), (Self::Required, "required"), (Self::Verify, "verify")];
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What someone must act on.
    Error,
    /// Also what flotilla recovered from.
    Warn,
    /// Also the milestones of operation.
    Info,
    /// Also why decisions were taken.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Returns the word for the level, which is also a filter directive.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Words for LogLevel {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Error, Self::Error.as_str()),
        (Self::Warn, Self::Warn.as_str()),
        (Self::Info, Self::Info.as_str()),
        (Self::Debug, Self::Debug.as_str()),
        (Self::Trace, Self::Trace.as_str()),
    ];
}

/// What keeps PHP's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionBackend {
    /// Memcached nodes.
    Memcached,
    /// A DynamoDB table.
    DynamoDb,
}

impl Words for SessionBackend {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Memcached, "memcached"), (Self::DynamoDb, "dynamodb")];
}
