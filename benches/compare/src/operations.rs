//! The cost of single operations: CPU, throughput and latency, one server after the other in each run.
//!
//! It never compares figures of different runs: `report` takes medians of runs in which all servers had their turn.
//!
//! | placement | servers | load generators |
//! |---|---|---|
//! | one worker | the first CPU | one, on another CPU |
//! | two workers | the first two | two: on other CPUs if there are four, else on the same two |
//!
//! Invariant: within a run all servers get the same load in the same placement, and the first is another one each time.

use crate::Plan;
use crate::load::Load;
use crate::measure::measure_all;
use crate::report::{Goal, Report};
use crate::servers::{KINDS, Server};
use crate::wire::{COMPARED, Operation, Plain};

/// Connections of all generators together.
const CONNECTIONS: usize = 50;

struct Placement {
    name: &'static str,
    servers: String,
    loads: String,
    generators: usize,
    pipelines: &'static [usize],
}

/// Starts the servers, loads them and measures.
pub fn compare(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (first, others) = (&plan.cpus[0], &plan.cpus[1..]);
    let two = plan.cpus[..2].join(",");
    let placements = [
        Placement { name: "", servers: first.clone(), loads: others[0].clone(), generators: 1, pipelines: &[1, 16] },
        Placement {
            name: " 2 workers",
            servers: two.clone(),
            loads: if plan.cpus.len() >= 4 { plan.cpus[2..4].join(",") } else { two },
            generators: 2,
            pipelines: &[16],
        },
    ];
    for placement in &placements {
        let mut servers = Vec::new();
        for kind in KINDS {
            let server = Server::start(kind, &plan.binary, &placement.servers)?;
            let mut client = Plain::connect(server.port)?;
            client.load_strings(plan.keys)?;
            client.load_hashes(0..plan.keys)?;
            servers.push(server);
        }
        for run in 0..plan.runs {
            for operation in COMPARED {
                for pipeline in placement.pipelines {
                    for at in 0..servers.len() {
                        let server = &servers[(at + run) % servers.len()];
                        one(plan, placement, server, operation, *pipeline, report)?;
                    }
                }
            }
            eprintln!("operations{}: run {} of {}", placement.name, run + 1, plan.runs);
        }
    }
    Ok(())
}

fn one(
    plan: &Plan,
    placement: &Placement,
    server: &Server,
    operation: Operation,
    pipeline: usize,
    report: &mut Report,
) -> Result<(), String> {
    let load = Load {
        port: server.port,
        operation,
        connections: CONNECTIONS / placement.generators,
        pipeline,
        seconds: plan.seconds,
        rate: 0,
        keys: plan.keys,
        space: 0,
    };
    let found = measure_all(server, &vec![load; placement.generators], &placement.loads)?;
    let test = format!("{} P{pipeline}{}", operation.name(), placement.name);
    let one_worker = placement.generators == 1;
    let cpu_goal = match (one_worker, pipeline) {
        (true, 1) => Goal::AtMost(1.0),
        (true, _) => Goal::AtMost(0.85),
        (false, _) => Goal::None,
    };
    let kind = server.kind.name();
    report.add(&test, "CPU s/Mop", cpu_goal, kind, found.cpu);
    report.add(&test, "op/s", if one_worker { Goal::None } else { Goal::AtLeast(1.3) }, kind, found.per_second);
    report.add(&test, "p99 us", Goal::AtMost(1.1), kind, found.p99_us);
    Ok(())
}
