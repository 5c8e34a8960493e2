//! Clients that break the protocol or dawdle: a clear answer or a cut connection each, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Counters, connect, face, field, instance, mirror, within};
use wayfarer_http_face::names;

#[tokio::test]
async fn malformed_requests_get_400() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    for request in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nbad field: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\na",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Forwarded-For\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ] {
        let mut client = connect(face.address).await;
        client.send(request).await;
        let head = client.try_head().await.unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(support::status(&head), 400, "{request:?}");
        client.rest().await;
    }
    let mut client = connect(face.address).await;
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.0, 200);
}

#[tokio::test]
async fn an_endless_header_ends() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    assert!(client.try_send(b"GET / HTTP/1.1\r\nHost: h\r\na: ").await);
    let mut sent = 0_usize;
    while client.try_send(&[b'x'; 64 * 1024]).await {
        sent += 64 * 1024;
        assert!(sent < 64 << 20, "a header of {sent} bytes is still being taken");
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_slow_header_is_cut_and_blocks_nobody() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let face = face(app.address, |settings| {
        settings.header_ms_max = 400;
        settings.idle_ms_max = 800;
    })
    .await;
    let begun = Instant::now();
    let mut slow = connect(face.address).await;
    slow.send("GET / HTTP/1.1\r\n").await;
    let mut fast = connect(face.address).await;
    // A byte now and then must not extend the deadline.
    let mut tries = 0;
    while slow.try_send(b"a").await {
        assert_eq!(fast.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.0, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
        tries += 1;
        assert!(tries < 500, "the slow client was not cut");
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(counters.get(names::HEADERS_OVERDUE), 1);
    // A connection that is merely idle ends too, and is told apart.
    fast.closed().await;
    assert_eq!((counters.get(names::HEADERS_OVERDUE), counters.get(names::IDLE_CLOSED)), (1, 1));
}

/// The time of a header begins with its first byte, also if that came with the connection or behind another request.
#[tokio::test]
async fn a_header_that_stops_is_cut_wherever_it_began() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let face = face(app.address, |settings| {
        settings.header_ms_max = 300;
        settings.idle_ms_max = 600_000;
    })
    .await;
    let whole = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let begun = ["G", "GET /", "GET / HTTP/1.1\r\nHost: h\r\n", "PRI * HT", "\r\n"];
    for (n, begun) in begun.into_iter().enumerate() {
        let mut alone = connect(face.address).await;
        let mut behind = connect(face.address).await;
        alone.send(begun).await;
        behind.send(&format!("{whole}{begun}")).await;
        assert_eq!(behind.answer().await.0, 200);
        alone.closed().await;
        behind.closed().await;
        let cut = u64::try_from(2 * (n + 1)).unwrap();
        assert_eq!((counters.get(names::HEADERS_OVERDUE), counters.get(names::IDLE_CLOSED)), (cut, 0), "{begun:?}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = instance(|mut client| async move {
        client.head().await;
        client.closed().await;
    })
    .await;
    let face = face(app.address, |settings| settings.request_ms_max = Some(200)).await;
    let mut client = connect(face.address).await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.closed().await;
    assert_eq!(counters.get(names::REQUESTS_OVERDUE), 1);
}

#[tokio::test]
async fn only_a_trusted_peer_says_who_its_client_is() {
    let app = mirror().await;
    let v2 = |source: [u8; 4]| {
        let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
        [fixed.as_slice(), &source, &[10, 0, 0, 1, 1, 2, 0, 80]].concat()
    };
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n";
    let behind = face(app.address, |settings| settings.proxy_protocol = true).await;
    let mut client = connect(behind.address).await;
    assert!(client.try_send(&v2([203, 0, 113, 7])).await);
    let (status, _, seen) = client.ask(request).await;
    assert_eq!((status, field(&seen, "x-forwarded-for")), (200, Some("203.0.113.7")));
    // Without such a header, and from somebody who is not trusted, nothing is served.
    let mut client = connect(behind.address).await;
    client.send(request).await;
    client.rest().await;
    let strict = face(app.address, |settings| {
        settings.proxy_protocol = true;
        settings.trusted_proxies.clear();
    })
    .await;
    let mut client = connect(strict.address).await;
    assert!(client.try_send(&v2([203, 0, 113, 7])).await);
    client.rest().await;
    assert_eq!(app.connections(), 1);
    let open = face(app.address, |settings| settings.trusted_proxies.clear()).await;
    let (_, _, seen) = connect(open.address).await.ask(request).await;
    assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_body_that_stops_is_ended() {
    let app = mirror().await;
    let face = face(app.address, |settings| settings.stalled_ms_max = 100).await;
    let mut client = connect(face.address).await;
    let (status, head, _) = client.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc").await;
    assert_eq!(status, 408, "{head}");
    client.closed().await;
}

/// A client that does not read holds up the instance, not the memory of the face, and not for ever.
#[tokio::test]
async fn an_answer_that_is_not_taken_is_ended() {
    let taken = Arc::new(AtomicUsize::new(0));
    let (count, (over, mut end)) = (Arc::clone(&taken), tokio::sync::watch::channel(false));
    let app = instance(move |mut client| {
        let (count, over) = (Arc::clone(&count), over.clone());
        async move {
            client.head().await;
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
            while client.try_send(&[0; 64 * 1024]).await {
                assert!(count.fetch_add(64 * 1024, Ordering::SeqCst) < 500_000_000, "the face swallows the answer");
            }
            over.send(true).unwrap();
        }
    })
    .await;
    let face = face(app.address, |settings| settings.stalled_ms_max = 200).await;
    let mut client = connect(face.address).await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    within("the instance is let go", end.wait_for(|over| *over)).await.unwrap();
    // What the sockets' buffers hold is the system's choice: at most a few MiB each.
    assert!(taken.load(Ordering::SeqCst) < 64 << 20, "{taken:?} bytes were taken");
}

#[tokio::test]
async fn tunnels_are_refused() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n").await;
    assert_eq!(support::status(&client.head().await), 405);
    assert_eq!(app.connections(), 0);
}
