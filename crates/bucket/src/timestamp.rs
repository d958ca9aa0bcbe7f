//! Points in time, and the three forms in which S3 writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// Milliseconds since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// Reads the clock of the machine.
    pub(crate) fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place of the store with a clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns whole seconds since 1970: what HTTP dates can tell apart.
    pub(crate) const fn seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// Returns the time as HTTP headers have it.
    pub(crate) fn http(self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.seconds()))
    }

    /// Returns the time as XML answers have it: `2026-11-25T22:00:00.000Z`.
    pub(crate) fn iso(self) -> String {
        let seconds = self.seconds();
        let (year, month, day) = date_of_day(seconds / SECONDS_PER_DAY);
        let in_day = seconds % SECONDS_PER_DAY;
        let (hour, minute, second) = (in_day / 3_600, in_day / 60 % 60, in_day % 60);
        let milli = self.0 % 1_000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }

    /// Reads the time of an HTTP header.
    pub(crate) fn from_http(text: &str) -> Option<Self> {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self(since.as_secs().checked_mul(1_000)?))
    }

    /// Reads the time of a signature: `20261125T220000Z`.
    pub(crate) fn from_signature(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<u64> {
            let digits = text.get(from..to)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let is_plausible = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        let in_day = hour * 3_600 + minute * 60 + second;
        is_plausible
            .then(|| Self((day_of_date(year, month, day) * SECONDS_PER_DAY + in_day) * 1_000))
    }
}

/// Returns the date of a day that is counted from 1970-01-01.
///
/// The calendar is counted from March of year 0, so that leap days end a year.
const fn date_of_day(day: u64) -> (u64, u64, u64) {
    let days = day + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Counts the days from 1970-01-01 to a date after it; see [`date_of_day`].
const fn day_of_date(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * 146_097 + of_era).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Timestamp;

    #[test]
    fn known_times_are_written_as_s3_writes_them() {
        let time = Timestamp(1_582_934_400_123);
        assert_eq!(time.iso(), "2020-02-29T00:00:00.123Z");
        assert_eq!(time.http(), "Sat, 29 Feb 2020 00:00:00 GMT");
        assert_eq!(
            Timestamp::from_signature("20200229T000000Z"),
            Some(Timestamp(1_582_934_400_000))
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "20200229", "20201329T000000Z", "20200229T240000Z", "2020022xT000000Z"] {
            assert_eq!(Timestamp::from_signature(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn all_forms_name_the_same_second(seconds in 0_u64..250_000_000_000) {
            let time = Timestamp(seconds * 1_000);
            prop_assert_eq!(Timestamp::from_http(&time.http()), Some(time));
            let compact = time.iso().replace(['-', ':'], "").replace(".000", "");
            prop_assert_eq!(Timestamp::from_signature(&compact), Some(time));
        }
    }
}
