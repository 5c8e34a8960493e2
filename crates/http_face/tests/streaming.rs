//! Bodies stream: constant memory both ways, and the first bytes arrive before the last are sent.
//!
//! The only test of its file, because it measures the memory of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use support::{connect, face, field, instance, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BODY_BYTES: usize = 200 << 20;
const PIECE_BYTES: usize = 64 << 10;
const GROWTH_BYTES_MAX: usize = 40 << 20;

/// The most memory that this process has had, in bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn large_bodies_both_ways() {
    let app = instance(|client| async move {
        let echo = |request: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(request.into_body())) };
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(client.stream), hyper::service::service_fn(echo));
        drop(served.await);
    })
    .await;
    let face = face(app.address, |_| {}).await;

    // The first byte comes back while the last is not sent.
    let mut client = connect(face.address).await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(client.exactly(10).await, b"5\r\nfirst\r\n");
    client.send("4\r\nlast\r\n0\r\n\r\n").await;
    assert_eq!(client.exactly(14).await, b"4\r\nlast\r\n0\r\n\r\n");

    // An answer that begins before its request has ended closes the connection afterwards.
    assert_eq!(field(&head, "connection"), Some("close"));
    client.closed().await;

    let mut client = connect(face.address).await;
    let before = peak_bytes();
    client.send(&format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {BODY_BYTES}\r\n\r\n")).await;
    let (mut reader, mut writer) = client.stream.into_split();
    let piece: Vec<u8> = (0..PIECE_BYTES).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let sent = piece.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..BODY_BYTES / PIECE_BYTES {
            writer.write_all(&sent).await.unwrap();
        }
        writer
    });
    let receiving = async {
        let mut byte = [0];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            reader.read_exact(&mut byte).await.unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert_eq!(field(&head, "content-length"), Some(BODY_BYTES.to_string().as_str()), "{head}");
        let mut got = vec![0; PIECE_BYTES];
        for number in 0..BODY_BYTES / PIECE_BYTES {
            reader.read_exact(&mut got).await.unwrap();
            assert!(got == piece, "piece {number} differs");
        }
    };
    tokio::time::timeout(support::PATIENCE * 6, receiving).await.expect("the body did not come back in time");
    drop(within("the sender ends", sending).await.unwrap());
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "memory grew by {grown} bytes for a body of {BODY_BYTES}");
}
