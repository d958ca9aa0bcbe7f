//! memcached's own test tool.

use std::process::Stdio;

use crate::fleet::Fleet;
use crate::process::{command, find};

#[test]
fn memccapable_passes_its_ascii_tests() {
    let fleet = Fleet::start(2, 0);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _gateway = fleet.add_gateway(&["--port", &port.to_string()]);
    let output = command(&find("memccapable"))
        .args(["-a", "-h", "127.0.0.1", "-p", &port.port().to_string()])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("All tests passed"), "{text}");
    assert!(!text.contains("FAIL"), "{text}");
}
