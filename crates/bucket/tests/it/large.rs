//! Objects that are larger than the memory they may take.

use std::fs;

use reqwest::Method;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::client::BUCKET;
use crate::process::Process;

const SIZE: u64 = 2 * 1024 * 1024 * 1024;
const MEMORY_KIB_MAX: u64 = 64 * 1024;

/// Returns the most memory that a process has had.
fn memory_peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn e2e_two_gib_go_in_and_out_in_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path()).await;
    let client = process.client();
    let source = tokio::io::repeat(7).take(SIZE);
    let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(source, 256 * 1024));
    let request = client.request(Method::PUT, &format!("/{BUCKET}/large"), "", &[]);
    let request = request.header("content-length", SIZE.to_string()).body(body);
    assert_eq!(request.send().await.unwrap().status(), 200);
    let mut response = client.get("large").await;
    let expected = vec![7; 1024 * 1024];
    let mut size = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        // Large pieces at once: one byte after the other takes longer than all the rest.
        assert!(chunk.chunks(expected.len()).all(|part| *part == expected[..part.len()]));
        size += u64::try_from(chunk.len()).unwrap();
    }
    assert_eq!(size, SIZE);
    let peak = memory_peak_kib(process.pid());
    assert!(peak < MEMORY_KIB_MAX, "the store took {peak} KiB");
    println!("the store took {peak} KiB for an object of 2 GiB");
}
