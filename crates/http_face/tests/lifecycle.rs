//! Instances that are away or die, bounds on connections, drain and shutdown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{ANY_PORT, Counters, Lines, connect, face, field, instance, instance_at, mirror, mirror_connection, until};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use wayfarer_http_face::names;

const GET: &str = "GET /private-path HTTP/1.1\r\nHost: h\r\nCookie: sid=s%3Asecret.c2ln\r\n\r\n";

/// An address where nobody listens.
async fn vacant() -> std::net::SocketAddr {
    TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_absent_instance_is_502_until_it_is_back() {
    let (lines, counters) = (Lines::default(), Counters::default());
    let _subscribed = tracing::subscriber::set_default(lines.clone());
    let _installed = metrics::set_default_local_recorder(&counters);
    let address = vacant().await;
    let face = face(address, |_| {}).await;
    for _ in 0..3 {
        let mut client = connect(face.address).await;
        let (status, head, body) = client.ask(GET).await;
        assert_eq!((status, body.as_str()), (502, "the instance cannot be reached"));
        assert_eq!(field(&head, "retry-after"), Some("1"));
        client.closed().await;
    }
    let app = instance_at(address, mirror_connection).await;
    for _ in 0..3 {
        assert_eq!(connect(face.address).await.ask(GET).await.0, 200);
    }
    drop(app);
    let logged = lines.all();
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert!(logged[0].starts_with("WARN") && logged[1].starts_with("INFO"), "{logged:?}");
    assert_eq!(counters.get(names::INSTANCE_FAILURES), 3);
    assert_eq!(counters.get(&format!("{}{{status=5xx}}", names::REQUESTS)), 3);
    until("the last is counted", || counters.get(&format!("{}{{status=2xx}}", names::REQUESTS)) == 3).await;
    assert_eq!(counters.get(names::ARRIVALS), 6);
    let shown = format!("{logged:?}{:?}", counters.names());
    assert!(!shown.contains("secret") && !shown.contains("private"), "{shown}");
}

#[tokio::test]
async fn an_instance_that_dies_within_an_answer_cuts_it() {
    for begin in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello",
    ] {
        let app = instance(move |mut client| async move {
            client.head().await;
            client.send(begin).await;
        })
        .await;
        let face = face(app.address, |_| {}).await;
        let mut client = connect(face.address).await;
        client.send(GET).await;
        assert_eq!(support::status(&client.head().await), 200);
        let rest = client.rest().await;
        assert!(rest.contains("hello") && !rest.contains("0\r\n\r\n") && !rest.contains("HTTP/1.1"), "{rest:?}");
    }
}

#[tokio::test]
async fn an_instance_that_dies_before_its_answer_is_502() {
    let app = instance(|mut client| async move {
        client.head().await;
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    let (status, head, body) = client.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!((status, body.as_str()), (502, "the instance closed the connection before it had answered"));
    assert_eq!(field(&head, "retry-after"), Some("1"));
    assert_eq!(app.connections(), 1, "what may have been executed must not be tried again");
}

/// The instance keeps the connection, and closes it when the next request is on its way.
#[tokio::test]
async fn an_idempotent_request_on_a_dying_connection_is_tried_again() {
    let app = instance(|mut client| async move {
        client.head().await;
        client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        client.try_head().await;
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    for _ in 0..4 {
        assert_eq!(client.ask(GET).await.2, "ok");
    }
    assert_eq!(app.connections(), 4);
}

#[tokio::test]
async fn connections_are_bounded() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let face = face(app.address, |settings| settings.connections_max = 2).await;
    let (mut first, mut second) = (connect(face.address).await, connect(face.address).await);
    assert_eq!(first.ask(GET).await.0, 200);
    assert_eq!(second.ask(GET).await.0, 200);
    for _ in 0..3 {
        let mut third = connect(face.address).await;
        let (status, head, _) = third.ask(GET).await;
        assert_eq!(status, 503);
        assert_eq!(field(&head, "connection"), Some("close"));
        assert_eq!(field(&head, "retry-after"), Some("1"));
        third.closed().await;
    }
    assert_eq!(counters.get(names::CONNECTIONS_REFUSED), 3);
    assert_eq!(first.ask(GET).await.0, 200, "those inside are not disturbed");
    drop(second);
    support::within("a place is free again", async {
        while connect(face.address).await.ask(GET).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn draining_ends_connections_with_their_next_answer() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut old = connect(face.address).await;
    assert_eq!(field(&old.ask(GET).await.1, "connection"), Some("keep-alive"));
    face.draining.begin();
    for client in [&mut old, &mut connect(face.address).await] {
        let (status, head, _) = client.ask(GET).await;
        assert_eq!(status, 200);
        assert_eq!(field(&head, "connection"), Some("close"));
        client.closed().await;
    }
}

/// An instance that counts the requests for `/slow`, and answers one when it is allowed to.
async fn slow_instance(go: Arc<Notify>, arrived: Arc<AtomicUsize>) -> support::Instance {
    instance(move |mut client| {
        let (go, arrived) = (Arc::clone(&go), Arc::clone(&arrived));
        async move {
            while let Some(head) = client.try_head().await {
                if head.starts_with("GET /slow") {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                }
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
            }
        }
    })
    .await
}

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn shutdown_lets_requests_in_flight_finish() {
    let (go, arrived) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let app = slow_instance(Arc::clone(&go), Arc::clone(&arrived)).await;
    let face = face(app.address, |_| {}).await;
    let (mut idle, mut silent) = (connect(face.address).await, connect(face.address).await);
    assert_eq!(idle.ask(GET).await.0, 200);
    let mut busy = connect(face.address).await;
    busy.send(SLOW).await;
    until("the slow request is at the instance", || arrived.load(Ordering::SeqCst) == 1).await;
    face.shut_down();
    idle.closed().await;
    silent.closed().await;
    assert!(TcpStream::connect(face.address).await.is_err(), "it still accepts");
    assert!(face.is_running(), "it did not wait for the request in flight");
    go.notify_one();
    let (status, head, body) = busy.answer().await;
    assert_eq!((status, body.as_str()), (200, "done"));
    assert_eq!(field(&head, "connection"), Some("close"));
    busy.closed().await;
    assert_eq!(face.ended().await.cut_off, 0);
}

#[tokio::test]
async fn shutdown_is_bounded() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let (go, arrived) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let app = slow_instance(Arc::clone(&go), Arc::clone(&arrived)).await;
    let face = face(app.address, |settings| settings.close_ms_max = 100).await;
    let (mut one, mut two) = (connect(face.address).await, connect(face.address).await);
    one.send(SLOW).await;
    two.send(SLOW).await;
    until("both requests are at the instance", || arrived.load(Ordering::SeqCst) == 2).await;
    face.shut_down();
    assert_eq!(face.ended().await.cut_off, 2);
    one.closed().await;
    two.closed().await;
    assert_eq!(counters.get(names::CONNECTIONS_CUT), 2);
}
