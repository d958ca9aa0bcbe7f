//! Counts of what the balancer does, kept per thread and summed up when they are read.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shared::Shared;

/// Upper bounds of the duration histogram, in milliseconds.
const BUCKETS_MILLIS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// The counts of one thread; only that thread writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct LaneMetrics {
    /// Finished requests by status class, `1xx` first; the last one has no status.
    pub(crate) requests: [AtomicU64; 6],
    durations: [AtomicU64; 11],
    duration_micros: AtomicU64,
    /// Bytes of response bodies.
    pub(crate) response_bytes: AtomicU64,
    /// Accepted visitor connections.
    pub(crate) connections: AtomicU64,
    /// Visitor connections that are open.
    pub(crate) connections_open: AtomicU64,
    /// Connections made to upstreams.
    pub(crate) upstream_connections: AtomicU64,
    /// Attempts after a first one that failed.
    pub(crate) retries: AtomicU64,
    /// Retries that the budget did not allow.
    pub(crate) retries_refused: AtomicU64,
    /// Requests answered 503 because no upstream had room in time.
    pub(crate) queue_refused: AtomicU64,
    /// Connections that this machine could not accept or make for want of files, ports or memory.
    pub(crate) local_shortages: AtomicU64,
    /// Requests answered 503 because a hold lasted too long.
    pub(crate) hold_refused: AtomicU64,
}

/// Adds one to a count that only this thread writes.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Adds to a count that only this thread writes, which needs no locked instruction.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl LaneMetrics {
    /// Counts a finished request; `None` when the visitor left before a response.
    pub(crate) fn count_request(&self, status: Option<http::StatusCode>, took: Duration) {
        let class = status.map_or(5, |status| usize::from(status.as_u16() / 100).clamp(1, 5) - 1);
        if let Some(counter) = self.requests.get(class) {
            count(counter);
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MILLIS.iter().position(|bound| millis <= *bound);
        if let Some(counter) = self.durations.get(bucket.unwrap_or(BUCKETS_MILLIS.len())) {
            count(counter);
        }
        add(&self.duration_micros, u64::try_from(took.as_micros()).unwrap_or(0));
    }
}

/// Writes all counts in the text format of Prometheus.
pub(crate) fn render(shared: &Shared) -> String {
    let mut text = String::with_capacity(8 * 1024);
    // Writing to a `String` cannot fail.
    let _ = render_into(shared, &mut text);
    text
}

fn render_into(shared: &Shared, text: &mut String) -> std::fmt::Result {
    let sum = |pick: &dyn Fn(&LaneMetrics) -> &AtomicU64| -> u64 {
        shared.metrics.iter().map(|lane| pick(lane).load(Ordering::Relaxed)).sum()
    };
    render_requests(shared, text)?;
    let counters: [(&str, u64); 8] = [
        ("response_bytes", sum(&|lane| &lane.response_bytes)),
        ("connections", sum(&|lane| &lane.connections)),
        ("upstream_connections", sum(&|lane| &lane.upstream_connections)),
        ("retries", sum(&|lane| &lane.retries)),
        ("retries_refused", sum(&|lane| &lane.retries_refused)),
        ("queue_refused", sum(&|lane| &lane.queue_refused)),
        ("local_shortages", sum(&|lane| &lane.local_shortages)),
        ("hold_refused", sum(&|lane| &lane.hold_refused)),
    ];
    for (name, value) in counters {
        writeln!(text, "# TYPE flotilla_balancer_{name}_total counter")?;
        writeln!(text, "flotilla_balancer_{name}_total {value}")?;
    }
    let name = "flotilla_balancer_access_log_dropped_lines_total";
    writeln!(text, "# TYPE {name} counter\n{name} {}", shared.access_log.dropped())?;
    let routes = shared.routes();
    let is_fail_static = u64::from(routes.is_fail_static.load(Ordering::Relaxed));
    let gauges: [(&str, u64); 5] = [
        ("connections_open", sum(&|lane| &lane.connections_open)),
        ("queued_requests", shared.queued.load(Ordering::Relaxed)),
        ("held_requests", shared.holding.load(Ordering::Relaxed)),
        ("table_version", routes.table.version),
        ("fail_static_state", is_fail_static),
    ];
    for (name, value) in gauges {
        writeln!(text, "# TYPE flotilla_balancer_{name} gauge")?;
        writeln!(text, "flotilla_balancer_{name} {value}")?;
    }
    render_upstreams(shared, text)?;
    render_releases(shared, text)
}

