//! What a client and an instance see of each other through the face: headers, framing, reuse, upgrades.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::{connect, face, field, instance, mirror, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn headers_of_a_request() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    let (status, _, seen) = client
        .ask(
            "GET /a%20b?c=d HTTP/1.1\r\nHost: shop.example:81\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\
             X-Forwarded-Proto: https\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\n\
             Proxy-Connection: keep-alive\r\nCookie: a=b\r\nX-End: 2\r\n\r\n",
        )
        .await;
    assert_eq!(status, 200);
    assert!(seen.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{seen}");
    assert_eq!(field(&seen, "host"), Some("shop.example:81"));
    assert_eq!(field(&seen, "x-forwarded-for"), Some("1.2.3.4, 5.6.7.8, 127.0.0.1"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&seen, "x-forwarded-host"), Some("shop.example:81"));
    let trace = field(&seen, "traceparent").unwrap();
    assert_eq!((trace.len(), trace.get(3..35)), (55, field(&seen, "x-request-id")), "{seen}");
    assert_eq!(field(&seen, "x-end"), Some("2"));
    assert_eq!(field(&seen, "cookie"), Some("a=b"));
    for hop in ["connection", "x-mine", "keep-alive", "te", "proxy-connection"] {
        assert_eq!(field(&seen, hop), None, "{hop} in {seen}");
    }
}

