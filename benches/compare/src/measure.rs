//! One measurement: a load in a process of its own beside one server, and what both of them used.
//!
//! It never starts a server. Invariant: the CPU seconds are those of the server between the start and the end of the load alone.

use crate::load::Load;
use crate::servers::{Process, Server};
use std::process::{Child, Command, Stdio};

/// What one load found, or the sum of several that ran together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub operations: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU seconds of the server per million operations.
    pub cpu: f64,
}

/// Runs loads at the same time on these CPUs, and sums them up: latencies are the worst of them.
pub fn measure(server: &Server, loads: &[Load], cpus: &str) -> Result<Vec<Outcome>, String> {
    measure_at(server.process(), loads, cpus).map_err(|error| format!("{}: {error}", server.kind.name()))
}

/// The same beside any program; the loads know its port.
pub fn measure_at(server: &Process, loads: &[Load], cpus: &str) -> Result<Vec<Outcome>, String> {
    let before = server.cpu_s()?;
    let started: Result<Vec<Child>, String> = loads.iter().map(|load| start(load, cpus)).collect();
    let mut outcomes = Vec::new();
    for child in started? {
        let output = child.wait_with_output().map_err(|e| format!("the load generator is gone: {e}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Err(said);
        }
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("the load generator: {e}"))?;
        let number = |name: &str| found.get(name).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        let operations = number("operations");
        outcomes.push(Outcome {
            operations,
            per_second: operations / number("seconds").max(1e-9),
            p50_us: number("p50_us"),
            p99_us: number("p99_us"),
            cpu: 0.0,
        });
    }
    let operations: f64 = outcomes.iter().map(|o| o.operations).sum();
    let cpu = (server.cpu_s()? - before) * 1e6 / operations.max(1.0);
    outcomes.iter_mut().for_each(|o| o.cpu = cpu);
    Ok(outcomes)
}

/// The same, as one outcome.
pub fn measure_all(server: &Server, loads: &[Load], cpus: &str) -> Result<Outcome, String> {
    let outcomes = measure(server, loads, cpus)?;
    Ok(outcomes.iter().fold(Outcome::default(), |sum, o| Outcome {
        operations: sum.operations + o.operations,
        per_second: sum.per_second + o.per_second,
        p50_us: sum.p50_us.max(o.p50_us),
        p99_us: sum.p99_us.max(o.p99_us),
        cpu: o.cpu,
    }))
}

fn start(load: &Load, cpus: &str) -> Result<Child, String> {
    let me = std::env::current_exe().map_err(|e| format!("the comparison does not find itself: {e}"))?;
    let words = [
        load.port.to_string(),
        load.operation.name().to_owned(),
        load.connections.to_string(),
        load.pipeline.to_string(),
        load.seconds.to_string(),
        load.rate.to_string(),
        load.keys.to_string(),
        load.space.to_string(),
    ];
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).arg(me).arg("load").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|e| format!("cannot start the load generator: {e}"))
}

/// The load that [`start`] wrote down.
pub fn load_of(words: &[String]) -> Option<Load> {
    let [port, operation, connections, pipeline, seconds, rate, keys, space] = words else { return None };
    Some(Load {
        port: port.parse().ok()?,
        operation: crate::wire::Operation::named(operation)?,
        connections: connections.parse().ok()?,
        pipeline: pipeline.parse().ok()?,
        seconds: seconds.parse().ok()?,
        rate: rate.parse().ok()?,
        keys: keys.parse().ok()?,
        space: space.parse().ok()?,
    })
}
