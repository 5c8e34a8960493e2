//! Nothing private leaves: no session id and no value in any log, metric, answer of the admin interface or error.

use crate::cluster;
use crate::harness::resp::{Client, Reply};
use crate::harness::{Node, http, until, wayfarer};
use std::io::Write;

/// Words that occur nowhere else.
const ID: &str = "Zq7private0id";
const VALUE: &str = "Zq8private0value";
const FIELD: &str = "Zq9private0field";

/// Everything that may happen to a session, errors included.
fn use_all(clients: &mut [Client]) {
    for n in 0..80 {
        let client = &mut clients[n % 2];
        let n = n / 2;
        let (s, k) = (format!("s:{ID}{n}"), format!("k:{ID}{n}"));
        client.call(&["HSET", &s, FIELD, VALUE]);
        client.call(&["SET", &k, &format!("{VALUE}{}", "x".repeat(3000))]);
        client.call(&["HGET", &s, FIELD]);
        client.call(&["GET", &s]);
        client.call(&["HINCRBY", &s, FIELD, VALUE]);
        client.call(&["HINCRBY", &s, FIELD, "1"]);
        client.call(&["LPUSH", &s, VALUE]);
        client.call(&["SET", &k, VALUE, "EX", VALUE]);
        client.call(&["HGET", "other:key", FIELD]);
    }
}

/// All that a node has said so far.
fn said(node: &Node) -> Vec<(String, String)> {
    let mut said = vec![("log".to_owned(), node.log_text()), ("out".to_owned(), std::fs::read_to_string(&node.out).unwrap())];
    for path in ["/metrics", "/api/v1/status", "/api/v1/sessions?limit=10000", "/api/v1/moves", "/readyz"] {
        if let Ok(answer) = http::get(node.admin, path) {
            said.push((path.to_owned(), answer.text()));
        }
    }
    for command in ["status", "sessions"] {
        let out = wayfarer(&[command, "--admin", &node.admin.to_string()]);
        said.push((
            command.to_owned(),
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
        ));
    }
    said
}

fn check(node: &Node) {
    for (place, text) in said(node) {
        for word in [ID, VALUE, FIELD] {
            let at = text.find(word).map(|at| text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert_eq!(at, None, "{place} of {}", node.name);
        }
    }
}

#[test]
fn no_id_and_no_value_is_said_anywhere() {
    let mut cluster = cluster();
    cluster.set.extend(["log.level=trace".into(), "policy.class=deferred".into(), "handover.trickle=false".into()]);
    // The instance of this test serves one connection.
    cluster.set.push("app.probe_ms=0".into());
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    cluster.set.push(format!("app.address={}", app.local_addr().unwrap()));
    let (mut a, b) = (cluster.start("a", &[]), cluster.start("b", &[]));
    use_all(&mut [a.client(), b.client()]);
    let mut raw = Client::to(a.state);
    raw.send(format!("*2\r\n$3\r\nGET\r\n$x{ID}\r\n{VALUE}").as_bytes()).unwrap();
    assert!(raw.read().unwrap().error().starts_with("ERR Protocol error"));

    // Through the HTTP face, with the id in the cookie, to an instance that answers and to one that does not.
    let instance = std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (mut stream, _) = app.accept().unwrap();
            std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        });
        let answer = http::request(a.http, "GET", &format!("/?q={VALUE}"), &[("Cookie", &format!("sid={ID}1"))]).unwrap();
        served.join().unwrap();
        answer.status
    });
    assert_eq!(instance, 200);
    drop(app);
    let gone = http::request(b.http, "GET", &format!("/{VALUE}"), &[("Cookie", &format!("sid={ID}2"))]).unwrap();
    assert!(gone.status >= 500);

    assert_eq!(b.rebalance().1, 0);
    use_all(&mut [a.client(), b.client()]);
    a.rebalance();
    check(&a);
    check(&b);
    a.ask_drain();
    until("the drain of a", || (b.sessions() == 40).then_some(()));
    assert_eq!(a.wait_exit().code(), Some(0));
    check(&a);
    let mut client = b.client();
    for n in 0..40 {
        let shown = client.call(&["HGET", &format!("s:{ID}{n}"), FIELD]);
        assert_eq!(shown, Reply::text(VALUE));
    }
    // One that dies with variables that others need.
    let c = {
        cluster.set.retain(|s| !s.starts_with("app."));
        cluster.start("c", &[])
    };
    b.rebalance();
    let mut b = b;
    b.kill();
    for n in 0..40 {
        c.client().call(&["HGET", &format!("s:{ID}{n}"), FIELD]);
        c.client().call(&["GET", &format!("k:{ID}{n}")]);
    }
    check(&c);
}
