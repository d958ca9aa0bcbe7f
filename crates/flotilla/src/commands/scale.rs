//! `flotilla scale`: the number of instances.

use std::time::Duration;

use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::fleet::Member;
use tokio::time::Instant;

use crate::patience::{Patience, WAITING};
use crate::printer::Printer;
use crate::site::Site;

const SCALE_TIMEOUT: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(300);

pub(crate) async fn run(site: &Site, instances: u16, printer: &Printer) -> anyhow::Result<()> {
    site.check_size(instances).await?;
    let client = site.client()?;
    let started_at = Instant::now();
    client.resize(instances).await?;
    let mut progress = printer.progress();
    let wanted = usize::from(instances);
    let mut patience = Patience::default();
    loop {
        let Some(status) = patience.bear(client.status().await).await? else {
            progress.doing(WAITING);
            continue;
        };
        let is_active = |member: Member| member == Member::Active;
        let serving = status
            .instances
            .iter()
            .filter(|one| is_active(one.member) && one.is_in_service)
            .count();
        let leaving = status.instances.iter().filter(|one| !is_active(one.member)).count();
        if serving == wanted && leaving == 0 {
            break;
        }
        if started_at.elapsed() > SCALE_TIMEOUT {
            let message = format!(
                "{serving} of {wanted} instances serve after {} s; the fleet goes on trying",
                SCALE_TIMEOUT.as_secs()
            );
            return Err(Failure::new(ErrorKind::Partial, message)
                .with_hint("`flotilla status` and `flotilla logs` tell what is missing")
                .into());
        }
        progress.doing(format!("{serving} of {wanted} instances serve, {leaving} are leaving"));
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    progress.done();
    if printer.is_json() {
        return printer.json(&serde_json::json!({ "instances": instances }));
    }
    let took = crate::printer::duration(started_at.elapsed());
    printer.say(format!("{instances} instances serve, after {took}"));
    Ok(())
}
