//! One multiplexed connection of a real library: the owner of one session hangs, and the commands behind on other sessions run
//! meanwhile.
//!
//! Nothing is timed: what another client sees, and in which order replies come, says what has happened.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, until};
use crate::services::Service;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

const KEYS: &str =
    r#"[{ pattern = "s:{session}", layout = "hash" }, { pattern = "k:{session}", layout = "key", variable = "blob" }]"#;
/// Lines that nobody has looked at yet.
const LINES_MAX: usize = 1000;

/// The library, with one connection.
struct Library {
    child: Child,
    lines: Receiver<String>,
}

impl Library {
    fn connect(service: Service, to: SocketAddr) -> Library {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/multiplexed.js");
        let mut command = Command::new("node");
        command.arg(script).env("PORT", to.port().to_string()).envs(service.node_environment());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (lines_in, lines) = sync_channel(LINES_MAX);
        let out = BufReader::new(child.stdout.take().unwrap());
        reader(move || {
            for line in out.lines().map_while(Result::ok) {
                if lines_in.send(line).is_err() {
                    return;
                }
            }
        });
        let mut library = Library { child, lines };
        assert_eq!(library.next(), "connected yes");
        library
    }

    fn send(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn next(&mut self) -> String {
        until("a line of the library", || self.lines.try_recv().ok())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[allow(clippy::disallowed_methods, reason = "a pipe has no time limit for reading; the thread ends with the process behind it")]
fn reader(read: impl FnOnce() + Send + 'static) {
    std::thread::spawn(read);
}

fn others_go_on(service: Service) {
    if !service.is_installed() {
        return;
    }
    let cluster = Cluster::new(KEYS).set(&["drain.settle_ms=0", "state.park_ms_max=30000", "state.operation_ms_max=60000"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    assert_eq!(a.client().say("HSET s:hangs n 0"), Reply::Int(1));
    let mut library = Library::connect(service, b.state);
    for (line, reply) in [("before HGET s:hangs n", "before 0"), ("first SET k:goes before", "first OK")] {
        library.send(line);
        assert_eq!(library.next(), reply);
    }
    a.freeze();
    for line in
        ["hung HINCRBY s:hangs n 1", "one SET k:goes on", "again HINCRBY s:hangs n 1", "two INCR k:count", "three INCR k:count"]
    {
        library.send(line);
    }
    let mut other = b.client();
    until("the other sessions to go on", || (other.say("GET k:goes") == Reply::text("on")).then_some(()));
    until("all of them", || (other.say("GET k:count") == Reply::text("2")).then_some(()));
    assert!(library.lines.try_recv().is_err(), "replies wait behind the first");
    a.signal(rustix::process::Signal::CONT);
    let lines: Vec<String> = (0..5).map(|_| library.next()).collect();
    assert_eq!(lines, ["hung 1", "one OK", "again 2", "two 1", "three 2"], "in order, each once");
}

#[test]
fn ioredis_goes_on_while_one_session_hangs() {
    others_go_on(Service::IOREDIS);
}

#[test]
fn node_redis_goes_on_while_one_session_hangs() {
    others_go_on(Service::NODE_REDIS);
}

/// Once an operation has waited in vain for a holder, the others on its sessions are told at once; sessions elsewhere never are.
#[test]
fn a_holder_that_let_one_wait_in_vain_is_left_alone() {
    let cluster = Cluster::new(KEYS).set(&["drain.settle_ms=0", "state.park_ms_max=200", "cluster.lost_after_ms=600000"]);
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    for n in 0..20 {
        assert_eq!(a.client().say(&format!("SET k:hangs{n} v")), Reply::ok());
    }
    let mut client = b.client();
    assert_eq!(client.say("GET k:hangs0"), Reply::text("v"));
    assert_eq!(client.say("SET k:here v"), Reply::ok());
    a.freeze();
    // What it is told of a write that was sent differs from what it is told of one that was not.
    let said = |client: &mut Client, n: usize| client.say(&format!("APPEND k:hangs{n} x")).error().to_owned();
    assert!(said(&mut client, 0).contains("did not answer; whether the operation ran is unknown"));
    until("one that is not even sent", || {
        let not_sent = (1..20).any(|n| said(&mut client, n).contains("does not answer; the operation did not run"));
        assert_eq!(client.say("GET k:here"), Reply::text("v"));
        not_sent.then_some(())
    });
    a.signal(rustix::process::Signal::CONT);
    until("the holder to be asked again", || (client.say("GET k:hangs3").error().is_empty()).then_some(()));
}
