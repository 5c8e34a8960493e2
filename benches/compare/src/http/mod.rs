//! The HTTP face beside other proxies: CPU of a request, latency at a steady rate, memory idle and after a load.
//!
//! It never compares figures of different runs. `peers` starts what is compared.
//!
//! | placement | |
//! |---|---|
//! | the first CPU | the proxy, with one worker |
//! | the second | its load and the service: nginx, which answers 1 KiB at once |
//!
//! | load | |
//! |---|---|
//! | closed | 32 connections that each have one request under way: CPU of a request, requests a second |
//! | open | 2,000 requests a second, whatever the proxy does: p50 and p99 from when each was due |
//!
//! Each request has the cookie of one of [`SESSIONS`] sessions, which this sidecar owns: it knows them, asks where they are, and
//! learns its routes.
//!
//! Invariant: within a run all proxies get the same load in the same placement, and the first is another one each time.

mod peers;

use crate::Plan;
use crate::clock::pause;
use crate::load::Load;
use crate::measure::measure_at;
use crate::report::{Goal, LESS, Report};
use crate::servers::Kind;
use crate::wire::{Operation, Plain};
use peers::{Proxy, Standing};
use std::time::Duration;

/// Sessions that requests are of.
const SESSIONS: u64 = 1_000;
const CONNECTIONS: usize = 32;
/// Requests a second of the open loop.
const RATE: u64 = 2_000;
/// Length of one measurement, in seconds per second of the plan.
const LONGER: f64 = 5.0;
/// MiB that the whole sidecar may have when nothing has happened yet.
const IDLE_MIB: f64 = 20.0;
/// How much larger it may be after its last load than after its first: what grows with each is never given back.
const GROWTH: f64 = 1.1;
/// After a load, until memory is looked at: what is given back is given back by then.
const REST: Duration = Duration::from_secs(2);

/// Starts the service and the proxies, loads them and measures.
pub fn compare(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (proxy_cpu, load_cpu) = (&plan.cpus[0], &plan.cpus[1]);
    let service = peers::service(load_cpu)?;
    let mut proxies = Vec::new();
    for proxy in peers::ALL {
        proxies.push(peers::start(plan, proxy, service.port, proxy_cpu)?);
    }
    for standing in &proxies {
        pause(Duration::from_millis(500));
        let idle = mib(standing)?;
        report.add_beside("idle", "RSS MiB", &[], standing.proxy.name(), idle);
        if standing.proxy == Proxy::Wayfarer {
            let goal = [(LESS, Goal::AtMost(1.0))];
            report.add_beside("idle, beside 20 MiB", "RSS MiB", &goal, LESS, IDLE_MIB);
            report.add_beside("idle, beside 20 MiB", "RSS MiB", &goal, Kind::Wayfarer.name(), idle);
        }
        if let Some(state) = standing.state_port {
            Plain::connect(state)?.load_hashes(0..SESSIONS)?;
        }
    }
    for run in 0..plan.runs {
        for rate in [0, RATE] {
            for at in 0..proxies.len() {
                one(plan, &proxies[(at + run) % proxies.len()], rate, load_cpu, report)?;
            }
        }
        if run == 0 || run + 1 == plan.runs {
            after(&proxies, if run == 0 { LESS } else { Kind::Wayfarer.name() }, report)?;
        }
        eprintln!("http: run {} of {}", run + 1, plan.runs);
    }
    Ok(())
}

/// What the sidecar has when a load has gone.
fn after(proxies: &[Standing], column: &'static str, report: &mut Report) -> Result<(), String> {
    pause(REST);
    for standing in proxies.iter().filter(|standing| standing.proxy == Proxy::Wayfarer) {
        report.add_beside("after the last, first load", "RSS MiB", &[(LESS, Goal::AtMost(GROWTH))], column, mib(standing)?);
    }
    Ok(())
}

fn mib(standing: &Standing) -> Result<f64, String> {
    Ok(standing.process.rss_bytes()? as f64 / f64::from(1 << 20))
}

fn one(plan: &Plan, standing: &Standing, rate: u64, cpu: &str, report: &mut Report) -> Result<(), String> {
    let load = Load {
        port: standing.port,
        operation: Operation::Page,
        connections: CONNECTIONS,
        pipeline: 1,
        seconds: plan.seconds * LONGER,
        rate,
        keys: SESSIONS,
        space: 0,
    };
    let name = standing.proxy.name();
    let found = measure_at(&standing.process, &[load], cpu).map_err(|error| format!("{name}: {error}"))?;
    let found = found.first().ok_or("a load without a figure")?;
    let cpu_goals = [("nginx", Goal::None), ("haproxy", Goal::None), ("envoy", Goal::AtMost(0.9)), ("bare", Goal::AtMost(1.2))];
    let goals = |goal| [("envoy", goal)];
    if rate == 0 {
        report.add_beside("closed loop", "CPU s/Mreq", &cpu_goals, name, found.cpu);
        report.add_beside("closed loop", "req/s", &goals(Goal::None), name, found.per_second);
    } else {
        let test = format!("{rate} req/s, open loop");
        report.add_beside(&test, "CPU s/Mreq", &cpu_goals, name, found.cpu);
        report.add_beside(&test, "p50 us", &goals(Goal::AtMost(1.0)), name, found.p50_us);
        report.add_beside(&test, "p99 us", &goals(Goal::AtMost(1.0)), name, found.p99_us);
    }
    Ok(())
}
