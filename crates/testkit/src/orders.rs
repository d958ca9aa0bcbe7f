//! The shop's orders as a fleet tells them, against what its visitors were told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::Value;

use crate::exchange::Exchange;
use crate::fleet::Fleet;
use crate::program::text_of;

const PER_PAGE: usize = 1_000;
const PAGES_MAX: usize = 100;

/// The numbers of all orders, by reference.
pub type Listing = BTreeMap<String, Vec<u64>>;

/// Makes sure that every acknowledged order is listed exactly once, under the number that the
/// visitor was told, by every instance in service and through the balancer; and that none is
/// listed twice, acknowledged or not. Returns how many were acknowledged.
///
/// # Errors
/// One is lost or doubled.
pub async fn check(fleet: &Fleet, exchanges: &[Exchange]) -> anyhow::Result<usize> {
    let mut places = fleet.slots_in_service().await?;
    ensure!(!places.is_empty(), "no instance is in service");
    places.insert("balancer".to_owned(), fleet.address()?);
    for (name, address) in places {
        let listing = list(fleet, address).await.with_context(|| format!("asking `{name}`"))?;
        compare(&listing, exchanges).with_context(|| format!("as `{name}` lists orders"))?;
    }
    Ok(acknowledged(exchanges).count())
}

/// Lists all orders as one place tells them.
///
/// # Errors
/// It does not answer.
pub async fn list(fleet: &Fleet, place: SocketAddr) -> anyhow::Result<Listing> {
    let mut listing = Listing::new();
    for page in 1..=PAGES_MAX {
        let path = format!("/wp-json/flotilla-shop/v1/orders?page={page}&per_page={PER_PAGE}");
        let response = fleet.visit(place, Method::GET, &path)?.send().await?;
        let answer: Value = response.error_for_status()?.json().await?;
        let orders = answer.get("orders").and_then(Value::as_array).context("no orders")?;
        for order in orders {
            let reference = text_of(order, "reference").context("no reference")?;
            let id = order.get("id").and_then(Value::as_u64).context("no number")?;
            listing.entry(reference).or_default().push(id);
        }
        if orders.len() < PER_PAGE {
            break;
        }
    }
    Ok(listing)
}

fn acknowledged(exchanges: &[Exchange]) -> impl Iterator<Item = (&str, u64)> {
    exchanges.iter().filter_map(|one| Some((one.reference.as_deref()?, one.order?)))
}

fn compare(listing: &Listing, exchanges: &[Exchange]) -> anyhow::Result<()> {
    let doubled: Vec<_> = listing.iter().filter(|(_, ids)| ids.len() > 1).collect();
    ensure!(doubled.is_empty(), "{} orders are doubled: {doubled:?}", doubled.len());
    let is_listed = |(reference, id): &(&str, u64)| listing.get(*reference) == Some(&vec![*id]);
    let lost: Vec<_> = acknowledged(exchanges).filter(|order| !is_listed(order)).collect();
    ensure!(lost.is_empty(), "{} acknowledged orders are lost: {lost:?}", lost.len());
    Ok(())
}