#[tokio::test]
async fn a_session_is_announced_before_the_instance_sees_its_request() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (tell, hear) = tokio::sync::watch::channel(None::<Arc<support::Announced>>);
    let noted = Arc::clone(&told);
    let app = instance(move |mut client| {
        let (hear, noted) = (hear.clone(), Arc::clone(&noted));
        async move {
            while client.try_head().await.is_some() {
                let announced = hear.borrow().clone().unwrap();
                noted.lock().unwrap().push(announced.all());
                client.send(EMPTY).await;
            }
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    tell.send(Some(Arc::clone(&face.announced))).unwrap();
    let mut client = connect(face.address).await;
    for cookie in ["sid=s%3Aone.c2ln", "x=y; sid=s:two.c2ln", "sid=unsigned", "other=s%3Athree.c2ln"] {
        client.ask(&format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n")).await;
    }
    let seen = told.lock().unwrap().clone();
    assert_eq!(seen, [vec!["one"], vec!["one", "two"], vec!["one", "two"], vec!["one", "two"]]);
}

/// What somebody could want to know of a client is not in its line.
#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_nothing_private() {
    let file = std::env::temp_dir().join(format!("wayfarer-access-{}.log", std::process::id()));
    let app = mirror().await;
    let log = file.clone();
    let face = face(app.address, move |settings| settings.access_log = Some(log)).await;
    let mut client = connect(face.address).await;
    let head = "Host: h\r\nCookie: sid=s%3Asecret-id.c2ln\r\nX-Request-Id: \"q\"\r\n";
    client.ask(&format!("POST /private/path?secret=1 HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\nabc")).await;
    client.ask(&format!("GET /private HTTP/1.1\r\n{head}\r\n")).await;
    client.ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").await;
    face.shut_down();
    face.ended().await;
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!((&lines[0]["method"], &lines[0]["status"], &lines[0]["session"]), (&"POST".into(), &200.into(), &true.into()));
    assert_eq!((&lines[0]["request_bytes"], &lines[0]["request_id"]), (&3.into(), &"\"q\"".into()));
    assert_eq!((&lines[2]["status"], &lines[2]["session"]), (&400.into(), &false.into()));
    assert!(lines[1]["trace_id"].as_str().unwrap().len() == 32 && lines[1]["time_unix_ms"].as_u64().unwrap() > 0);
    for private in ["secret", "private", "127.0.0.1"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

/// An instance that takes h2c must not be reached through a tunnel past the face.
#[tokio::test]
async fn an_upgrade_to_anything_but_a_websocket_is_not_passed_on() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    let (status, _, seen) = client
        .ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
        .await;
    assert_eq!((status, field(&seen, "upgrade"), field(&seen, "http2-settings")), (200, None, None), "{seen}");
}

#[tokio::test]
async fn sessions_are_learned_from_answers() {
    let app = instance(|mut client| async move {
        while let Some(head) = client.try_head().await {
            let set = field(&head, "x-set").unwrap_or_default().to_owned();
            client.send(&format!("HTTP/1.1 200 OK\r\n{set}\r\ncontent-length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    for (cookie, set) in [
        ("", "Set-Cookie: sid=s%3Anew.c2ln; Path=/"),
        ("sid=s%3Anew.c2ln", "Set-Cookie: sid=s%3Anew.c2ln; Path=/"),
        ("sid=s%3Anew.c2ln", "Set-Cookie: sid=s%3Alogin.c2ln; Path=/"),
        ("sid=s%3Alogin.c2ln", "Set-Cookie: sid=; Max-Age=0"),
        ("sid=s%3Alogin.c2ln", "Set-Cookie: other=s%3Ax.c2ln"),
    ] {
        client.ask(&format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\nX-Set: {set}\r\n\r\n")).await;
    }
    let expected = [(None, "new".to_owned()), (Some("new".to_owned()), "login".to_owned())];
    assert_eq!(face.announced.learned(), expected);
}

#[tokio::test]
async fn connections_are_used_again_on_both_sides() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    for _ in 0..5 {
        let (status, head, _) = client.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(status, 200);
        assert_eq!(field(&head, "connection"), Some("keep-alive"));
    }
    let (_, head, _) = client.ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(field(&head, "connection"), Some("close"));
    client.closed().await;
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    let requests: String = (0..20)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: h\r\nCookie: sid=s%3A{n}.c2ln\r\nContent-Length: 3\r\n\r\nabc"))
        .collect();
    client.send(&requests).await;
    for n in 0..20 {
        let (_, _, seen) = client.answer().await;
        assert!(seen.starts_with(&format!("POST /{n} ")) && seen.ends_with("\r\n\r\nabc"), "{seen}");
    }
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(face.announced.all(), expected);
}

#[tokio::test]
async fn the_end_of_each_request_is_told_once() {
    let app = instance(|mut client| async move {
        while let Some(head) = client.try_head().await {
            if head.starts_with("GET /answered ") {
                client.send(EMPTY).await;
            }
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let request = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: h\r\nCookie: sid=s%3A{path}.c2ln\r\n\r\n");
    let mut client = connect(face.address).await;
    assert_eq!(client.ask(&request("answered")).await.0, 200);
    client.send(&request("left")).await;
    until("the request is announced", || face.announced.all().len() == 2).await;
    drop(client);
    until("its client's end is told", || face.announced.left().len() == 2).await;
    let nobody = support::face(std::net::SocketAddr::from(([127, 0, 0, 1], 1)), |_| {}).await;
    assert_eq!(connect(nobody.address).await.ask(&request("refused")).await.0, 502);
    until("the failure is told", || nobody.announced.left().len() == 1).await;
    assert_eq!(face.announced.left(), [("answered".to_owned(), true), ("left".to_owned(), false)]);
    assert_eq!(nobody.announced.left(), [("refused".to_owned(), false)]);
}

/// Many clients, threads and sizes at once: each gets its own answer, and its session is announced as often as it asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_gets_what_is_another_s() {
    const CLIENTS: usize = 50;
    const REQUESTS: usize = 20;
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let address = face.address;
        clients.spawn(async move {
            let mut client = connect(address).await;
            for round in 0..REQUESTS {
                let body = format!("{number}/{round};").repeat(1 + (number * 97 + round * 31) % 3000);
                let length = body.len();
                let request = format!(
                    "POST /{number}/{round} HTTP/1.1\r\nHost: h\r\nCookie: sid=s%3A{number}.c2ln\r\nContent-Length: {length}\r\n\r\n"
                );
                client.send(&request).await;
                client.send(&body).await;
                let (status, _, seen) = client.answer().await;
                assert_eq!(status, 200);
                assert!(seen.starts_with(&format!("POST /{number}/{round} ")) && seen.ends_with(&format!("\r\n\r\n{body}")));
            }
        });
    }
    within("all are answered", clients.join_all()).await;
    let announced = face.announced.all();
    for number in 0..CLIENTS {
        assert_eq!(announced.iter().filter(|id| **id == number.to_string()).count(), REQUESTS);
    }
}

#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    let app = instance(|mut client| async move {
        client.head().await;
        client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n").await;
        client.rest().await;
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
    assert_eq!(client.rest().await, "abcdef");
}

#[tokio::test]
async fn headers_of_an_answer() {
    let app = instance(|mut client| async move {
        client.head().await;
        client
            .send(
                "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
                 Keep-Alive: timeout=5\r\nContent-Length: 9\r\nX-End: 2\r\n\r\n",
            )
            .await;
        client.rest().await;
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.to_lowercase().matches("set-cookie: ").count(), 2, "{head}");
    assert_eq!(field(&head, "content-length"), Some("9"));
    assert_eq!(field(&head, "x-end"), Some("2"));
    assert_eq!(field(&head, "connection"), Some("keep-alive"));
    assert_eq!(field(&head, "keep-alive"), None);
    assert_eq!(field(&head, "x-mine"), None);
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends_its_body() {
    let app = instance(|mut client| async move {
        let head = client.head().await;
        assert_eq!(field(&head, "expect"), Some("100-continue"));
        client.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.exactly(3).await, b"abc");
        client.send(EMPTY).await;
        client.rest().await;
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 100"));
    client.send("abc").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: sid=s%3Asocket.c2ln\r\n\r\n";

/// Answers the handshake, then sends back what comes.
async fn socket(mut client: support::Client) {
    let head = client.head().await;
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert!(field(&head, "connection").unwrap().eq_ignore_ascii_case("upgrade"));
    client
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .await;
    let (mut reader, mut writer) = client.stream.split();
    let mut buffer = [0; 1024];
    loop {
        let count = reader.read(&mut buffer).await.unwrap_or(0);
        if count == 0 || buffer[..count].ends_with(b"bye") {
            return;
        }
        writer.write_all(&buffer[..count]).await.unwrap();
    }
}

#[tokio::test]
async fn a_websocket_may_be_silent() {
    let app = instance(socket).await;
    let stalled_ms_max = 100;
    let face = face(app.address, |settings| {
        settings.stalled_ms_max = stalled_ms_max;
        settings.header_ms_max = stalled_ms_max;
        settings.idle_ms_max = stalled_ms_max;
    })
    .await;
    let mut client = connect(face.address).await;
    client.send(UPGRADE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert_eq!(face.announced.all(), ["socket"]);
    for message in ["\u{1}one", "two"] {
        // The silence is what is tested: several times each limit that holds for other requests.
        tokio::time::sleep(Duration::from_millis(stalled_ms_max * 5)).await;
        client.send(message).await;
        assert_eq!(client.exactly(message.len()).await, message.as_bytes());
    }
    client.send("bye").await;
    client.closed().await;
}

#[tokio::test]
async fn a_websocket_ends_at_the_instance_when_its_client_leaves() {
    let (ended, mut end) = tokio::sync::watch::channel(false);
    let app = instance(move |client| {
        let ended = ended.clone();
        async move {
            socket(client).await;
            ended.send(true).unwrap();
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send(UPGRADE).await;
    client.head().await;
    drop(client);
    within("the instance sees the end", end.wait_for(|ended| *ended)).await.unwrap();
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_any_other() {
    let app = mirror().await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    assert_eq!(client.ask(UPGRADE).await.0, 200);
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.0, 200);
}

#[tokio::test]
async fn the_instance_learns_that_a_client_has_left() {
    let (ended, end) = tokio::sync::watch::channel(false);
    let app = instance(move |mut client| {
        let ended = ended.clone();
        async move {
            client.head().await;
            client.closed().await;
            ended.send(true).unwrap();
        }
    })
    .await;
    let face = face(app.address, |_| {}).await;
    let mut client = connect(face.address).await;
    client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    until("the request is at the instance", || app.connections() == 1).await;
    drop(client);
    until("the instance sees the end", || *end.borrow()).await;
}
