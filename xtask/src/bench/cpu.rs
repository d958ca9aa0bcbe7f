//! CPU time of process trees, from /proc.
//!
//! Wall time on a shared machine tells who else was there; CPU time tells what the work cost.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The kernel counts in hundredths of a second, on every architecture.
const TICK_SECONDS: f64 = 0.01;

/// What a tree is called, and its first process.
pub(crate) type Root = (String, i32);

/// CPU seconds of each named part.
pub(crate) type Usage = BTreeMap<String, f64>;

struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    name: String,
    /// Its own and that of children that have ended and were waited for.
    ticks: u64,
}

/// Returns the CPU seconds that trees have used since they began, by part. nginx and PHP are parts
/// of their own, whatever their tree is called.
pub(crate) fn usage(roots: &[Root]) -> Usage {
    let mut usage = Usage::new();
    for (part, process) in members(roots) {
        #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds of one measurement")]
        let seconds = process.ticks as f64 * TICK_SECONDS;
        *usage.entry(part).or_default() += seconds;
    }
    usage
}

/// Returns what was used between two readings.
pub(crate) fn difference(before: &Usage, after: &Usage) -> Usage {
    let used =
        |part: &String, seconds: f64| seconds - before.get(part).copied().unwrap_or_default();
    after.iter().map(|(part, seconds)| (part.clone(), used(part, *seconds))).collect()
}

/// Returns the nanoseconds that the living threads of trees have run.
///
/// Finer than [`usage`], for what is over in milliseconds; threads that have ended are missing.
pub(crate) fn precise_nanos(pids: &[i32]) -> u64 {
    pids.iter().map(|pid| threads_nanos(*pid)).sum()
}

/// Returns the CPU seconds of the programs that this process has run and waited for.
pub(crate) fn reaped_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, tail)| tail);
    let ticks =
        fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() * TICK_SECONDS
}

/// Returns whether a process lives and leads a session.
pub(crate) fn leads_session(pid: i32) -> bool {
    read(pid).is_some_and(|process| process.session == pid)
}

/// Lists the processes of trees.
pub(crate) fn pids(roots: &[Root]) -> Vec<i32> {
    members(roots).into_iter().map(|(_, process)| process.pid).collect()
}

fn members(roots: &[Root]) -> Vec<(String, Process)> {
    let all = processes();
    let parents: HashMap<i32, i32> =
        all.iter().map(|process| (process.pid, process.parent)).collect();
    let roots: HashMap<i32, &str> = roots.iter().map(|(name, pid)| (*pid, name.as_str())).collect();
    let root_of = |pid: i32| {
        let chain = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        chain.take(parents.len()).find_map(|pid| roots.get(&pid).copied())
    };
    all.into_iter()
        .filter_map(|process| {
            let part = root_of(process.pid)?;
            let part = match process.name.as_str() {
                "nginx" => "nginx",
                name if name.starts_with("php-fpm") => "php",
                _ => part,
            };
            Some((part.to_owned(), process))
        })
        .collect()
}

fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &stat)
}

/// Reads a line of /proc/PID/stat; the name may hold spaces and brackets.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    // The third field of the line, the state, is the first here.
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let parent = i32::try_from(number(1)?).ok()?;
    let session = i32::try_from(number(3)?).ok()?;
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Process { pid, parent, session, name, ticks })
}

fn threads_nanos(pid: i32) -> u64 {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    entries.flatten().filter_map(|entry| thread_nanos(&entry.path())).sum()
}

fn thread_nanos(directory: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(directory.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let stat = "7 (php-fpm: (pool) a) S 3 7 8 0 -1 1 9 9 9 9 11 12 13 14 20 0 1 0 5 1 1\n";
        let process = parse(7, stat).unwrap();
        assert_eq!((process.parent, process.session, process.ticks), (3, 8, 50));
        assert_eq!(process.name, "php-fpm: (pool) a");
    }

    #[test]
    fn the_time_of_this_process_is_found_by_both_readings() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let roots = [("this".to_owned(), pid)];
        let before = precise_nanos(&[pid]);
        let mut sum = 0_u64;
        while precise_nanos(&[pid]) < before + 30_000_000 {
            sum = sum.wrapping_mul(3).wrapping_add(1);
        }
        assert!(usage(&roots).get("this").is_some_and(|seconds| *seconds > 0.0), "{sum}");
        assert!(pids(&roots).contains(&pid));
    }
}
