//! Puts the logs of all parts aside when they have grown too large.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::slot::SlotName;
use flotilla_host::rotate::Rotation;
use tokio_util::sync::CancellationToken;

use crate::local::layout::Layout;

const INTERVAL: Duration = Duration::from_secs(30);

pub(super) async fn rotate_logs(layout: Layout, rotation: Rotation, stopping: CancellationToken) {
    loop {
        let directories = directories(&layout);
        let rotated = tokio::task::spawn_blocking(move || {
            for directory in directories {
                if let Err(error) = rotation.apply(&directory) {
                    let directory = directory.display();
                    tracing::warn!(%error, %directory, "Logs cannot be put aside");
                }
            }
        });
        // It only panics when flotilla has a fault, and logs are not worth a fleet.
        drop(rotated.await);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

fn directories(layout: &Layout) -> Vec<PathBuf> {
    let mut all = vec![
        layout.logs(),
        layout.foreman().join("workshop/log"),
        layout.foreman_media().join("log"),
    ];
    for instance in layout.instances_made() {
        let slots = SlotName::ALL.map(|slot| layout.instance(&instance).join(slot.as_str()));
        all.extend(slots.map(|slot| slot.join("log")));
        all.push(layout.instance(&instance).join("sessions/log"));
        all.push(layout.instance_media(&instance).join("log"));
    }
    all
}
