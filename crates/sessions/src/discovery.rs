//! The nodes of an ElastiCache cluster, as its configuration endpoint tells them.
//!
//! AWS keeps one address per cluster that answers `config get cluster` with a number, which rises
//! with each change, and all nodes.

use std::io;
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How often the endpoint is asked, and how often while it has not answered yet.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer: a cluster has 60 nodes at most.
const ANSWER_BYTES_MAX: u64 = 32 << 10;

/// What an endpoint tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cluster {
    version: u64,
    nodes: Vec<String>,
}

/// Follows the nodes of a cluster; `endpoint` is `host:port`.
///
/// Waits for the first answer, within bounds: when there is none, the list is empty until there is.
pub(crate) async fn follow_cluster(
    endpoint: String,
    tasks: &Tasks,
) -> watch::Receiver<Vec<String>> {
    let first = ask(&endpoint).await;
    let mut known = first.as_ref().ok().cloned();
    if let Err(error) = first {
        tracing::warn!(%endpoint, %error, "Cannot ask for the session nodes; trying again");
    }
    let (list, receiver) =
        watch::channel(known.clone().map(|cluster| cluster.nodes).unwrap_or_default());
    let stop = tasks.stopping();
    let follow = async move {
        let mut is_told = known.is_none();
        loop {
            sleep(if known.is_some() { ASK_INTERVAL } else { FIRST_INTERVAL }).await;
            match ask(&endpoint).await {
                Ok(cluster) => {
                    is_told = false;
                    // An endpoint that lags behind may tell an older list.
                    if known.as_ref().is_none_or(|known| cluster.version > known.version) {
                        list.send_replace(cluster.nodes.clone());
                        known = Some(cluster);
                    }
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(%endpoint, %error,
                        "Cannot ask for the session nodes; going on with those that are known");
                }
                Err(_) => {}
            }
        }
    };
    tasks.spawn("follow_cluster", async move {
        stop.run_until_cancelled(follow).await;
    });
    receiver
}

async fn ask(endpoint: &str) -> io::Result<Cluster> {
    let ask = async {
        let mut stream = BufReader::new(TcpStream::connect(endpoint).await?);
        stream.get_mut().write_all(b"config get cluster\r\n").await?;
        let mut answer = String::new();
        let mut lines = stream.take(ANSWER_BYTES_MAX);
        while lines.read_line(&mut answer).await? > 0 {
            if answer.ends_with("END\r\n") {
                break;
            }
            if answer.ends_with("ERROR\r\n") {
                let text = "it is no configuration endpoint of a cluster";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        parse(&answer).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the answer is no list of nodes")
        })
    };
    timeout(ANSWER_TIMEOUT, ask).await?
}

/// Reads `CONFIG cluster 0 <length>`, the version, and `name|address|port` of each node.
fn parse(answer: &str) -> Option<Cluster> {
    let mut lines = answer.lines();
    lines.next().filter(|line| line.starts_with("CONFIG cluster "))?;
    let version = lines.next()?.trim().parse().ok()?;
    let node = |words: &str| {
        let mut parts = words.split('|');
        let (name, address, port) = (parts.next()?, parts.next()?, parts.next()?);
        let port: u16 = port.parse().ok()?;
        let host = if name.is_empty() { address } else { name };
        (!host.is_empty()).then(|| format!("{host}:{port}"))
    };
    let nodes: Vec<String> = lines.next()?.split_whitespace().map(node).collect::<Option<_>>()?;
    (!nodes.is_empty()).then_some(Cluster { version, nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_by_name_or_by_address_when_they_have_none() {
        let answer = "CONFIG cluster 0 136\r\n12\ncache.0001.use1.cache.amazonaws.com|10.82.235.120|\
            11211 |10.80.249.27|11212\n\r\nEND\r\n";
        let nodes = vec![
            "cache.0001.use1.cache.amazonaws.com:11211".to_owned(),
            "10.80.249.27:11212".to_owned(),
        ];
        assert_eq!(parse(answer), Some(Cluster { version: 12, nodes }));
    }

    #[test]
    fn what_is_no_list_of_nodes_is_refused() {
        for answer in [
            "",
            "ERROR\r\n",
            "CONFIG cluster 0 9\r\nx\na|b|1\n",
            "CONFIG cluster 0 9\r\n1\n\n",
            "CONFIG cluster 0 9\r\n1\na|b|x\n",
            "CONFIG cluster 0 9\r\n1\n||1\n",
        ] {
            assert_eq!(parse(answer), None, "{answer:?}");
        }
    }
}
