//! What a value is wrapped in at a node: enough to tell which of two copies is newer.
//!
//! Sixteen bytes, then the client's value:
//!
//! | bytes | what |
//! |---|---|
//! | 0–1 | `F1 07`, which no PHP session begins with |
//! | 2 | the format, 1 |
//! | 3 | 1 for a tombstone: the item was deleted |
//! | 4–7 | the client's flags, big endian |
//! | 8–15 | the version, big endian |
//!
//! When the item expires is not in here: nodes keep that themselves and tell it, so that extending a
//! session's life, which every page view does, rewrites nothing.

use bytes::Bytes;

/// How many bytes come before the value.
pub(crate) const ENVELOPE_BYTES: usize = 16;

const MAGIC: [u8; 2] = [0xf1, 0x07];
const FORMAT: u8 = 1;
const LIVE: u8 = 0;
const TOMBSTONE: u8 = 1;

/// What an item says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// Which of two copies is newer.
    pub(crate) version: u64,
    /// What the client gave with the value.
    pub(crate) flags: u32,
    /// Whether the item was deleted; such an item has no value.
    pub(crate) is_tombstone: bool,
}

impl Envelope {
    /// Returns the bytes that come before the value.
    pub(crate) fn encode(self) -> [u8; ENVELOPE_BYTES] {
        let [first, second] = MAGIC;
        let kind = if self.is_tombstone { TOMBSTONE } else { LIVE };
        let [a, b, c, d] = self.flags.to_be_bytes();
        let [e, f, g, h, i, j, k, l] = self.version.to_be_bytes();
        [first, second, FORMAT, kind, a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Takes an item apart.
    ///
    /// What has no envelope was written by somebody who used the node directly; it counts as older
    /// than everything else, so that carts survive the introduction of the gateway.
    pub(crate) fn decode(item: &Bytes) -> (Self, Bytes) {
        let foreign = Self { version: 0, flags: 0, is_tombstone: false };
        match Self::read(item) {
            Some(envelope) => (envelope, item.slice(ENVELOPE_BYTES..)),
            None => (foreign, item.clone()),
        }
    }

    fn read(item: &[u8]) -> Option<Self> {
        let head: &[u8; ENVELOPE_BYTES] = item.first_chunk()?;
        let [first, second, format, kind, a, b, c, d, e, f, g, h, i, j, k, l] = *head;
        let is_ours = [first, second] == MAGIC && format == FORMAT && kind <= TOMBSTONE;
        is_ours.then_some(Self {
            version: u64::from_be_bytes([e, f, g, h, i, j, k, l]),
            flags: u32::from_be_bytes([a, b, c, d]),
            is_tombstone: kind == TOMBSTONE,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_wrapped_is_unwrapped_as_it_was(
            version: u64, flags: u32, is_tombstone: bool, value: Vec<u8>,
        ) {
            let envelope = Envelope { version, flags, is_tombstone };
            let item = Bytes::from([&envelope.encode()[..], &value].concat());
            prop_assert_eq!(Envelope::decode(&item), (envelope, Bytes::from(value)));
        }

        #[test]
        fn any_other_bytes_are_the_oldest_value(value: Vec<u8>) {
            prop_assume!(!value.starts_with(&MAGIC));
            let item = Bytes::from(value);
            let foreign = Envelope { version: 0, flags: 0, is_tombstone: false };
            prop_assert_eq!(Envelope::decode(&item), (foreign, item));
        }
    }
}
