//! `wayfarer run -- COMMAND`: the instance as a child, its environment, its signals, its end.

use crate::harness::Cluster;
use crate::harness::resp::Reply;
use crate::harness::{Node, free_port, http, until, wayfarer};
use crate::hset;
use rustix::process::Signal;
use std::path::Path;

/// A cluster whose instances need not listen: nobody comes to them through the HTTP face.
fn cluster() -> Cluster {
    crate::cluster().set(&["http.enabled=false"])
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn wait_line(path: &Path, wanted: &str) {
    until(&format!("the line {wanted:?}"), || lines(path).iter().any(|l| l == wanted).then_some(()));
}

/// An instance that writes what it is told into a file, and ends with 3 when it is told to.
fn listener(path: &Path) -> String {
    let file = path.display();
    format!(
        "for s in HUP USR1 USR2; do trap \"echo $s >> {file}\" $s; done; trap 'echo TERM >> {file}; exit 3' TERM; \
         echo up >> {file}; while :; do sleep 0.05; done"
    )
}

#[test]
fn the_child_learns_its_port_and_its_redis() {
    let cluster = cluster();
    let file = cluster.folder.path().join("environment");
    let script = format!("echo \"$PORT $REDIS_URL\" > {0}.part; mv {0}.part {0}; while :; do sleep 0.05; done", file.display());
    let a = cluster.start("a", &["sh", "-c", &script]);
    until("the environment", || file.exists().then_some(()));
    assert_eq!(lines(&file), [format!("{} redis://{}/0", a.app.port(), a.state)]);
}

#[test]
fn the_exit_status_is_that_of_the_child() {
    let cluster = cluster();
    let ended = |name: &str, command: &[&str]| {
        let mut node: Node = cluster.spawn(name, command);
        (node.wait_exit().code(), node.log_text())
    };
    assert_eq!(ended("zero", &["true"]).0, Some(0));
    assert_eq!(ended("seven", &["sh", "-c", "exit 7"]).0, Some(7));
    assert_eq!(ended("killed", &["sh", "-c", "kill -9 $$"]).0, Some(128 + 9));
    assert_eq!(ended("told", &["sh", "-c", "kill -TERM $$"]).0, Some(128 + 15));
    let (code, log) = ended("none", &["/no/such/program"]);
    assert_eq!(code, Some(1));
    assert!(log.contains("the instance cannot be started"), "{log}");
    let (code, log) = ended("text", &["/etc/passwd"]);
    assert_eq!(code, Some(1));
    assert!(log.contains("\"/etc/passwd\" is not executable"), "{log}");
    let nothing = wayfarer(&["run", "--"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no command after --"));
}

/// A shell that ends by the first signal, as one without a trap does, and two processes that it has forked.
#[test]
fn what_the_child_leaves_behind_ends_with_it() {
    let alive = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    for (how, stops) in [("told", "true"), ("deaf", "trap '' TERM"), ("by itself", "true")] {
        let cluster = cluster().set(&["child.stop_ms_max=1500"]);
        let file = cluster.folder.path().join("forked");
        let ends = if how == "by itself" { "exit 5" } else { "while :; do sleep 0.05; done" };
        // The subshells inherit what is ignored, and the shell itself does not ignore it.
        let script = format!(
            "for n in 1 2; do ({stops}; while :; do sleep 0.05; done) & echo $! >> {0}; done; echo up >> {0}; {ends}",
            file.display()
        );
        let mut a = cluster.spawn("a", &["sh", "-c", &script]);
        wait_line(&file, "up");
        let forked: Vec<String> = lines(&file).into_iter().filter(|line| line != "up").collect();
        assert_eq!(forked.len(), 2);
        if how != "by itself" {
            assert!(forked.iter().all(alive), "{how}");
            a.wait_ready();
            a.signal(Signal::TERM);
        }
        assert_eq!(a.wait_exit().code(), Some(if how == "by itself" { 5 } else { 0 }), "{how}: {}", a.log_text());
        until("those that were forked to end", || (!forked.iter().any(alive)).then_some(()));
    }
}

#[test]
fn signals_reach_the_child_and_the_last_one_drains_first() {
    let cluster = cluster();
    let file = cluster.folder.path().join("signals");
    let mut a = cluster.start("a", &["sh", "-c", &listener(&file)]);
    wait_line(&file, "up");
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2"), (Signal::HUP, "HUP")] {
        let before = lines(&file).len();
        a.signal(signal);
        until(name, || (lines(&file).len() > before).then_some(()));
        assert_eq!(lines(&file).last().unwrap(), name);
    }

    let b = cluster.start("b", &[]);
    for n in 0..10 {
        assert_eq!(hset(&mut a.client(), &format!("s:d{n}"), "n", n.to_string().as_bytes()), Reply::Int(1));
    }
    // Nobody takes the sessions for now, so the drain waits, and the instance must not be told to end meanwhile.
    b.freeze();
    a.signal(Signal::TERM);
    until("the drain", || http::get(a.admin, "/readyz").is_ok_and(|r| r.status == 503).then_some(()));
    a.signal(Signal::USR1);
    until("a signal in the drain", || (lines(&file).last().unwrap() == "USR1").then_some(()));
    assert!(!lines(&file).contains(&"TERM".to_owned()));
    b.signal(Signal::CONT);
    assert_eq!(a.wait_exit().code(), Some(3), "{}", a.log_text());
    assert_eq!(lines(&file).last().unwrap(), "TERM");
    assert_eq!(b.sessions(), 10);
    for n in 0..10 {
        assert_eq!(b.client().say(&format!("HGET s:d{n} n")), Reply::text(n.to_string()));
    }
}

#[test]
fn the_child_is_ended_by_the_signal_that_ended_its_sidecar() {
    let cluster = cluster();
    for (signal, name) in [(Signal::INT, "INT"), (Signal::QUIT, "QUIT"), (Signal::TERM, "TERM")] {
        let file = cluster.folder.path().join(name);
        let script = format!("trap 'exit 6' {name}; echo up > {}; while :; do sleep 0.05; done", file.display());
        let mut node = cluster.start(name, &["sh", "-c", &script]);
        wait_line(&file, "up");
        node.signal(signal);
        assert_eq!(node.wait_exit().code(), Some(6), "{name}: {}", node.log_text());
        // A child without a handler ends by it, which is what it was told.
        let mut node = cluster.start(name, &["sleep", "600"]);
        node.signal(signal);
        assert_eq!(node.wait_exit().code(), Some(0), "{name}: {}", node.log_text());
    }
}

#[test]
fn when_the_child_dies_its_sessions_leave() {
    let cluster = cluster();
    let b = cluster.start("b", &[]);
    let stop = cluster.folder.path().join("stop");
    let script = format!("while ! [ -e {} ]; do sleep 0.05; done; exit 9", stop.display());
    let mut a = cluster.start("a", &["sh", "-c", &script]);
    for n in 0..20 {
        assert_eq!(hset(&mut a.client(), &format!("s:c{n}"), "n", n.to_string().as_bytes()), Reply::Int(1));
    }
    std::fs::write(&stop, "").unwrap();
    assert_eq!(a.wait_exit().code(), Some(9), "{}", a.log_text());
    assert_eq!(b.sessions(), 20);
    for n in 0..20 {
        assert_eq!(b.client().say(&format!("HGET s:c{n} n")), Reply::text(n.to_string()));
    }
}

#[test]
fn how_the_last_members_child_failed_is_told_and_that_sessions_are_lost_too() {
    for (ends_with, code) in [(9, 9), (0, 1)] {
        let cluster = cluster();
        let stop = cluster.folder.path().join("stop");
        let script = format!("while ! [ -e {} ]; do sleep 0.05; done; exit {ends_with}", stop.display());
        let mut a = cluster.start("a", &["sh", "-c", &script]);
        assert_eq!(hset(&mut a.client(), "s:last", "n", b"1"), Reply::Int(1));
        std::fs::write(&stop, "").unwrap();
        assert_eq!(a.wait_exit().code(), Some(code), "{}", a.log_text());
        assert!(a.log_text().contains("THE LAST MEMBER LEAVES"), "{}", a.log_text());
    }
}

#[test]
fn a_child_that_does_not_end_is_killed() {
    let mut cluster = cluster();
    cluster.set.push("child.stop_ms_max=200".into());
    let file = cluster.folder.path().join("up");
    let script = format!("trap '' TERM; echo up > {}; while :; do sleep 0.05; done", file.display());
    let mut a = cluster.start("a", &["sh", "-c", &script]);
    wait_line(&file, "up");
    a.signal(Signal::TERM);
    assert_eq!(a.wait_exit().code(), Some(128 + 9));
    assert!(a.log_text().contains("is killed"));
}

#[test]
fn a_killed_sidecar_leaves_no_instance_behind() {
    let cluster = cluster();
    let file = cluster.folder.path().join("signals");
    let a = cluster.start("a", &["sh", "-c", &listener(&file)]);
    wait_line(&file, "up");
    a.signal(Signal::KILL);
    wait_line(&file, "TERM");
}

#[test]
fn ready_only_when_the_child_accepts_connections() {
    let cluster = crate::cluster();
    let go = cluster.folder.path().join("go");
    // Listens on its port only when it is told to; the sidecar's own binary is a listener that is certainly there.
    let (control, own) = (free_port(), cluster.folder.path().join("own.db"));
    let script = format!(
        "while ! [ -e {} ]; do sleep 0.02; done; exec {} run --set app.name=x --set state.listen=127.0.0.1:$PORT \
         --set http.enabled=false --set admin.enabled=false --set cluster.control=127.0.0.1:{control} \
         --set cluster.directory=sqlite:{}",
        go.display(),
        env!("CARGO_BIN_EXE_wayfarer"),
        own.display()
    );
    let mut a = cluster.spawn("a", &["sh", "-c", &script]);
    let why = || http::get(a.admin, "/readyz").ok().filter(|r| r.status == 503).map(|r| r.text());
    until("the wait for the instance", || why().filter(|w| w == "the instance does not accept connections yet\n"));
    assert_eq!(a.status()["instance"], "starting");
    std::fs::write(&go, "").unwrap();
    a.wait_ready();
    assert_eq!(a.status()["instance"], "accepting");
}

/// One that somebody else has started, as README says: whether it is there is seen, and asks nothing of `/readyz`.
#[test]
fn an_instance_that_goes_silent_is_seen_whoever_started_it() {
    let cluster = crate::cluster().set(&["app.probe_ms=50"]);
    let a = cluster.start("a", &[]);
    let seen = |state: &str, metric: f64| {
        until(state, || (a.status()["instance"] == state).then_some(()));
        until("the metric", || (a.metric("wayfarer_instance_accepting") == metric).then_some(()));
        let said = wayfarer(&["status", "--admin", &a.admin.to_string()]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.lines().any(|line| line.starts_with("instance ") && line.ends_with(state)), "{said}");
        assert_eq!(http::get(a.admin, "/readyz").unwrap().status, 200);
    };
    seen("silent", 0.0);
    let instance = std::net::TcpListener::bind(a.app).unwrap();
    seen("accepting", 1.0);
    drop(instance);
    seen("silent", 0.0);
    assert!(a.log_text().contains("the instance accepts no connections"), "{}", a.log_text());
    // Where it is not looked at, nothing is said of it.
    let b = cluster.set(&["app.probe_ms=0"]).start("b", &[]);
    assert_eq!(b.status()["instance"], "unwatched");
    assert!(!http::get(b.admin, "/metrics").unwrap().text().contains("wayfarer_instance_accepting"));
}

#[test]
fn a_second_signal_ends_a_wait_for_a_stuck_child() {
    let mut cluster = cluster();
    cluster.set.push("child.stop_ms_max=600000".into());
    let file = cluster.folder.path().join("up");
    let script = format!("trap 'echo told >> {0}' TERM; echo up > {0}; while :; do sleep 0.05; done", file.display());
    let mut a = cluster.start("a", &["sh", "-c", &script]);
    wait_line(&file, "up");
    a.signal(Signal::TERM);
    wait_line(&file, "told");
    a.signal(Signal::TERM);
    assert_eq!(a.wait_exit().code(), Some(1));
    assert!(a.log_text().contains("told to leave a second time"));
}
