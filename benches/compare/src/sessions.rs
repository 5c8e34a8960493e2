//! What sessions cost: memory, births and misses at a steady rate, and whether a million of them is as fast as a tenth of that.
//!
//! It never reuses a server: each measurement of memory starts with an empty one.
//!
//! Invariant: births are of ids that never were, misses of ids that never will be.

use crate::Plan;
use crate::clock::pause;
use crate::load::Load;
use crate::measure::{Outcome, measure, measure_all};
use crate::report::{Goal, LESS, Report};
use crate::servers::{KINDS, Kind, Server};
use crate::wire::{Operation, Plain, encode};
use std::time::Duration;

/// Bytes of RSS that a session of 10 × 100 B may take at most.
const SESSION_BYTES: f64 = 1371.0;
/// Fields and bytes of sessions whose memory beside their values is measured: two that are one allocation, three that are not.
const SHAPES: [(usize, usize); 5] = [(2, 100), (30, 100), (40, 100), (80, 100), (10, 1000)];
/// Births, and misses, a second.
const RATE: u64 = 5_000;
/// Sessions that expire while a server is measured.
const EXPIRING: u64 = 5_000;

/// RSS of sessions of 10 × 100 B.
pub fn memory(plan: &Plan, report: &mut Report) -> Result<(), String> {
    for kind in KINDS {
        let server = Server::start(kind, &plan.binary, &plan.cpus[0])?;
        let before = server.process().rss_bytes()?;
        Plain::connect(server.port)?.load_hashes(0..plan.sessions)?;
        pause(Duration::from_secs(2));
        let bytes = (server.process().rss_bytes()?.saturating_sub(before)) as f64 / plan.sessions as f64;
        report.add("session of 10 x 100 B", "RSS bytes", Goal::None, kind.name(), bytes);
        if kind == Kind::Wayfarer {
            report.add("session, beside 1371 B", "RSS bytes", Goal::AtMost(1.0), kind.name(), bytes);
            report.add("session, beside 1371 B", "RSS bytes", Goal::AtMost(1.0), LESS, SESSION_BYTES);
        }
        eprintln!("memory: {}", kind.name());
    }
    beside_values(plan, report)
}

/// What sessions of several shapes need beside their values: the estimate of `wayfarer init` rests on these figures.
fn beside_values(plan: &Plan, report: &mut Report) -> Result<(), String> {
    for (fields, bytes) in SHAPES {
        let server = Server::start(Kind::Wayfarer, &plan.binary, &plan.cpus[0])?;
        let (before, sessions) = (server.process().rss_bytes()?, plan.sessions / 5);
        Plain::connect(server.port)?.load_hashes_of(0..sessions, fields, bytes)?;
        pause(Duration::from_secs(2));
        let each = (server.process().rss_bytes()?.saturating_sub(before)) as f64 / sessions as f64 - (fields * bytes) as f64;
        report.add(&format!("beside {fields} x {bytes} B"), "RSS bytes", Goal::None, Kind::Wayfarer.name(), each);
        eprintln!("memory: {fields} x {bytes} B");
    }
    Ok(())
}

/// Births and misses beside each other, at a rate that does not depend on the server.
pub fn births_and_misses(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let servers: Result<Vec<Server>, String> =
        KINDS.iter().map(|kind| Server::start(*kind, &plan.binary, &plan.cpus[0])).collect();
    let servers = servers?;
    for run in 0..plan.runs {
        for at in 0..servers.len() {
            let server = &servers[(at + run) % servers.len()];
            let kind = server.kind.name();
            let load = |operation| Load {
                port: server.port,
                operation,
                connections: 50,
                pipeline: 1,
                seconds: plan.seconds * 4.0,
                rate: RATE,
                keys: 0,
                space: run as u64,
            };
            let found = measure(server, &[load(Operation::Birth), load(Operation::Miss)], &plan.cpus[1])?;
            for (name, outcome) in ["births 5000/s", "misses 5000/s"].into_iter().zip(&found) {
                report.add(name, "op/s", Goal::None, kind, outcome.per_second);
                report.add(name, "p50 us", Goal::None, kind, outcome.p50_us);
                report.add(name, "p99 us", Goal::None, kind, outcome.p99_us);
            }
            let cpu = found.first().map_or(0.0, |outcome| outcome.cpu);
            report.add("births and misses", "CPU s/Mop", Goal::None, kind, cpu);
        }
        eprintln!("births and misses: run {} of {}", run + 1, plan.runs);
    }
    Ok(())
}

/// Look-ups while sessions expire, at a tenth of the size and at the whole.
pub fn million(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let server = Server::start(Kind::Wayfarer, &plan.binary, &plan.cpus[0])?;
    let mut client = Plain::connect(server.port)?;
    let part = plan.many / 10;
    let goal = Goal::AtMost(1.25);
    let mut from = 0;
    for (size, name) in [(part, LESS), (plan.many, Kind::Wayfarer.name())] {
        client.load_hashes_of_one(from..size)?;
        from = size;
        for run in 0..plan.runs {
            let found = look_up_while_some_expire(plan, &server, &mut client, size, run)?;
            let (cpu, p99) = (found.cpu, found.p99_us);
            report.add(&format!("{} of {}: HGET", plan.many, part), "CPU s/Mop", goal, name, cpu);
            report.add(&format!("{} of {}: HGET", plan.many, part), "p99 us", goal, name, p99);
        }
        let idle = server.process().cpu_s()?;
        pause(Duration::from_secs(5));
        report.add(
            &format!("{} of {}: idle", plan.many, part),
            "CPU ms/s",
            Goal::None,
            name,
            (server.process().cpu_s()? - idle) * 200.0,
        );
        eprintln!("{size} sessions: measured");
    }
    Ok(())
}

/// Some sessions are made that expire soon; look-ups run until they are gone.
fn look_up_while_some_expire(plan: &Plan, server: &Server, client: &mut Plain, keys: u64, run: usize) -> Result<Outcome, String> {
    let digits = crate::wire::DIGITS;
    let key = format!("sess:e{keys}-{run}-{:0digits$}", 0);
    let request = encode(&["SET", &key, "x", "PX", "2500"]);
    let place = request.windows(key.len()).position(|w| w == key.as_bytes()).unwrap_or(0) + key.len() - digits;
    client.load(0..EXPIRING, &request, place, "+OK\r\n")?;
    let load = Load {
        port: server.port,
        operation: Operation::Hget,
        connections: 50,
        pipeline: 1,
        seconds: (plan.seconds * 2.0).max(3.0),
        rate: 0,
        keys,
        space: 0,
    };
    let found = measure_all(server, &[load], &plan.cpus[1])?;
    let gone = client.ask(&encode(&["EXISTS", &key]))?;
    if gone != b":0\r\n" { Err("a session outlived its expiry".to_owned()) } else { Ok(found) }
}
