//! Requests that two programs could read in two ways: 400, the connection is closed, and the instance saw nothing of them.
//!
//! The inputs follow published advisories and studies of request smuggling in proxies and servers (conflicting lengths, hidden or
//! broken `Transfer-Encoding`, line ends of one character, HTTP/1.0 with chunks, upgrades before their answer, absolute targets).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use std::sync::{Arc, Mutex};
use support::{Instance, connect, face, instance, status};

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

/// (An empty chunk size is 0 to the parser. The face writes chunks anew, so the instance cannot read another end than the face.)
/// A body that breaks off in the middle: its request is at the instance already, and nothing behind it may follow.
#[tokio::test]
async fn what_is_behind_a_broken_body_never_reaches_the_instance() {
    let (app, seen) = recorder().await;
    let face = face(app.address, |_| {}).await;
    for body in [
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
    ] {
        seen.lock().unwrap().clear();
        let mut client = connect(face.address).await;
        client.send(&format!("POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}")).await;
        if let Some(head) = client.try_head().await {
            assert_eq!(status(&head), 400, "{body:?}");
        }
        client.rest().await;
        assert!(!seen.lock().unwrap().iter().any(|head| head.contains("/smuggled")), "{body:?}: {seen:?}");
    }
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
