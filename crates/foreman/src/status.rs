//! The state of the site in one answer.

use flotilla_core::api::{InstanceStatus, SiteState, Status};

use crate::clock;
use crate::engine::Snapshot;

/// Puts a snapshot into the words of `flotilla status`.
#[must_use]
pub fn of(snapshot: &Snapshot, site_url: &str, site: SiteState, subject: Option<String>) -> Status {
    let now = clock::now();
    let fleet = &snapshot.fleet;
    let instances = fleet.instances.iter().map(|(name, member)| {
        let seen = snapshot.reports.get(name);
        InstanceStatus {
            name: name.clone(),
            member: *member,
            report: seen.map(|seen| seen.report.clone()),
            silent_millis: seen
                .map(|seen| u64::try_from(now.since(seen.at).as_millis()).unwrap_or(u64::MAX)),
            is_in_service: fleet.table.upstreams.iter().any(|one| one.instance == *name),
        }
    });
    Status {
        url: site_url.to_owned(),
        site,
        release: fleet.serving_release().cloned(),
        subject,
        serving: fleet.serving,
        deploy: fleet.deploy.clone(),
        instances: instances.collect(),
        balancer: snapshot.balancer.clone(),
        table_version: fleet.table.version,
    }
}
