//! HTTP/2 without TLS: requests, what is refused, drain, and clients that flood.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use std::sync::Arc;
use support::{Client, Counters, Face, Streams, connect, face, field, http2, instance, mirror, text, until, within};
use wayfarer_http_face::names;

fn request(path: &str) -> http::request::Builder {
    Request::builder().version(Version::HTTP_2).uri(format!("http://shop.example{path}"))
}

/// A request without body, and its answer.
async fn ask(streams: &mut Streams, request: http::request::Builder) -> (StatusCode, String) {
    let (answer, _) = streams.send_request(request.body(()).unwrap(), true).unwrap();
    let answer = within("an answer", answer).await.unwrap();
    (answer.status(), text(&mut answer.into_body()).await)
}

#[tokio::test]
async fn requests_of_one_connection_run_beside_each_other() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let (mut streams, _driven) = http2(face.address).await;
    let mut answers = Vec::new();
    for number in 0..20 {
        streams = within("a stream", streams.ready()).await.unwrap();
        let asks = request(&format!("/{number}")).header("cookie", "a=b").header("cookie", "sid=s:two.c2ln");
        let (answer, mut sending) = streams.send_request(asks.body(()).unwrap(), false).unwrap();
        sending.send_data(Bytes::from(format!("body {number}")), true).unwrap();
        answers.push(answer);
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = within("an answer", answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers().get("connection"), None);
        let seen = text(&mut answer.into_body()).await;
        assert!(seen.contains(&format!(" /{number} HTTP/1.1\r\n")) && seen.ends_with(&format!("body {number}")), "{seen}");
        assert_eq!(field(&seen, "host"), Some("shop.example"), "{seen}");
        assert_eq!(field(&seen, "cookie"), Some("a=b; sid=s:two.c2ln"), "{seen}");
        assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1"), "{seen}");
        assert_eq!(field(&seen, "x-forwarded-proto"), Some("http"), "{seen}");
        assert_eq!(field(&seen, "x-forwarded-host"), Some("shop.example"), "{seen}");
        assert!(field(&seen, "traceparent").is_some() && field(&seen, "x-request-id").is_some(), "{seen}");
    }
    assert_eq!(face.announced.all(), vec!["two"; 20]);
    // Others speak HTTP/1.1 at the same address, also those whose method begins as the preface does, byte by byte.
    for method in ["GET", "PRI", "PROPFIND"] {
        let mut client = connect(face.address).await;
        for byte in method.bytes() {
            assert!(client.try_send(&[byte]).await);
        }
        assert_eq!(client.ask(" / HTTP/1.1\r\nHost: h\r\n\r\n").await.0, 200);
    }
}

#[tokio::test]
async fn without_the_setting_it_is_not_spoken() {
    let app = mirror().await;
    let face = face(app.address, |settings| settings.http2 = false).await;
    let mut client = connect(face.address).await;
    assert_eq!(client.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.0, 400);
}

