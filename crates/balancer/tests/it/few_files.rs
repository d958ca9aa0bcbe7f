//! What happens when this machine has no files left for another connection.

use std::fs::File;
use std::time::Duration;

use flotilla_core::slot::SlotName;

use crate::client::RawClient;
use crate::site::Site;

const FILES_MAX: u32 = 128;
const IS_LOWERED: &str = "FLOTILLA_TEST_FILES_ARE_FEW";

#[tokio::test]
async fn a_shortage_of_files_is_nobody_elses_fault_and_passes() {
    if std::env::var_os(IS_LOWERED).is_none() {
        // The limit is the whole process', so it is lowered in one of its own.
        let name = "few_files::a_shortage_of_files_is_nobody_elses_fault_and_passes";
        #[expect(clippy::disallowed_methods, reason = "the test waits for itself")]
        let mut again = tokio::process::Command::from(std::process::Command::new("sh"));
        again.args(["-c", &format!("ulimit -n {FILES_MAX} && exec \"$0\" \"$@\"")]);
        again.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        let output = again.env(IS_LOWERED, "1").output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    }
    let site = Site::with(1, |options| {
        options.threads = Some(1);
        options.limits.idle_connections_per_upstream = 0;
        options.health.eject_after = 1;
        options.health.interval = Duration::from_secs(3600);
    })
    .await;
    let address = site.balancer.addresses()[0];
    let mut early = RawClient::connect(address).await;
    let post = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    early.send(post).await;
    assert!(early.head().await.starts_with("http/1.1 200"));
    early.read_to("}").await;
    site.wait_for(|status| status.in_flight(SlotName::Blue) == 0).await;

    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    early.send(post).await;
    assert!(early.head().await.starts_with("http/1.1 503"));

    taken.pop();
    let mut late = RawClient::connect(address).await;
    late.send(post).await;
    drop(taken);
    assert!(late.head().await.starts_with("http/1.1 200"), "accepted when there was room again");
    let status = site.status().await;
    assert!(status.upstreams[0].healthy, "it was not the upstream's fault");
    assert_eq!(status.releases[0].errors, 0, "nor the release's");
}
