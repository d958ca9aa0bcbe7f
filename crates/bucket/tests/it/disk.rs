//! A disk that is really full.

use std::os::unix::fs::MetadataExt;

use tokio::process::Command;

use crate::client::code;
use crate::process::{Process, program};

const DISK: &str = "size=24m";

/// A small disk of its own needs a mount namespace, and no right but that to make one.
#[tokio::test]
async fn a_full_disk_stores_nothing_by_halves_and_works_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o {DISK} none \"$1\" && exec \"$2\" \"$1/store\"");
    let mut command = Command::new("unshare");
    // Root has the right anyway, also where the kernel gives nobody a user namespace (a chroot).
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command.arg(directory.path()).arg(program());
    let process = Process::of(command).await;
    let client = process.client();
    let body = vec![7_u8; 3 * 1024 * 1024];
    let mut stored = 0;
    let refusal = loop {
        let response = client.put(&format!("fill-{stored}"), body.clone()).await;
        if response.status() != 200 {
            break response;
        }
        stored += 1;
        assert!(stored < 20, "the disk is never full");
    };
    assert_eq!(refusal.status(), 507);
    assert_eq!(code(refusal).await, "StorageFull");
    assert!(stored > 3, "only {stored} objects found room");
    assert_eq!(client.read(&format!("fill-{stored}")).await, None);
    for number in 0..stored {
        assert!(client.read(&format!("fill-{number}")).await.unwrap() == body);
    }
    client.delete("fill-0").await;
    client.delete("fill-1").await;
    assert_eq!(client.put("fits-again", body).await.status(), 200);
}
