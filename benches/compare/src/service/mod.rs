//! What the buyer asks: one service, with its sessions in plain Redis and with a sidecar beside each instance; what its users wait
//! and what the machine pays.
//!
//! It never looks inside a sidecar or the service. `make bench-service` runs this alone; `docs/performance.md` has the method.
//!
//! ```text
//!  visitors ─┬─ plain: HTTP ──────────────────────► shop 1..3 ─[relay]─► redis-server
//!            └─ wayfarer: HTTP ► sidecar 1..3 ──────► shop 1..3 ─► its sidecar ─[relay]─► redis-server (sessions at rest)
//!                                     └──[relay]── the other sidecars
//! ```
//! | dimension | |
//! |---|---|
//! | balancer | round robin: each request at the next instance; sticky: each session at one instance, as a cookie would have it |
//! | `[http] forward` | `never`: a request runs where it comes; `owner`: sidecars send it to the one that has its session |
//! | added | 0: no relay; 0.5 ms: each [relay] holds every byte for 0.25 ms on its way, so that a round trip takes so much longer |
//!
//! Invariant: within a run both fleets get the same requests at the same due times, and the first is another one each time.

mod fleet;
mod relay;
mod visitors;

use crate::Plan;
use crate::report::{Goal, Report};
use crate::servers::Kind;
use fleet::Fleet;
use std::time::Duration;
use visitors::{Balancer, Visit};

/// Requests a second, of all visitors.
const RATE: u64 = 400;
/// Their sessions.
const SESSIONS: usize = 300;
/// What the relays add to one way.
const ONE_WAY: Duration = Duration::from_micros(250);
/// Length of one measurement, in seconds per second of the plan.
const LONGER: f64 = 8.0;

/// Starts each pair of fleets, lets them be visited, and measures.
pub fn compare(plan: &Plan, report: &mut Report) -> Result<(), String> {
    for (added, one_way) in [("", None), (", +0.5 ms", Some(ONE_WAY))] {
        let ways = [(Balancer::RoundRobin, "never"), (Balancer::RoundRobin, "owner"), (Balancer::Sticky, "never")];
        // Forwarded requests have a listener of their own, before which no relay stands.
        for (balancer, forward) in ways.into_iter().filter(|(_, forward)| one_way.is_none() || *forward == "never") {
            let forwarded = if forward == "owner" { ", forward" } else { "" };
            let test = format!("{}{forwarded}{added}", balancer.name());
            let mut fleets = Vec::new();
            for kind in [Kind::Redis, Kind::Wayfarer] {
                let fleet = Fleet::start(kind, &plan.binary, forward, one_way)?;
                visitors::log_in(&fleet.doors(), SESSIONS, balancer)?;
                fleets.push(fleet);
            }
            for run in 0..plan.runs {
                for at in 0..fleets.len() {
                    one(plan, &fleets[(at + run) % 2], balancer, run, &test, report)?;
                }
                eprintln!("service, {test}: run {} of {}", run + 1, plan.runs);
            }
        }
    }
    Ok(())
}

fn one(plan: &Plan, fleet: &Fleet, balancer: Balancer, run: usize, test: &str, report: &mut Report) -> Result<(), String> {
    let visit = Visit { rate: RATE, sessions: SESSIONS, balancer, seconds: plan.seconds * LONGER, turn: run as u64 };
    // Whatever the last measurement left to do is not this one's.
    crate::clock::pause(Duration::from_millis(500));
    let before = fleet.cpu_s()?;
    let found = visitors::run(&fleet.doors(), &visit)?;
    let cpu = (fleet.cpu_s()? - before) * 1e6 / found.requests.max(1) as f64;
    let kind = fleet.kind.name();
    report.add(test, "p50 us", Goal::None, kind, found.p50_us);
    report.add(test, "p99 us", Goal::None, kind, found.p99_us);
    report.add(test, "CPU s/Mreq", Goal::None, kind, cpu);
    Ok(())
}
