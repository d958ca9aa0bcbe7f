//! How keys are declared: the `configuration!` macro, and the descriptors it makes of a declaration.

use toml::Spanned;
use toml::de::DeValue;

use super::keys::Config;
use super::kind::Problem;

/// A section of the file, `[name]`.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: Vec<Key>,
}

/// One key of a section.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Lines of text, each with a space before it.
    pub(super) doc: &'static str,
    /// A value other than the default, as TOML.
    pub(super) example: &'static str,
    /// What may be written, as in "must be …".
    pub(super) describe: fn() -> String,
    /// Puts the value of the file into the configuration.
    pub(super) read: fn(&mut Config, &Spanned<DeValue<'_>>) -> Result<(), Vec<Problem>>,
    /// Writes the value as TOML, with its secrets.
    pub(super) reveal: fn(&Config) -> String,
    /// Writes the value as TOML, with `***` for its secrets.
    pub(super) redact: fn(&Config) -> String,
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Declares sections and keys:
///
/// ```text
/// /// What the section is about.
/// fleet: Fleet {
///     /// What the key means.
///     instances: u16 = 2 => whole(1, 100), example "4";
/// }
/// ```
///
/// Read: the key `fleet.instances` is a `u16`, 2 unless the file says otherwise; `whole(1, 100)` is
/// the [`Kind`](super::kind::Kind) that reads, checks and writes it. It makes a struct for each
/// section, `Config` of all sections, `Default` for both, and `sections()`.
macro_rules! configuration {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $Type:ty = $default:expr => $kind:expr, example $example:literal;
        )+}
    )+) => {
        /// The whole configuration: one field for each section of the file.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Config {
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $key: $Type, )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )+ }
                }
            }
        )+

        /// Returns all sections and their keys, in the order of the declaration.
        pub(super) fn sections() -> Vec<Section> {
            vec![$( Section {
                name: stringify!($section),
                doc: concat!($($section_doc, "\n"),+),
                keys: vec![$( Key {
                    name: stringify!($key),
                    doc: concat!($($doc, "\n"),+),
                    example: $example,
                    describe: || $kind.describe(),
                    read: |config, value| {
                        config.$section.$key = $kind.read(value)?;
                        Ok(())
                    },
                    reveal: |config| $kind.reveal(&config.$section.$key),
                    redact: |config| $kind.redact(&config.$section.$key),
                }, )+],
            }, )+]
        }
    };
}

pub(super) use configuration;
