//! Replies that clients do not take: bounded in sum, not copied while they are large, and nobody else's trouble.

use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{http, until};
use crate::{cluster, filler, hset};

const VALUE_BYTES: usize = 4 << 20;
const CLIENTS: usize = 8;
const EACH: usize = 12;

/// The most memory that the process ever had, in bytes.
fn most_memory(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[test]
fn large_replies_that_nobody_reads_are_bounded_for_all_together() {
    let a = cluster().set(&["state.output_total_bytes_max=16000000", "state.value_bytes_max=8000000"]).start("a", &[]);
    let mut other = a.client();
    let value = filler("large", VALUE_BYTES);
    assert_eq!(hset(&mut other, "s:large", "f", &value), Reply::Int(1));
    let before = most_memory(a.pid());
    let mut slow: Vec<Client> = (0..CLIENTS).map(|_| a.client()).collect();
    let request = encode(&["HGET", "s:large", "f"]);
    slow.iter_mut().for_each(|client| client.send(&request.repeat(EACH)).unwrap());
    let bound = "wayfarer_bounds_hit_total{bound=\"output_total_bytes_max\"}";
    let metrics = || http::get(a.admin, "/metrics").unwrap().text();
    until("too much to be unread", || metrics().contains(bound).then_some(()));
    // Who reads what it gets is served, however much the others leave unread.
    for n in 1..=50 {
        assert_eq!(other.say("HINCRBY s:other n 1"), Reply::Int(n));
        assert!(matches!(other.say("HGET s:large f"), Reply::Bulk(got) if got == value));
    }
    let unread = a.metric("wayfarer_state_output_bytes");
    assert!(unread <= (16_000_000 + (CLIENTS + 1) * (VALUE_BYTES + 100)) as f64, "{unread} bytes wait");
    let grown = most_memory(a.pid()) - before;
    assert!(grown < 4 * CLIENTS * VALUE_BYTES, "{grown} bytes for {} replies of {VALUE_BYTES}", CLIENTS * EACH);
    for client in &mut slow {
        for _ in 0..EACH {
            assert!(matches!(client.read().unwrap(), Reply::Bulk(got) if got == value), "whole, and as it was written");
        }
    }
    until("nothing to be unread", || (a.metric("wayfarer_state_output_bytes") == 0.0).then_some(()));
}
