//! Requests that two programs could read in two ways: 400, the connection is closed, and the instance saw nothing of them.
//!
//! The inputs follow published advisories and studies of request smuggling in proxies and servers (conflicting lengths, hidden or
//! broken `Transfer-Encoding`, line ends of one character, HTTP/1.0 with chunks, upgrades before their answer, absolute targets).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use std::sync::{Arc, Mutex};
use support::{Counters, Instance, connect, face, field, instance, status, until};
use wayfarer_http_face::names;

/// An instance that keeps every header that it gets, and answers each with 200.
async fn recorder() -> (Instance, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let app = instance(move |mut client| {
        let noted = Arc::clone(&noted);
        async move {
            while let Some(head) = client.try_head().await {
                noted.lock().unwrap().push(head.clone());
                client.try_body(&head).await;
                client.try_send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    (app, seen)
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Everything between the request line with its Host and the blank line, and what comes behind that.
const HEADS: &[(&str, &str)] = &[
    // Both lengths, in either order and in disguises.
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer-Encoding : chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer-Encoding: xchunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer-Encoding:\u{b}chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x", "0\r\n\r\n"),
    ("Content-Length: 5\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nX: y\rTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer-Encoding\r\n : chunked", "0\r\n\r\n"),
    ("Content-Length: 5\r\nTransfer_Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
    ("Transfer-Encoding:", "0\r\n\r\n"),
    // Lengths that are none.
    ("Content-Length: 0\r\nContent-Length: 38", ""),
    ("Content-Length: 0\r\nContent-Length: 0", ""),
    ("Content-Length: 0, 38", ""),
    ("Content-Length: 0x26", ""),
    ("Content-Length: +0", ""),
    ("Content-Length: -1", ""),
    ("Content-Length: 0 38", ""),
    ("Content-Length: 0;", ""),
    ("Content-Length:", ""),
    ("Content-Length : 0", ""),
    ("\tContent-Length: 0", ""),
    ("Content-Length: 99999999999999999999", ""),
    ("Content-Length: 18446744073709551616", ""),
    ("Content_Length: 38", ""),
    // Fields that end elsewhere for others.
    ("X: a\0b", ""),
    ("X: a\n", ""),
    ("X: a\rb", ""),
    ("X: a\n\nGET /smuggled HTTP/1.1\r\nHost: h", ""),
    ("X: a\r\n\tb", ""),
    ("X a: b", ""),
    ("X\u{0}: b", ""),
    (": b", ""),
    ("no colon", ""),
    // Hosts.
    ("Host: other", ""),
    ("host : other", ""),
];

/// Whole requests.
const WHOLE: &[&str] = &[
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\nHost: h\n\n",
    "GET / HTTP/1.1\r\nHost: h\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET HTTP://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
    // Targets that pingora would mend.
    "GET / a HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /\u{1} HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /\t HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    "GET / HTTP/01.1\r\nHost: h\r\n\r\n",
    "GET /\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\r\n\r\n",
];

#[tokio::test]
async fn what_could_be_read_in_two_ways_never_reaches_the_instance() {
    let (app, seen) = recorder().await;
    let face = face(app.address, |_| {}).await;
    let heads = HEADS.iter().map(|(fields, body)| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}{SMUGGLED}"));
    let whole = WHOLE.iter().map(|request| format!("{request}{SMUGGLED}"));
    for request in heads.chain(whole) {
        let mut client = connect(face.address).await;
        client.send(&request).await;
        let head = client.try_head().await.unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(status(&head), 400, "{request:?}");
        let rest = client.rest().await;
        assert!(!rest.contains("HTTP/1.1"), "a second answer to {request:?}: {rest}");
        assert_eq!(seen.lock().unwrap().len(), 0, "{request:?} reached the instance: {seen:?}");
    }
    assert_eq!(app.connections(), 0);
}

/// What is wrong in chunks and trailers: the request is at the instance already, and nothing behind it may follow. Some programs end a line
/// at a bare LF, take an empty size for 0, or a trailer for a field of the header.
const BODIES: &[&str] = &[
    "zz\r\n",
    "-1\r\nx\r\n0\r\n\r\n",
    "0x1\r\nx\r\n0\r\n\r\n",
    "1 1\r\nx\r\n0\r\n\r\n",
    "fffffffffffffffff\r\n",
    "ffffffffffffffff\r\nx",
    "1\r\nxy\r\n0\r\n\r\n",
    "1\r\nx0\r\n\r\n",
    "1\rx\r\n0\r\n\r\n",
    "0\rX\r\n\r\n",
    "1;a\nx\r\n0\r\n\r\n",
    "1;a\0\r\nx\r\n0\r\n\r\n",
    "1\nx\r\n0\r\n\r\n",
    "1\r\nx\n0\r\n\r\n",
    "1\r\nx\r\n0\n\n",
    "\r\n0\r\n\r\n",
    "\r\n\r\n",
    ";\r\n\r\n",
    ";a\r\n0\r\n\r\n",
    "\r\n26\r\nx\r\n\r\n",
    "1 \r\nx\r\n0\r\n\r\n",
    "1\t\r\nx\r\n0\r\n\r\n",
    "1 ;a\r\nx\r\n0\r\n\r\n",
    "0\r\nnocolon\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX: a\r\n b\r\n\r\n",
    "0\r\nX: \0\r\n\r\n",
    "0\r\nX: a\n\r\n\r\n",
    "0\r\nContent-Length: 50\r\n\r\n",
    "0\r\nTransfer-Encoding: x\r\n\r\n",
    "0\r\nHost: other\r\n\r\n",
];

#[tokio::test]
async fn what_is_behind_a_broken_body_never_reaches_the_instance() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let (app, seen) = recorder().await;
    let face = face(app.address, |_| {}).await;
    let long = [format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(20_000)), format!("0\r\nx: {}\r\n\r\n", "a".repeat(60_000))];
    let mut refused = 0;
    for body in BODIES.iter().copied().chain(long.iter().map(String::as_str)) {
        // Whole, and so that the face has passed on what was right before the rest comes.
        for pieces in [vec![body], body.split_inclusive(['\r', ';']).collect()] {
            seen.lock().unwrap().clear();
            let mut client = connect(face.address).await;
            client.send("POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for piece in pieces {
                client.try_send(piece.as_bytes()).await;
            }
            client.try_send(SMUGGLED.as_bytes()).await;
            let head = client.try_head().await.unwrap_or_else(|| panic!("no answer to {body:?}"));
            refused += 1;
            assert_eq!((status(&head), field(&head, "server")), (400, None), "{body:?}");
            assert!(!client.rest().await.contains("HTTP/1.1"), "a second answer to {body:?}");
            assert!(!seen.lock().unwrap().iter().any(|head| head.contains("/smuggled")), "{body:?}: {seen:?}");
            assert_eq!(counters.get(names::BODIES_REFUSED), refused, "{body:?}");
        }
    }
    // What is right passes, extensions and trailers included, in one piece with what follows.
    let mut client = connect(face.address).await;
    let (status, ..) = client
        .ask(&format!(
            "POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b c\"\r\nx\r\n00\r\nX-Sum: 1\r\n\r\n{SMUGGLED}"
        ))
        .await;
    assert_eq!((status, client.answer().await.0), (200, 200));
}

#[tokio::test]
async fn refusals_are_counted_and_do_not_name_a_library() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let (app, _) = recorder().await;
    let face = face(app.address, |_| {}).await;
    let fields = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(256));
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\na: {}\r\n\r\n", "b".repeat(900_000));
    let requests = [
        (fields.as_str(), 431),
        (&long, 431),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("G\0", 400),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 405),
    ];
    for (n, (request, wanted)) in (1..).zip(requests) {
        let mut client = connect(face.address).await;
        client.send(request).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "server")), (wanted, None), "{head}");
        client.rest().await;
        until("the counters", || counters.get(&format!("{}{{status=4xx}}", names::REQUESTS)) == n).await;
        assert_eq!(counters.get(names::HEADERS_REFUSED), n);
    }
    // One field less is as many as may be, and a request before a refused one has its answer.
    let most = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(255));
    let mut client = connect(face.address).await;
    client.send(&format!("{most}GET / a HTTP/1.1\r\n\r\n")).await;
    assert_eq!((client.answer().await.0, client.answer().await.0), (200, 400));
    client.rest().await;
}

