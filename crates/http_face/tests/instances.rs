//! Instances behind a Unix socket and in HTTP/2; answers that come piece by piece, with trailers, after `100 Continue`, and before the
//! request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use support::{ANY_PORT, Client, connect, face, field, http2, instance, piece, text, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use wayfarer_http_face::InstanceAddress;

fn request(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://shop.example{path}")).header("te", "trailers").body(()).unwrap()
}

/// An instance in HTTP/2 without TLS: it answers with its request's fields, the body that it got, and trailers.
async fn http2_instance() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                let mut requests = tokio::task::JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    requests.spawn(answer(request, respond));
                }
            });
        }
    });
    (address, running)
}

async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut text = format!("{} {}\r\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text.push_str("\r\n");
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    let mut sending = respond.send_response(Response::new(()), false).unwrap();
    sending.send_data(Bytes::from(text), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    sending.send_trailers(trailers).unwrap();
}

#[tokio::test]
async fn an_instance_in_http2_serves_both_kinds_of_clients() {
    let (app, running) = http2_instance().await;
    let face = face(app, |settings| settings.app_http2 = true).await;
    let mut client = connect(face.address).await;
    let (status, head, seen) = client.ask("POST /a?b HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(status, 200);
    assert!(seen.starts_with("POST http://shop.example/a?b\r\n") && seen.ends_with("\r\n\r\nabc"), "{seen}");
    assert_eq!(field(&seen, "x-forwarded-host"), Some("shop.example"), "{seen}");
    // Pingora writes no trailers in HTTP/1.
    assert!(!head.contains("grpc-status"), "{head}");

    let (mut streams, _driven) = http2(face.address).await;
    for _ in 0..3 {
        streams = within("a stream", streams.ready()).await.unwrap();
        let (answer, mut sending) = streams.send_request(request("/x"), false).unwrap();
        sending.send_data(Bytes::from_static(b"def"), true).unwrap();
        let mut body = within("an answer", answer).await.unwrap().into_body();
        let seen = text(&mut body).await;
        assert!(seen.starts_with("GET http://shop.example/x\r\n") && seen.ends_with("\r\n\r\ndef"), "{seen}");
        assert_eq!((field(&seen, "te"), field(&seen, "x-forwarded-host")), (Some("trailers"), Some("shop.example")), "{seen}");
        let trailers = within("trailers", body.trailers()).await.unwrap().expect("no trailers came");
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    }
    running.abort();
}

/// Of the last piece of a body clients of HTTP/2 often say only behind it that it was the last: in an empty frame. On its connection the
/// instance must find the next request right behind the one end of the body.
#[tokio::test]
async fn a_body_ends_once_for_the_instance() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heads);
    let app = instance(move |mut client| {
        let noted = Arc::clone(&noted);
        async move {
            while let Some(head) = client.try_head().await {
                let body = client.body(&head).await;
                let line = head.lines().next().unwrap_or_default();
                noted.lock().unwrap().push(format!("{line} {}", String::from_utf8(body).unwrap()));
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let (mut streams, _driven) = http2(face.address).await;
    let bodies: [&[&'static str]; 5] = [&["abc", ""], &[""], &["a", "", "b", ""], &["", ""], &["abc"]];
    for pieces in bodies {
        streams = within("a stream", streams.ready()).await.unwrap();
        let post = Request::post("http://shop.example/x").body(()).unwrap();
        let (answer, mut sending) = streams.send_request(post, false).unwrap();
        for (n, piece) in pieces.iter().enumerate() {
            sending.send_data(Bytes::from_static(piece.as_bytes()), n + 1 == pieces.len()).unwrap();
        }
        let answer = within("an answer", answer).await.unwrap();
        assert_eq!(answer.status(), 200, "{pieces:?}");
        assert_eq!(text(&mut answer.into_body()).await, "ok", "{pieces:?}");
    }
    let (status, _, _) = connect(face.address).await.ask("GET /next HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(status, 200);
    assert_eq!(
        *heads.lock().unwrap(),
        [
            "POST /x HTTP/1.1 abc",
            "POST /x HTTP/1.1 ",
            "POST /x HTTP/1.1 ab",
            "POST /x HTTP/1.1 ",
            "POST /x HTTP/1.1 abc",
            "GET /next HTTP/1.1 "
        ]
    );
    assert_eq!(app.connections(), 1, "the requests did not follow each other on one connection");
}

#[tokio::test]
async fn an_instance_behind_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = InstanceAddress::Unix(path.clone());
    let face = face(ANY_PORT, move |settings| settings.app = address).await;
    let mut client = connect(face.address).await;
    let (status, head, _) = client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!((status, field(&head, "retry-after")), (502, Some("1")));
    let listener = UnixListener::bind(&path).unwrap();
    let running = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut seen = Vec::new();
                while socket.read_buf(&mut seen).await.is_ok_and(|count| count > 0) {
                    if seen.ends_with(b"\r\n\r\n") {
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", seen.len());
                        socket.write_all(&[head.as_bytes(), &std::mem::take(&mut seen)].concat()).await.unwrap();
                    }
                }
            });
        }
    });
    let mut client = connect(face.address).await;
    for _ in 0..2 {
        let (status, _, seen) = client.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!((status, field(&seen, "host")), (200, Some("h")), "{seen}");
    }
    running.abort();
}

/// Events of an endless answer; each is sent when the one before has arrived.
async fn events(mut client: Client, go_on: std::sync::Arc<tokio::sync::Semaphore>) {
    while client.try_head().await.is_some() {
        client.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
        for number in 0..5 {
            client.send(&format!("9\r\ndata: {number}\n\n\r\n")).await;
            go_on.acquire().await.unwrap().forget();
        }
        client.send("0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let go_on = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let arrived = std::sync::Arc::clone(&go_on);
    let app = instance(move |client| events(client, std::sync::Arc::clone(&go_on))).await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("GET /events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").await;
    client.head().await;
    for number in 0..5 {
        assert_eq!(client.exactly(14).await, format!("9\r\ndata: {number}\n\n\r\n").as_bytes());
        arrived.add_permits(1);
    }
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");

    let (mut streams, _driven) = http2(face.address).await;
    let (answer, _) = streams.send_request(request("/events"), true).unwrap();
    let mut body = within("an answer", answer).await.unwrap().into_body();
    for number in 0..5 {
        assert_eq!(piece(&mut body).await.unwrap(), format!("data: {number}\n\n"));
        arrived.add_permits(1);
    }
    assert_eq!(piece(&mut body).await.unwrap_or_default(), "");
}

/// Over HTTP/2 no `100 Continue` comes, and nobody waits for it for ever: the answer is the same.
#[tokio::test]
async fn a_body_may_wait_for_100_continue() {
    let app = instance(|mut client| async move {
        while let Some(head) = client.try_head().await {
            if field(&head, "expect") == Some("100-continue") {
                client.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            let body = client.body(&head).await;
            client.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).await;
            client.send(std::str::from_utf8(&body).unwrap()).await;
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    let (status, _, body) = client.ask("abc").await;
    assert_eq!((status, body.as_str()), (200, "abc"));

    let (mut streams, _driven) = http2(face.address).await;
    let asks = Request::put("http://h/").header("expect", "100-continue").header("content-length", "3").body(()).unwrap();
    let (answer, mut sending) = streams.send_request(asks, false).unwrap();
    sending.send_data(Bytes::from_static(b"abc"), true).unwrap();
    let mut answer = within("an answer", answer).await.unwrap();
    assert_eq!((answer.status().as_u16(), piece(answer.body_mut()).await.unwrap()), (200, Bytes::from_static(b"abc")));
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Sends its 101 and a frame before it has read anything, then sends back what comes.
async fn hasty(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
    socket.write_all(answer).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let (mut reader, mut writer) = tokio::io::split(socket);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}

/// Opens so many WebSockets, one after the other, and says how many did not live.
async fn broken_websockets(face: SocketAddr, count: usize) -> usize {
    let mut broken = 0;
    for _ in 0..count {
        let mut client = connect(face).await;
        client.send(UPGRADE).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut echoed = [0; 10];
        let lives = client.try_send(b"frame").await && client.fill(&mut echoed).await && &echoed == b"firstframe";
        broken += usize::from(!lives);
    }
    broken
}

/// The answer is often there when the request is sent. On threads of their own, for it must come while pingora is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_websocket_lives_however_early_its_answer_comes() {
    let app = instance(|client| hasty(client.stream)).await;
    let over_tcp = face(app.address, |_| {}).await;
    assert_eq!(broken_websockets(over_tcp.address, 1000).await, 0, "of 1000 over TCP");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let running = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(hasty(socket));
        }
    });
    let over_unix = face(ANY_PORT, |settings| settings.app = InstanceAddress::Unix(path)).await;
    assert_eq!(broken_websockets(over_unix.address, 200).await, 0, "of 200 over a Unix socket");
    running.abort();
}

#[tokio::test]
async fn a_connection_on_which_an_upgrade_was_refused_is_not_used_again() {
    let app = support::mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, connections) in [(UPGRADE, 1), (UPGRADE, 2), (GET, 3), (GET, 3), (UPGRADE, 4), (GET, 4)] {
        assert_eq!(client.ask(request).await.0, 200);
        assert_eq!(app.connections(), connections, "{request}");
    }
}
