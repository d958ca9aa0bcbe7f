//! What `stats` tells.

use crate::clock::now_seconds;
use crate::gateway::Gateway;
use crate::protocol::reply::{self, put_stat};

/// Appends the answer to `stats`, or to `stats` about something.
pub(crate) fn put(gateway: &Gateway, about: Option<&[u8]>, output: &mut Vec<u8>) {
    match about {
        None => put_general(gateway, output),
        Some(b"reset") => return output.extend_from_slice(reply::RESET),
        // There are no slabs or sizes here; a client gets an empty list.
        Some(_) => {}
    }
    output.extend_from_slice(reply::END);
}

fn put_general(gateway: &Gateway, output: &mut Vec<u8>) {
    put_stat(output, "pid", std::process::id());
    put_stat(output, "uptime", gateway.started_at.elapsed().as_secs());
    put_stat(output, "time", now_seconds());
    put_stat(
        output,
        "version",
        String::from_utf8_lossy(reply::VERSION).trim_start_matches("VERSION ").trim_end(),
    );
    put_stat(output, "pointer_size", usize::BITS);
    put_stat(output, "max_connections", gateway.connections_max);
    for (name, _, number) in gateway.counters.snapshot().list() {
        put_stat(output, name, number);
    }
    let topology = gateway.copies.topology();
    put_stat(output, "nodes", topology.nodes().count());
    put_stat(output, "nodes_up", topology.nodes().filter(|node| node.is_up()).count());
    for node in topology.nodes() {
        put_stat(
            output,
            &format!("node:{}", node.name()),
            if node.is_up() { "up" } else { "away" },
        );
    }
}
