//! A face that leaves: WebSockets are told to connect elsewhere, and nobody's request fails while all faces are restarted in turn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Client, Counters, connect, face, face_at, field, instance, mirror, until, within};
use wayfarer_http_face::names;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const CLOSE_1012: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];

/// Answers the handshake, sends one frame in two halves (the second when it is told to), and then waits for the end.
async fn socket(mut client: Client, go_on: Arc<tokio::sync::Semaphore>, ended: Arc<AtomicUsize>) {
    client.head().await;
    client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}\u{6}abc").await;
    go_on.acquire().await.unwrap().forget();
    client.send("def").await;
    client.rest().await;
    ended.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test]
async fn websockets_are_closed_with_1012_between_two_frames_and_not_all_at_once() {
    const SOCKETS: usize = 12;
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let (go_on, ended) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (go, end) = (Arc::clone(&go_on), Arc::clone(&ended));
    let app = instance(move |client| socket(client, Arc::clone(&go), Arc::clone(&end))).await;
    let face = face(app.address, |settings| settings.websocket_close_ms = 600).await;
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        let mut client = connect(face.address).await;
        client.send(UPGRADE).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        assert_eq!(client.exactly(5).await, b"\x01\x06abc");
        clients.push(client);
    }
    face.draining.begin();
    // Each is to be closed now, but a frame is under way.
    until("all are told", || counters.get(names::WEBSOCKETS_CLOSED) == SOCKETS as u64).await;
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    go_on.add_permits(SOCKETS);
    for client in &mut clients {
        assert_eq!(client.exactly(3).await, b"def");
        assert_eq!(client.exactly(4).await, CLOSE_1012);
        // A client answers with a close frame of its own, masked, and closes.
        client.try_send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).await;
    }
    let begun = Instant::now();
    for mut client in clients {
        client.closed().await;
    }
    until("the instance sees the ends", || ended.load(Ordering::SeqCst) == SOCKETS).await;
    assert!(begun.elapsed() < support::PATIENCE);
    face.shut_down();
    assert_eq!(face.ended().await.cut_off, 0);
}

#[tokio::test]
async fn websockets_leave_at_times_of_their_own() {
    let (go_on, ended) = (Arc::new(tokio::sync::Semaphore::new(100)), Arc::new(AtomicUsize::new(0)));
    let app = instance(move |client| socket(client, Arc::clone(&go_on), Arc::clone(&ended))).await;
    let face = face(app.address, |settings| settings.websocket_close_ms = 1000).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let mut clients = tokio::task::JoinSet::new();
    let began = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let (times, began, address) = (Arc::clone(&times), Arc::clone(&began), face.address);
        clients.spawn(async move {
            let mut client = connect(address).await;
            client.send(UPGRADE).await;
            client.head().await;
            client.exactly(8).await;
            began.fetch_add(1, Ordering::SeqCst);
            assert_eq!(client.exactly(4).await, CLOSE_1012);
            times.lock().unwrap().push(Instant::now());
        });
    }
    until("all are open", || began.load(Ordering::SeqCst) == 20).await;
    face.draining.begin();
    within("all are closed", clients.join_all()).await;
    let times = times.lock().unwrap();
    let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    // Of twenty times within a second the first and the last are this near once in 10^12 runs.
    assert!(spread > Duration::from_millis(50), "{spread:?}");
}

/// Where a balancer may send requests, and which it asks next.
#[derive(Default)]
struct Balancer {
    ready: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    fn choose(&self) -> SocketAddr {
        let ready = self.ready.lock().unwrap();
        ready[self.next.fetch_add(1, Ordering::SeqCst) % ready.len()]
    }
}

/// One request over a connection that is kept as long as the face keeps it.
async fn ask(pool: &Mutex<Vec<(SocketAddr, Client)>>, to: SocketAddr) -> Result<u16, String> {
    let kept = {
        let mut pool = pool.lock().unwrap();
        pool.iter().position(|(address, _)| *address == to).map(|at| pool.swap_remove(at).1)
    };
    let mut client = match kept {
        Some(client) => client,
        None => connect(to).await,
    };
    if !client.try_send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await {
        return Err("the connection was closed".to_owned());
    }
    let head = client.try_head().await.ok_or("no answer")?;
    client.try_body(&head).await;
    if field(&head, "connection") != Some("close") {
        pool.lock().unwrap().push((to, client));
    }
    Ok(support::status(&head))
}

/// Requests begin at a fixed rate, whatever becomes of those before. Each face drains (readiness fails, the balancer sees it), ends,
/// and is there again at its address.
#[tokio::test]
async fn nobody_notices_when_three_faces_are_restarted_in_turn() {
    let apps = [mirror().await, mirror().await, mirror().await];
    let mut faces = Vec::new();
    for app in &apps {
        faces.push(Some(face(app.address, |_| {}).await));
    }
    let addresses: Vec<SocketAddr> = faces.iter().map(|face| face.as_ref().unwrap().address).collect();
    let balancer = Arc::new(Balancer { ready: Mutex::new(addresses.clone()), ..Balancer::default() });
    let pool = Arc::new(Mutex::new(Vec::new()));
    let over = Arc::new(AtomicBool::new(false));
    let (load, stop, kept) = (Arc::clone(&balancer), Arc::clone(&over), Arc::clone(&pool));
    let requests = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        let mut period = tokio::time::interval(Duration::from_millis(4));
        while !stop.load(Ordering::SeqCst) {
            period.tick().await;
            let (pool, to) = (Arc::clone(&kept), load.choose());
            tasks.spawn(async move { ask(&pool, to).await });
        }
        tasks.join_all().await
    });
    for (at, app) in apps.iter().enumerate() {
        let served = app.connections();
        until("it serves", || app.connections() > served || served > 0).await;
        let leaving = faces[at].take().unwrap();
        leaving.draining.begin();
        // The balancer learns of it a moment later; what it sends until then is served, and its connections end with their answers.
        tokio::time::sleep(Duration::from_millis(100)).await;
        balancer.ready.lock().unwrap().retain(|address| *address != addresses[at]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        pool.lock().unwrap().retain(|(address, _)| *address != addresses[at]);
        leaving.shut_down();
        assert_eq!(leaving.ended().await.cut_off, 0);
        faces[at] = Some(face_at(addresses[at], app.address, |_| {}).await);
        balancer.ready.lock().unwrap().push(addresses[at]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    over.store(true, Ordering::SeqCst);
    let outcomes = within("all are answered", requests).await.unwrap();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).collect();
    assert!(outcomes.len() > 100, "{}", outcomes.len());
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), outcomes.len(), failed.first());
}
