//! The table of WordPress' constants that a site sets.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Kind, Problem, wrong_type};
use crate::constants::{ConstantValue, Constants, is_name, refusal};

const ITEMS_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 4096;

/// Names with a value each.
pub(super) struct ConstantTable;

impl Kind for ConstantTable {
    type Value = Constants;

    fn describe(&self) -> String {
        format!(
            "a table such as `{{ WP_POST_REVISIONS = 5 }}`, at most {ITEMS_MAX} long, each value a \
             text, a whole number, `true` or `false`"
        )
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<Constants, String> {
        let table = value.as_table().ok_or_else(|| wrong_type(value))?;
        if table.len() > ITEMS_MAX {
            return Err(format!(", not {} long", table.len()));
        }
        let mut constants = BTreeMap::new();
        for (name, value) in table {
            let name = name.get_ref().as_ref();
            check_name(name)?;
            constants.insert(name.to_owned(), constant(name, value.get_ref())?);
        }
        Ok(constants)
    }

    fn reveal(&self, constants: &Constants) -> String {
        if constants.is_empty() {
            return "{}".to_owned();
        }
        let items: Vec<String> =
            constants.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!("{{ {} }}", items.join(", "))
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Constants, Vec<Problem>> {
        let Some(table) = value.get_ref().as_table().filter(|table| table.len() <= ITEMS_MAX)
        else {
            let why = self.convert(value.get_ref()).err().unwrap_or_default();
            let message = format!("must be {}{why}", self.describe());
            return Err(vec![Problem { at: value.span().start, message }]);
        };
        let mut constants = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            match check_name(name).and_then(|()| constant(name, value.get_ref())) {
                Ok(value) => drop(constants.insert(name.to_owned(), value)),
                Err(message) => problems.push(Problem { at, message: format!("has {message}") }),
            }
        }
        if problems.is_empty() { Ok(constants) } else { Err(problems) }
    }
}

/// The errors follow "has".
fn check_name(name: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err("a name with other characters than A-Z, a-z, 0-9 and `_`".to_owned());
    }
    match refusal(name) {
        Some(reason) => Err(format!("`{name}`, which is not the site's to set: {reason}")),
        None => Ok(()),
    }
}

fn constant(name: &str, value: &DeValue<'_>) -> Result<ConstantValue, String> {
    match value {
        DeValue::Boolean(value) => Ok(ConstantValue::Switch(*value)),
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
            .map(ConstantValue::Number)
            .map_err(|_too_large| format!("`{name}` with too large a number")),
        DeValue::String(text) if text.len() > TEXT_BYTES_MAX => {
            Err(format!("`{name}` with a text of more than {TEXT_BYTES_MAX} bytes"))
        }
        DeValue::String(text) if text.chars().any(|one| one.is_control() || is_line_end(one)) => {
            Err(format!("`{name}` with a line break or another control character"))
        }
        DeValue::String(text) => Ok(ConstantValue::Text(text.to_string())),
        other => Err(format!(
            "`{name}` with a value that is no text, whole number, `true` or `false`{}",
            wrong_type(other)
        )),
    }
}

const fn is_line_end(one: char) -> bool {
    matches!(one, '\u{2028}' | '\u{2029}')
}
