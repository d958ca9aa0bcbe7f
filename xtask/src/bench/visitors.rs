//! Load: a fixed number of requests over a few connections.
//!
//! A fixed number, not a fixed time as wrk has it: no request is cut off at the end, so the CPU time
//! of a round belongs to exactly these requests, whoever answers them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::clock::Moment;
use super::http::{Answer, Visitor};

/// Who is asked, and for what.
pub(crate) struct Site<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) host: &'a str,
    pub(crate) paths: &'a [&'a str],
}

/// What came back.
pub(crate) struct Load {
    pub(crate) took: Duration,
    pub(crate) times: Vec<Duration>,
    pub(crate) bytes: usize,
}

/// Asks for the paths in turn; fails when an answer is an error.
pub(crate) fn load(site: &Site<'_>, connections: usize, requests: usize) -> anyhow::Result<Load> {
    let next = AtomicUsize::new(0);
    let started_at = Moment::now();
    let outcomes: Vec<anyhow::Result<Vec<(Duration, usize)>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..connections).map(|_| scope.spawn(|| visit(site, &next, requests))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a visitor panicked")))
            .collect()
    });
    let took = started_at.elapsed();
    let all = outcomes.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let bytes = all.iter().map(|(_, bytes)| bytes).sum();
    Ok(Load { took, times: all.into_iter().map(|(time, _)| time).collect(), bytes })
}

fn visit(
    site: &Site<'_>,
    next: &AtomicUsize,
    requests: usize,
) -> anyhow::Result<Vec<(Duration, usize)>> {
    let mut visitor = Visitor::new(site.address, site.host);
    let mut answers = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return Ok(answers);
        }
        let answer = ask(&mut visitor, site, number)?;
        answers.push((answer.took(), answer.body.len()));
    }
}

/// Asks for the path whose turn it is.
pub(crate) fn ask(visitor: &mut Visitor, site: &Site<'_>, number: usize) -> anyhow::Result<Answer> {
    let path = site.paths.get(number % site.paths.len().max(1)).copied().unwrap_or("/");
    let answer = visitor
        .get(path)
        .with_context(|| format!("`{path}` of {} is not answered", site.address))?;
    if answer.status != 200 {
        bail!("`{path}` of {} is answered {}", site.address, answer.status);
    }
    Ok(answer)
}
