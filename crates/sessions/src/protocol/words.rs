//! The words of a command line.

/// The longest key, in bytes (memcached's limit).
pub(crate) const KEY_BYTES_MAX: usize = 250;

/// Splits a line at its spaces.
#[derive(Debug, Clone)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// Begins at the start of a line.
    pub(crate) const fn of(line: &'a [u8]) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|byte| *byte != b' ')?;
        let rest = self.rest.get(start..)?;
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end)?;
        self.rest = rest;
        Some(word)
    }
}

/// Reads a decimal number without a sign; `None` when it is none or too large.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit.wrapping_sub(b'0')))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

/// Reads a decimal number that may be negative.
pub(crate) fn signed_number(digits: &[u8]) -> Option<i64> {
    match digits {
        [b'-', digits @ ..] => i64::try_from(number(digits)?).ok()?.checked_neg(),
        digits => i64::try_from(number(digits)?).ok(),
    }
}

/// Returns whether this can be the key of an item. Control characters would end the line or the
/// word on the way to a node.
pub(crate) fn is_key(word: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&word.len())
        && word.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}
