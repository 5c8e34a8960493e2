//! The admin interface and the command line that asks it.

use crate::harness::resp::Reply;
use crate::harness::{Cluster, Node, http, until, wayfarer};
use crate::{KEYS, cluster, filler, hset};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Output;

fn json(out: &Output) -> Value {
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn text(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).unwrap()
}

#[test]
fn health_and_metrics() {
    let a = cluster().start("a", &[]);
    for (path, body) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = http::get(a.admin, path).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
    let mut client = a.client();
    hset(&mut client, "s:m", "f", b"v");
    client.say("HGET s:m f");
    client.say("DEL s:m");
    assert_eq!(a.metric("wayfarer_sessions_born_total"), 1.0);
    assert_eq!(a.metric("wayfarer_sessions_ended_total"), 1.0);
    assert_eq!(a.metric("wayfarer_sessions_owned"), 0.0);
    assert_eq!(a.metric("wayfarer_lease_valid"), 1.0);
    assert!(a.metric("wayfarer_state_operations_total") >= 3.0);
    assert_eq!(a.metric("wayfarer_state_connections"), 1.0);
    let metrics = http::get(a.admin, "/metrics").unwrap();
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for line in metrics.text().lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        assert!(line.starts_with("wayfarer_"), "{line}");
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
    let nothing = http::get(a.admin, "/no/such/page").unwrap();
    assert_eq!((nothing.status, nothing.text().contains("nothing at /no/such/page")), (404, true), "{}", nothing.text());
    let no_question = http::get(a.admin, "/drain").unwrap();
    assert_eq!((no_question.status, no_question.text().contains("POST")), (405, true), "{}", no_question.text());
    for path in ["/api/v1/cordon", "/api/v1/cordon?on=perhaps", "/drain?wait=perhaps"] {
        let refused = http::post(a.admin, path).unwrap();
        let why: Value = serde_json::from_str(&refused.text()).unwrap();
        assert_eq!((refused.status, why["error"].as_str().unwrap().contains("query string")), (400, true), "{path}: {why}");
    }
    assert_eq!(http::get(a.admin, "/readyz").unwrap().status, 200);
}

#[test]
fn a_request_says_for_which_place_it_is() {
    let a = cluster().start("a", &[]);
    let ask = |line: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let answer = http::send(a.admin, &format!("{line}\r\n{hosts}Content-Length: 0\r\nConnection: close\r\n\r\n")).unwrap();
        let why: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
        (answer.status, why["error"].as_str().unwrap_or_default().to_owned())
    };
    let here = a.admin.to_string();
    for (line, hosts) in [("POST /drain HTTP/1.1", vec![]), ("GET /livez HTTP/1.1", vec![here.as_str(), here.as_str()])] {
        let (status, why) = ask(line, &hosts);
        assert!(status == 400 && why.contains("one Host header"), "{line}: {status} {why}");
    }
    for line in ["POST /drain HTTP/1.1", "GET /api/v1/sessions HTTP/1.1", "GET /metrics HTTP/1.0"] {
        let (status, why) = ask(line, &["evil.example"]);
        assert!(status == 421 && why.contains("localhost"), "{line}: {status} {why}");
    }
    assert_eq!(ask("GET /api/v1/status HTTP/1.1", &["localhost"]).0, 200);
    assert_eq!(ask("GET /readyz HTTP/1.0", &[]).0, 200, "and nothing drains");
}

#[test]
fn members_that_take_other_keys_for_sessions_are_named() {
    let mut cluster = cluster();
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    cluster.keys = r#"[{ pattern = "other:{session}", layout = "hash" }]"#.to_owned();
    let c = cluster.start("c", &[]);
    let named = |node: &Node| -> Vec<String> {
        let status = node.status();
        let members = status["members"].as_array().unwrap().iter();
        members.filter(|m| m["other_keys"] == true).map(|m| m["name"].as_str().unwrap().to_owned()).collect()
    };
    until("those of one mind to name the third", || (named(&a) == ["c"] && named(&b) == ["c"]).then_some(()));
    until("the third to name the others", || (named(&c) == ["a", "b"]).then_some(()));
    let shown = text(&wayfarer(&["status", "--admin", &a.admin.to_string()]));
    assert_eq!(shown.lines().filter(|line| line.contains("OTHER [state] keys")).count(), 1, "{shown}");
    let warned = a.log_text().matches("takes other keys for those of sessions").count();
    assert_eq!(warned, 1, "{}", a.log_text());
}

