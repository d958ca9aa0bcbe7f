//! Amounts: whole numbers, ratios, durations and sizes, each with its limits.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

use super::error::quoted;
use super::kind::{Kind, toml_text, wrong_type};

/// A whole number between two limits.
pub(super) struct Whole<T> {
    min: T,
    max: T,
}

pub(super) const fn whole<T>(min: T, max: T) -> Whole<T> {
    Whole { min, max }
}

impl<T: Copy + fmt::Display + PartialOrd + TryFrom<i128>> Kind for Whole<T> {
    type Value = T;

    fn describe(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<T, String> {
        let integer = value.as_integer().ok_or_else(|| wrong_type(value))?;
        i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| (self.min..=self.max).contains(number))
            .ok_or_else(|| format!(", not {}", quoted(&integer.to_string())))
    }

    fn reveal(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A part of a whole, from 0 to 1.
pub(super) struct Ratio;

impl Kind for Ratio {
    type Value = f64;

    fn describe(&self) -> String {
        "a number from 0 to 1, such as `0.5`".to_owned()
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<f64, String> {
        let text = match value {
            DeValue::Float(float) => float.as_str().to_owned(),
            DeValue::Integer(integer) => integer.to_string(),
            _ => return Err(wrong_type(value)),
        };
        text.parse::<f64>()
            .ok()
            .filter(|number| (0.0..=1.0).contains(number))
            // `-0.0` is in the range, and would be written with its sign.
            .map(f64::abs)
            .ok_or_else(|| format!(", not {}", quoted(&text)))
    }

    fn reveal(&self, value: &f64) -> String {
        format!("{value:?}")
    }
}

/// A unit: its word and what it is worth.
type Unit = (&'static str, u64);

const TIME_UNITS: &[Unit] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: &[Unit] =
    &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A duration between two limits, a multiple of `step`; all in milliseconds.
pub(super) struct Time {
    min: u64,
    max: u64,
    step: u64,
}

/// A duration in which milliseconds count.
pub(super) const fn millis(min: u64, max: u64) -> Time {
    Time { min, max, step: 1 }
}

/// A duration for a program that counts in seconds.
pub(super) const fn seconds(min: u64, max: u64) -> Time {
    Time { min: min * 1000, max: max * 1000, step: 1000 }
}

impl Kind for Time {
    type Value = Duration;

    fn describe(&self) -> String {
        let (min, max) = (with_unit(self.min, TIME_UNITS), with_unit(self.max, TIME_UNITS));
        let step = if self.step > 1 { "in whole seconds " } else { "" };
        format!("a duration {step}from `\"{min}\"` to `\"{max}\"`")
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<Duration, String> {
        amount(value, TIME_UNITS, self.min..=self.max, self.step).map(Duration::from_millis)
    }

    fn reveal(&self, value: &Duration) -> String {
        let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        toml_text(&with_unit(millis, TIME_UNITS))
    }
}

/// An amount of memory or of data, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// Makes a size from bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes a size from mebibytes, 2^20 bytes each.
    #[must_use]
    pub const fn from_mebibytes(mebibytes: u32) -> Self {
        // `u64::from` is not const.
        Self((mebibytes as u64) << 20)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the size in whole mebibytes, rounded down.
    #[must_use]
    pub const fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&with_unit(self.0, SIZE_UNITS))
    }
}

/// A size between two limits, in whole mebibytes, which is what PHP and memcached count in.
pub(super) struct Mebibytes {
    min: Size,
    max: Size,
}

pub(super) const fn mebibytes(min: u32, max: u32) -> Mebibytes {
    Mebibytes { min: Size::from_mebibytes(min), max: Size::from_mebibytes(max) }
}

impl Kind for Mebibytes {
    type Value = Size;

    fn describe(&self) -> String {
        format!("a size in whole MiB from `\"{}\"` to `\"{}\"`", self.min, self.max)
    }

    fn convert(&self, value: &DeValue<'_>) -> Result<Size, String> {
        amount(value, SIZE_UNITS, self.min.0..=self.max.0, 1 << 20).map(Size)
    }

    fn reveal(&self, value: &Size) -> String {
        toml_text(&value.to_string())
    }
}

/// Reads a number with a unit and checks it.
fn amount(
    value: &DeValue<'_>,
    units: &[Unit],
    range: std::ops::RangeInclusive<u64>,
    step: u64,
) -> Result<u64, String> {
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            return Err(format!(", not {number} without a unit; {}", units_hint(units)));
        }
        _ => return Err(wrong_type(value)),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() || unit.is_empty() {
        return Err(format!(", not {}; {}", quoted(text), units_hint(units)));
    }
    let Some((_, worth)) = units.iter().find(|(word, _)| *word == unit) else {
        return Err(format!("; {} is not a unit; {}", quoted(unit), units_hint(units)));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*worth))
        .filter(|amount| range.contains(amount) && amount.is_multiple_of(step))
        .ok_or_else(|| format!(", not {}", quoted(text)))
}

fn units_hint(units: &[Unit]) -> String {
    let words: Vec<String> = units.iter().map(|(word, _)| format!("`{word}`")).collect();
    let example = if units == TIME_UNITS { "30s" } else { "64MiB" };
    format!("write a whole number and one of {}, such as `\"{example}\"`", words.join(", "))
}

/// Writes an amount in the largest unit that leaves no rest.
fn with_unit(amount: u64, units: &[Unit]) -> String {
    let small = units.first().copied().unwrap_or(("", 1));
    let fits = |(_, worth): &&Unit| amount > 0 && amount.is_multiple_of(*worth);
    let (word, worth) = units.iter().rev().find(fits).copied().unwrap_or(small);
    format!("{}{word}", amount / worth)
}