fn render_requests(shared: &Shared, text: &mut String) -> std::fmt::Result {
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];
    writeln!(text, "# TYPE flotilla_balancer_requests_total counter")?;
    for (index, class) in classes.iter().enumerate() {
        let value: u64 = shared
            .metrics
            .iter()
            .filter_map(|lane| lane.requests.get(index))
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum();
        writeln!(text, "flotilla_balancer_requests_total{{status=\"{class}\"}} {value}")?;
    }
    let name = "flotilla_balancer_request_duration_seconds";
    writeln!(text, "# TYPE {name} histogram")?;
    let mut running = 0;
    for index in 0..=BUCKETS_MILLIS.len() {
        running += shared
            .metrics
            .iter()
            .filter_map(|lane| lane.durations.get(index))
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum::<u64>();
        match BUCKETS_MILLIS.get(index) {
            Some(bound) => {
                let seconds = Duration::from_millis(*bound).as_secs_f64();
                writeln!(text, "{name}_bucket{{le=\"{seconds}\"}} {running}")?;
            }
            None => writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {running}")?,
        }
    }
    let micros: u64 =
        shared.metrics.iter().map(|lane| lane.duration_micros.load(Ordering::Relaxed)).sum();
    let seconds = Duration::from_micros(micros).as_secs_f64();
    writeln!(text, "{name}_sum {seconds}\n{name}_count {running}")
}

fn render_upstreams(shared: &Shared, text: &mut String) -> std::fmt::Result {
    let status = shared.status();
    writeln!(text, "# TYPE flotilla_balancer_upstream_in_flight_requests gauge")?;
    writeln!(text, "# TYPE flotilla_balancer_upstream_healthy_state gauge")?;
    for one in &status.upstreams {
        let labels = format!("instance=\"{}\",slot=\"{}\"", one.instance, one.slot);
        let healthy = u64::from(one.healthy);
        writeln!(
            text,
            "flotilla_balancer_upstream_in_flight_requests{{{labels}}} {}",
            one.in_flight
        )?;
        writeln!(text, "flotilla_balancer_upstream_healthy_state{{{labels}}} {healthy}")?;
    }
    writeln!(text, "# TYPE flotilla_balancer_upstream_busy_requests gauge")?;
    writeln!(text, "# TYPE flotilla_balancer_upstream_requests_total counter")?;
    writeln!(text, "# TYPE flotilla_balancer_upstream_failures_total counter")?;
    for one in &shared.routes().upstreams {
        let labels = format!("instance=\"{}\",slot=\"{}\"", one.instance, one.slot);
        let (requests, failures) = (
            one.requests_total.load(Ordering::Relaxed),
            one.failures_total.load(Ordering::Relaxed),
        );
        let busy = one.busy.load(Ordering::Relaxed);
        writeln!(text, "flotilla_balancer_upstream_busy_requests{{{labels}}} {busy}")?;
        writeln!(text, "flotilla_balancer_upstream_requests_total{{{labels}}} {requests}")?;
        writeln!(text, "flotilla_balancer_upstream_failures_total{{{labels}}} {failures}")?;
    }
    Ok(())
}

fn render_releases(shared: &Shared, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# TYPE flotilla_balancer_release_requests_total counter")?;
    writeln!(text, "# TYPE flotilla_balancer_release_errors_total counter")?;
    for one in shared.status().releases {
        let labels = format!("revision=\"{}\",since=\"{}\"", one.revision, one.since_version);
        let (requests, errors) = (one.requests, one.errors);
        writeln!(text, "flotilla_balancer_release_requests_total{{{labels}}} {requests}")?;
        writeln!(text, "flotilla_balancer_release_errors_total{{{labels}}} {errors}")?;
    }
    Ok(())
}
