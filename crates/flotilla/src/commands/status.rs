//! `flotilla status`: the whole site on one page.

use std::time::Duration;

use flotilla_core::api::{InstanceStatus, SiteState, Status};
use flotilla_core::fleet::Member;
use flotilla_core::report::SlotReport;
use flotilla_core::slot::SlotName;

use crate::printer::{Printer, table};
use crate::site::Site;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// An agent that was not heard of for longer is called silent.
const SILENT_AFTER: Duration = Duration::from_secs(10);

pub(crate) async fn run(site: &Site, watch: bool, printer: &Printer) -> anyhow::Result<()> {
    let client = site.client()?;
    loop {
        let status = client.status().await;
        match status {
            Ok(status) if printer.is_json() => printer.json(&status)?,
            Ok(status) => printer.line(page(&status, watch)),
            Err(failure) if !watch => return Err(failure.into()),
            Err(failure) => printer.say(format!("error: {failure}")),
        }
        if !watch {
            return Ok(());
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

fn page(status: &Status, clears: bool) -> String {
    let mut lines = Vec::new();
    if clears {
        lines.push("\x1b[2J\x1b[H".to_owned());
    }
    lines.push(format!("Site      {}", status.url));
    match &status.site {
        SiteState::Making { what } => lines.push(format!("Making    {what}")),
        SiteState::Failed { message } => lines.push(format!("Failed    {message} (trying again)")),
        SiteState::Made => {}
    }
    lines.push(match &status.release {
        Some(release) => format!(
            "Release   {} {}, in {}",
            release.revision.short(),
            status.subject.as_deref().unwrap_or_default(),
            status.serving
        ),
        None => "Release   none yet".to_owned(),
    });
    if let Some(deploy) = &status.deploy {
        lines.push(format!(
            "Deploy    {} of {}: {}",
            deploy.request.id,
            deploy.request.release.revision.short(),
            deploy.phase.as_str()
        ));
    }
    lines.push(balancer(status));
    lines.push(String::new());
    let rows: Vec<Vec<String>> =
        status.instances.iter().map(|instance| row(instance, status)).collect();
    lines.push(table(&["INSTANCE", "STATE", "BLUE", "GREEN", "PHP BUSY"], &rows));
    lines.join("\n")
}

fn balancer(status: &Status) -> String {
    match &status.balancer {
        None => "Balancer  does not answer".to_owned(),
        Some(balancer) => {
            let in_flight: u64 = balancer.upstreams.iter().map(|one| one.in_flight).sum();
            let ill = balancer.upstreams.iter().filter(|one| !one.healthy).count();
            let mut facts = vec![format!("{in_flight} requests in flight")];
            if balancer.holding > 0 {
                facts.push(format!("{} held", balancer.holding));
            }
            if ill > 0 {
                facts.push(format!("{ill} upstreams unhealthy"));
            }
            if balancer.version != status.table_version {
                facts.push("table not taken yet".to_owned());
            }
            format!("Balancer  {}", facts.join(", "))
        }
    }
}

fn row(instance: &InstanceStatus, status: &Status) -> Vec<String> {
    let silence = instance.silent_millis.map(Duration::from_millis);
    let state = match (instance.member, silence) {
        (Member::Leaving { .. }, _) => "leaving".to_owned(),
        (Member::Active, None) => "starting".to_owned(),
        (Member::Active, Some(time)) if time > SILENT_AFTER => {
            format!("silent for {} s", time.as_secs())
        }
        (Member::Active, Some(_)) if instance.is_in_service => "serving".to_owned(),
        (Member::Active, Some(_)) => "preparing".to_owned(),
    };
    let slot = |name: SlotName| match &instance.report {
        Some(report) => slot_text(report.slots.get(name), status.deploy.is_some()),
        None => String::new(),
    };
    let php = instance.report.as_ref().and_then(|report| report.slots.get(status.serving).php);
    let php = php.map_or_else(String::new, |php| format!("{} of {}", php.busy, php.max));
    vec![instance.name.to_string(), state, slot(SlotName::Blue), slot(SlotName::Green), php]
}

fn slot_text(report: &SlotReport, is_deploying: bool) -> String {
    match (&report.revision, &report.error) {
        (_, Some(error)) => format!("{} failed", error.revision.short()),
        (Some(revision), None) if report.is_ready => revision.short().to_owned(),
        (Some(revision), None) => format!("{} …", revision.short()),
        (None, None) if is_deploying => "…".to_owned(),
        (None, None) => "-".to_owned(),
    }
}