/// What would be read in two ways behind the face is answered 400, too long headers 431; the connection goes on.
#[tokio::test]
async fn ambiguous_requests_are_refused_by_themselves() {
    let file = std::env::temp_dir().join(format!("wayfarer-access-http2-{}.log", std::process::id()));
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let log = file.clone();
    let face = face(app.address, move |settings| {
        settings.header_bytes_max = 8192;
        settings.access_log = Some(log);
    })
    .await;
    let (mut streams, driven) = http2(face.address).await;
    let long = "x".repeat(9000);
    for (name, value, expected) in [
        ("host", "other.example", 400),
        ("host", "shop.example, other.example", 400),
        ("content_length", "3", 400),
        ("transfer_encoding", "chunked", 400),
        ("x-long", long.as_str(), 431),
        ("x-fine", "1", 200),
    ] {
        assert_eq!(ask(&mut streams, request("/").header(name, value)).await.0, expected, "{name}: {value:.20}");
    }
    assert_eq!(ask(&mut streams, request("/").method("CONNECT")).await.0, 405);
    assert_eq!(app.connections(), 1);
    assert_eq!(counters.get(names::HEADERS_REFUSED), 5);
    drop((streams, driven));
    face.shut_down();
    face.ended().await;
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(lines.contains(r#""protocol":"HTTP/2","status":200"#), "{lines}");
    assert!(!lines.contains("shop.example") && !lines.contains("127.0.0.1"), "{lines}");
}

/// An instance that counts the requests that have come, and answers them when it is told to.
async fn waiting_instance() -> (support::Instance, tokio::sync::watch::Receiver<usize>, Arc<tokio::sync::Semaphore>) {
    let (arrived, arrival) = tokio::sync::watch::channel(0);
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let answer = Arc::clone(&go);
    let app = instance(move |mut client: Client| {
        let (arrived, answer) = (arrived.clone(), Arc::clone(&answer));
        async move {
            while client.try_head().await.is_some() {
                arrived.send_modify(|count| *count += 1);
                answer.acquire().await.unwrap().forget();
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    (app, arrival, go)
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_what_runs() {
    let (app, mut arrival, go) = waiting_instance().await;
    let face = face(app.address, |_| {}).await;
    let (mut streams, driven) = http2(face.address).await;
    let (answer, _) = streams.send_request(request("/slow").body(()).unwrap(), true).unwrap();
    within("the request is at the instance", arrival.wait_for(|count| *count == 1)).await.unwrap();
    face.draining.begin();
    // Who comes in a drain is served once, and told to go then.
    let (mut late, late_driven) = http2(face.address).await;
    let (late_answer, _) = late.send_request(request("/late").body(()).unwrap(), true).unwrap();
    within("the late one too", arrival.wait_for(|count| *count == 2)).await.unwrap();
    go.add_permits(2);
    assert_eq!(within("its answer", answer).await.unwrap().status(), 200);
    assert_eq!(within("its answer", late_answer).await.unwrap().status(), 200);
    within("the connection ends", driven).await.unwrap().unwrap();
    within("the other ends", late_driven).await.unwrap().unwrap();
    // One that has asked nothing yet is closed at once.
    let (_idle, idle_driven) = http2(face.address).await;
    face.shut_down();
    assert_eq!(face.ended().await.cut_off, 0);
    drop(within("the idle one ends", idle_driven).await);
}

#[tokio::test]
async fn a_body_that_pauses_is_given_up() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let face = face(app.address, |settings| settings.stalled_ms_max = 100).await;
    let (mut streams, _driven) = http2(face.address).await;
    let (answer, mut sending) = streams.send_request(request("/").body(()).unwrap(), false).unwrap();
    sending.send_data(Bytes::from_static(b"begun"), false).unwrap();
    let error = within("the reset", answer).await.unwrap_err();
    assert!(error.is_reset(), "{error}");
    assert_eq!(counters.get(names::BODIES_TOO_SLOW), 1);
    assert_eq!(ask(&mut streams, request("/again")).await.0, 200);
}

/// Whether the connection of `streams` still takes requests is asked with each one.
async fn reset_many(streams: &mut Streams, most: usize, is_whole: bool, mut between: impl AsyncFnMut(usize)) -> usize {
    for sent in 0..most {
        let Ok(ready) = within("a stream", streams.clone().ready()).await else { return sent };
        *streams = ready;
        let Ok((_, mut sending)) = streams.send_request(request("/").body(()).unwrap(), is_whole) else { return sent };
        between(sent).await;
        sending.send_reset(h2::Reason::CANCEL);
    }
    most
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let (app, arrival, _go) = waiting_instance().await;
    let face = face(app.address, |_| {}).await;
    // As fast as they can be sent: most are reset before they are looked at.
    let (mut streams, driven) = http2(face.address).await;
    let sent = reset_many(&mut streams, 20_000, false, async |sent| {
        if sent % 10 == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(sent < 20_000, "the flood went on");
    drop(within("the connection ends", driven).await);
    assert!(app.connections() <= 300, "{} connections to the instance", app.connections());
    assert_eq!(counters.get(names::H2_FLOODS), 1);
    // Slowly: each has reached the instance when it is given up, with its body to come or whole.
    for (floods, is_whole) in [(2, false), (3, true)] {
        let (mut streams, driven) = http2(face.address).await;
        let sent = reset_many(&mut streams, 20_000, is_whole, async |_| {
            let before = *arrival.borrow();
            let mut arrival = arrival.clone();
            drop(tokio::time::timeout(std::time::Duration::from_millis(200), arrival.wait_for(|count| *count > before)).await);
        })
        .await;
        assert!(sent < 400, "{sent} were given up");
        drop(within("the connection ends", driven).await);
        assert_eq!(counters.get(names::H2_FLOODS), floods);
    }
}

/// Raw frames: length, type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:method: POST`, `:scheme: http`, `:path: /`, `:authority: h`, packed.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'h'];

/// Sends preface, `first`, and then `again` with its turn until the face takes no more; how many bytes it took.
async fn flood(face: &Face, first: &[u8], mut again: impl FnMut(u32) -> Vec<u8>) -> usize {
    let mut client = connect(face.address).await;
    let begin = [PREFACE, &frame(4, 0, 0, &[]), first].concat();
    assert!(client.try_send(&begin).await);
    let mut bytes = 0;
    let taken = async {
        let mut turn = 0;
        loop {
            let piece = again(turn);
            // What fills the socket while nothing is read is as good as refused: the face does not read either.
            let sent = tokio::time::timeout(std::time::Duration::from_secs(3), client.try_send(&piece)).await;
            if !matches!(sent, Ok(true)) {
                return;
            }
            (bytes, turn) = (bytes + piece.len(), turn + 1);
        }
    };
    assert!(tokio::time::timeout(support::PATIENCE, taken).await.is_ok(), "still taken after {bytes} bytes");
    bytes
}

#[tokio::test]
async fn floods_of_frames_are_bounded() {
    const MIB: usize = 1 << 20;
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let (app, ..) = waiting_instance().await;
    let face = face(app.address, |_| {}).await;
    // A header that never ends: HEADERS without END_HEADERS, then CONTINUATION for ever.
    let field = [0x40, 1, b'a', 1, b'b'];
    let bytes = flood(&face, &frame(1, 0, 1, POST), |_| frame(9, 0, 1, &field.repeat(100))).await;
    assert!(bytes < 16 * MIB, "CONTINUATION: {bytes}");
    // Empty and tiny pieces of a body that nobody takes.
    let post = frame(1, 4, 1, POST);
    let bytes = flood(&face, &post, |_| frame(0, 0, 1, &[])).await;
    assert!(bytes < 16 * MIB, "empty DATA: {bytes}");
    let bytes = flood(&face, &post, |_| frame(0, 0, 1, b"x")).await;
    assert!(bytes < 16 * MIB, "tiny DATA: {bytes}");
    // Streams whose windows are made too large, so that it is the face that resets them.
    let too_large = |turn: u32| {
        let stream = 2 * turn + 1;
        [frame(1, 4, stream, POST), frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
    };
    let bytes = flood(&face, &[], too_large).await;
    assert!(bytes < 16 * MIB, "windows: {bytes}");
    // Malformed requests: another Host than :authority.
    let malformed = [POST, &[0x0f, 0x17, 1, b'x']].concat();
    let bytes = flood(&face, &[], |turn| frame(1, 5, 2 * turn + 1, &malformed)).await;
    assert!(bytes < 16 * MIB, "malformed: {bytes}");
    // What must be answered, by a client that does not read.
    for (name, again) in [("SETTINGS", frame(4, 0, 0, &[0, 3, 0, 0, 0, 9])), ("PING", frame(6, 0, 0, &[7; 8]))] {
        let bytes = flood(&face, &[], |_| again.repeat(1000)).await;
        assert!(bytes < 64 * MIB, "{name}: {bytes}");
    }
    until("floods are counted", || counters.get(names::H2_FLOODS) >= 3).await;
    assert!(counters.get(names::H2_FLOODS) <= 7, "each is counted once");
    assert_eq!(connect(face.address).await.ask("GARBAGE\r\n\r\n").await.0, 400);
}

#[tokio::test]
async fn a_client_that_only_pings_or_stops_is_cut() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let face = face(app.address, |settings| {
        settings.header_ms_max = 100;
        settings.idle_ms_max = 300;
    })
    .await;
    let mut client = connect(face.address).await;
    client.send("PRI * HTT").await;
    client.closed().await;
    let mut client = connect(face.address).await;
    client.send(std::str::from_utf8(PREFACE).unwrap()).await;
    client.closed_after_frames().await;
    assert_eq!(counters.get(names::HEADERS_OVERDUE), 1);
    let mut client = connect(face.address).await;
    assert!(client.try_send(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await);
    let pinging = async {
        while client.try_send(&frame(6, 0, 0, &[7; 8])).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("it is closed", pinging).await;
    assert!(counters.get(names::IDLE_CLOSED) >= 1);
}
