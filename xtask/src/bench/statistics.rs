//! Numbers of several rounds, and tables of them.

use std::time::Duration;

/// Returns the value that so many per cent are not above.
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank within a list of measurements"
    )]
    let rank = ((percent / 100.0 * sorted.len() as f64).ceil() as usize).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Returns the value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let (low, high) = (percentile(values, 50.0), -percentile(&negated(values), 50.0));
    f64::midpoint(low, high)
}

#[expect(clippy::cast_precision_loss, reason = "the length of a list of measurements")]
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn negated(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| -value).collect()
}

/// Shows the median and the extremes: `41.2 (39.0–47.5)`.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let (least, most) = (percentile(values, 0.0), percentile(values, 100.0));
    match values {
        [] => "–".to_owned(),
        [only] => format!("{only:.digits$}"),
        _ => format!("{:.digits$} ({least:.digits$}–{most:.digits$})", median(values)),
    }
}

pub(crate) fn millis(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e3).collect()
}

/// Makes a table that is Markdown and can be read as it is.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|cell| cell.chars().count())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut text = line(&mut header.iter().map(|cell| (*cell).to_owned()));
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    text.extend(["|", &dashes.join("|"), "|\n"]);
    for row in rows {
        text.push_str(&line(&mut row.iter().cloned()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends_of_a_list_are_found() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&values).to_bits(), 2.5_f64.to_bits());
        assert_eq!(percentile(&values, 0.0).to_bits(), 1.0_f64.to_bits());
        assert_eq!(percentile(&values, 99.0).to_bits(), 4.0_f64.to_bits());
        assert_eq!(spread(&values, 1), "2.5 (1.0–4.0)");
        assert_eq!(spread(&[2.0], 2), "2.00");
        assert_eq!(spread(&[], 2), "–");
    }
}