/// What follows a request to upgrade belongs to the WebSocket, or to nothing: a refused upgrade does not let it pass as a body.
#[tokio::test]
async fn a_premature_upgrade_is_no_tunnel() {
    let (app, seen) = recorder().await;
    let face = face(app.address, |_| {}).await;
    for upgrade in ["websocket", "h2c", "foo"] {
        seen.lock().unwrap().clear();
        let mut client = connect(face.address).await;
        client
            .send(&format!(
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
            ))
            .await;
        client.send("GET /second HTTP/1.1\r\nHost: h\r\nX-Real-Ip: 6.6.6.6\r\nConnection: close\r\n\r\n").await;
        client.rest().await;
        // If the second came to the instance, then as a request of its own, with everything that the face adds.
        let second: Vec<String> = seen.lock().unwrap().iter().filter(|head| head.contains("/second")).cloned().collect();
        assert!(second.iter().all(|head| head.contains("traceparent: ")), "{upgrade}: {second:?}");
    }
}

/// Nobody has asked for a tunnel, so there is none, whatever the instance says.
#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_no_tunnel() {
    let came = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&came);
    let app = instance(move |mut client| {
        let noted = Arc::clone(&noted);
        async move {
            client.head().await;
            client.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfrom behind").await;
            let rest = client.rest().await;
            noted.lock().unwrap().push(rest);
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    for upgrade in ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"] {
        let mut client = connect(face.address).await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n")).await;
        assert_eq!(status(&client.head().await), 502, "{upgrade}");
        client.try_send(b"into the tunnel").await;
        assert!(!client.rest().await.contains("from behind"));
    }
    until("both are closed", || came.lock().unwrap().len() == 2).await;
    assert_eq!(*came.lock().unwrap(), ["", ""], "something came through");
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused_before_the_instance() {
    let (app, _) = recorder().await;
    let face = face(app.address, |settings| settings.header_bytes_max = 1000).await;
    let mut client = connect(face.address).await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1000))).await;
    assert_eq!(status(&client.head().await), 431);
    client.rest().await;
    assert_eq!(app.connections(), 0);
}