#[test]
fn readiness_fails_in_a_drain_and_liveness_does_not() {
    let cluster = Cluster::new(KEYS).set(&["drain.settle_ms=1000"]);
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    hset(&mut a.client(), "s:d", "f", b"v");
    a.signal(Signal::TERM);
    let answer = until("readiness to fail", || http::get(a.admin, "/readyz").ok().filter(|r| r.status == 503));
    assert_eq!(answer.text(), "draining\n");
    assert_eq!(http::get(a.admin, "/livez").unwrap().status, 200);
    assert_eq!((a.status()["ready"].as_bool(), a.status()["state"].as_str()), (Some(false), Some("draining")));
    assert_eq!(a.client().say("HGET s:d f"), Reply::text("v"), "who is still here is served");
    assert_eq!(a.wait_exit().code(), Some(0));
    assert_eq!(b.sessions(), 1);
}

#[test]
fn status_and_sessions_say_what_is() {
    let cluster = cluster();
    let (a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    let mut client = a.client();
    for n in 0..3 {
        hset(&mut client, &format!("s:j{n}"), "small", b"1");
        hset(&mut client, &format!("s:j{n}"), "large", &filler("large", 3000));
    }
    a.wait_members(2);
    let status = a.status();
    assert_eq!(
        (status["node"].as_str(), status["state"].as_str(), status["ready"].as_bool()),
        (Some("a"), Some("accepting"), Some(true))
    );
    assert!((1..=2000).contains(&status["lease_ms_left"].as_u64().unwrap()));
    assert_eq!((status["sessions"].as_u64(), status["born"].as_u64()), (Some(3), Some(3)));
    assert!((9000..10_000).contains(&status["value_bytes"].as_u64().unwrap()), "{status}");
    let members = status["members"].as_array().unwrap();
    let seen: Vec<_> = members.iter().map(|m| (m["name"].as_str().unwrap(), m["sessions"].as_u64())).collect();
    assert_eq!(seen, [("a", Some(3)), ("b", Some(0))]);
    assert_eq!(b.status()["incarnation"], members[1]["incarnation"]);

    let listed: Value = serde_json::from_str(&http::get(a.admin, "/api/v1/sessions?limit=2").unwrap().text()).unwrap();
    assert_eq!((listed["total"].as_u64(), listed["sessions"].as_array().unwrap().len()), (Some(3), 2));
    let one = &listed["sessions"][0];
    assert_eq!((one["gate"].as_str(), one["keys"].as_u64(), one["variables"].as_u64()), (Some("open"), Some(1), Some(2)));
    assert_eq!((one["missing"].as_u64(), one["depends"].as_u64()), (Some(0), Some(0)));
    assert!(one["bytes"].as_u64().unwrap() >= 3001);

    a.rebalance();
    let moves = a.moves();
    let m = &moves["moves"][0];
    assert_eq!((m["side"].as_str(), m["outcome"].as_str()), (Some("origin"), Some("committed")));
    assert_eq!(b.moves()["moves"][0]["handover"], m["handover"], "both sides name the same");
}

#[test]
fn the_command_line_asks_a_running_sidecar() {
    let cluster = cluster();
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    for n in 0..4 {
        hset(&mut a.client(), &format!("s:cli{n}"), "f", b"v");
    }
    let (at_a, at_b) = (a.admin.to_string(), b.admin.to_string());
    assert_eq!(json(&wayfarer(&["status", "--admin", &at_a, "--json"]))["sessions"], 4);
    let shown = text(&wayfarer(&["status", "-c", a.config.to_str().unwrap()]));
    assert!(shown.contains("node        a (incarnation ") && shown.contains("sessions    4 here"), "{shown}");
    assert_eq!(
        json(&wayfarer(&["sessions", "--admin", &at_a, "--json", "--limit", "1"]))["sessions"].as_array().unwrap().len(),
        1
    );
    let shown = text(&wayfarer(&["sessions", "--admin", &at_a]));
    assert!(a.owned().iter().all(|id| shown.contains(id.as_str())) && shown.ends_with("4 of 4\n"), "{shown}");

    assert_eq!(text(&wayfarer(&["cordon", "--admin", &at_b])), "cordoned true\n");
    until("the cordon", || (b.status()["state"] == "cordoned").then_some(()));
    until("the cordon at a", || (a.status()["members"].to_string().contains("cordoned")).then_some(()));
    assert_eq!(json(&wayfarer(&["rebalance", "--admin", &at_a, "--json"])), serde_json::json!({ "failed": 0, "moved": 0 }));
    assert_eq!(json(&wayfarer(&["cordon", "--off", "--admin", &at_b, "--json"])), serde_json::json!({ "cordoned": false }));
    until("the end of the cordon", || (!a.status()["members"].to_string().contains("cordoned")).then_some(()));
    assert_eq!(text(&wayfarer(&["rebalance", "--admin", &at_a])), "failed 0, moved 2\n");
    assert_eq!((a.sessions(), b.sessions()), (2, 2));

    assert_eq!(text(&wayfarer(&["drain", "--wait", "--admin", &at_a])), "all_left true, left_behind 0\n");
    assert!(http::get(a.admin, "/livez").is_err(), "it returns when the sidecar has ended");
    assert_eq!(a.wait_exit().code(), Some(0));
    assert_eq!(b.sessions(), 4);
}

#[test]
fn exit_codes_of_the_command_line() {
    let nobody = format!("127.0.0.1:{}", crate::harness::free_port());
    for command in ["status", "sessions", "rebalance", "cordon", "drain"] {
        let out = wayfarer(&[command, "--admin", &nobody]);
        assert_eq!(out.status.code(), Some(1), "{command}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains(&nobody) && said.contains("is it running"), "{said}");
        assert_eq!(wayfarer(&[command, "--no-such-flag"]).status.code(), Some(2), "{command}");
        assert_eq!(wayfarer(&[command, "--set", "admin.lisen=1"]).status.code(), Some(2), "{command}");
    }
    assert_eq!(wayfarer(&[]).status.code(), Some(2));
    assert_eq!(wayfarer(&["walk"]).status.code(), Some(2));
    assert_eq!(wayfarer(&["--help"]).status.code(), Some(0));
    assert_eq!(wayfarer(&["--version"]).status.code(), Some(0));
}

#[test]
fn check_names_the_line_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[cluster]\nnode = \"a\"\nlease_mss = 2000\n\n[handover]\nat_once_max = 0\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "run", "status"] {
        let out = wayfarer(&[command, "-c", file]);
        assert_eq!(out.status.code(), Some(2), "{command}");
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(said.contains("wrong.toml:3") && said.contains("lease_mss") && said.contains("lease_ms"), "{command}: {said}");
        assert!(said.contains("wrong.toml:6") && said.contains("at_once_max"), "{command}: {said}");
    }
    let out = wayfarer(&["check", "--json", "-c", file]);
    assert_eq!(out.status.code(), Some(2));
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    let lines: Vec<_> = found["mistakes"].as_array().unwrap().iter().map(|m| m["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [3, 6]);
    assert!(found["mistakes"][0]["remedy"].as_str().unwrap().contains("lease_ms"));
    assert_eq!(wayfarer(&["check", "-c", "/no/such/file.toml"]).status.code(), Some(2));
    assert!(text(&wayfarer(&["check", "--set", "cluster.node=a"])).contains("the configuration can be used"));
}
