//! How items look in a table, and the conditions on them.

use reqsign_core::hash::{base64_decode, base64_encode};
use serde_json::{Value as Json, json};

use crate::expiry::Lifetime;
use crate::store::{Item, Reply};

/// Returns the text of a key.
pub(super) fn text(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()
}

/// Returns what names an item.
pub(super) fn key(key: &[u8]) -> Option<Json> {
    Some(json!({ "id": { "S": text(key)? } }))
}

/// Returns an item without its key.
pub(super) fn item(bytes: &[u8], token: u64, lifetime: Lifetime, now: u64) -> Json {
    let item =
        json!({ "item": { "B": base64_encode(bytes) }, "token": { "N": token.to_string() } });
    match (expires(lifetime, now), item) {
        (Some(expires), Json::Object(mut item)) => {
            item.insert("expires".to_owned(), json!({ "N": expires }));
            Json::Object(item)
        }
        (_, item) => item,
    }
}

/// Returns the condition that there is no item, or only an expired one.
pub(super) fn absent(now: u64) -> Json {
    json!({
        "ConditionExpression": "attribute_not_exists(#i) OR #e <= :now",
        "ExpressionAttributeNames": { "#i": "id", "#e": "expires" },
        "ExpressionAttributeValues": { ":now": { "N": now.to_string() } },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    })
}

/// Returns the condition that the item is the one with a token.
pub(super) fn unchanged(token: u64, now: u64) -> Json {
    json!({
        "ConditionExpression": "#t = :token AND (attribute_not_exists(#e) OR #e > :now)",
        "ExpressionAttributeNames": { "#t": "token", "#e": "expires" },
        "ExpressionAttributeValues": {
            ":token": { "N": token.to_string() },
            ":now": { "N": now.to_string() },
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    })
}

/// Returns the update that has an item live for so long, and tells it.
pub(super) fn touch(lifetime: Lifetime, now: u64) -> Json {
    let condition = "attribute_exists(#i) AND (attribute_not_exists(#e) OR #e > :now)";
    let (update, values) = match expires(lifetime, now) {
        Some(expires) => (
            "SET #e = :expires",
            json!({ ":now": { "N": now.to_string() }, ":expires": { "N": expires } }),
        ),
        None => ("REMOVE #e", json!({ ":now": { "N": now.to_string() } })),
    };
    json!({
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": { "#i": "id", "#e": "expires" },
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
    })
}

/// Reads an item; one that is expired or not of ours is missing.
pub(super) fn found(item: Option<&Json>, now: u64) -> Reply {
    read(item, now).map_or(Reply::Missing, Reply::Found)
}

/// Reads the token of an item.
pub(super) fn token(item: Option<&Json>) -> Option<u64> {
    item?.get("token")?.get("N")?.as_str()?.parse().ok()
}

fn read(item: Option<&Json>, now: u64) -> Option<Item> {
    let bytes = base64_decode(item?.get("item")?.get("B")?.as_str()?).ok()?.into();
    let lifetime = match item?.get("expires") {
        None => Lifetime::Forever,
        Some(expires) => {
            let expires: u64 = expires.get("N")?.as_str()?.parse().ok()?;
            Lifetime::from_seconds(expires.saturating_sub(now))?
        }
    };
    Some(Item { bytes, token: token(item)?, lifetime })
}

fn expires(lifetime: Lifetime, now: u64) -> Option<String> {
    match lifetime {
        Lifetime::Forever => None,
        Lifetime::Seconds(seconds) => Some(now.saturating_add(u64::from(seconds)).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_as_it_was_written_until_it_expires() {
        for lifetime in [Lifetime::Forever, Lifetime::Seconds(60)] {
            let written = item(b"\xf1\x07bytes", 9, lifetime, 1000);
            let expected = Item { bytes: b"\xf1\x07bytes"[..].into(), token: 9, lifetime };
            assert_eq!(found(Some(&written), 1000), Reply::Found(expected));
        }
        let written = item(b"x", 9, Lifetime::Seconds(60), 1000);
        assert_eq!(found(Some(&written), 1060), Reply::Missing);
        assert_eq!(found(None, 1000), Reply::Missing);
        assert_eq!(found(Some(&json!({ "item": { "S": "x" } })), 1000), Reply::Missing);
    }
}
