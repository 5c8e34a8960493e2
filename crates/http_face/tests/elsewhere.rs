//! Requests whose session is at another member: two real faces, one that clients come to and one that members come to.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::{ANY_PORT, Counters, Instance, connect, field, http2, instance, mirror, text, until, within};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use wayfarer_http_face::{Ended, HttpFaceSettings, Identity, Member, PassKey, Place, Run, Sessions, bind, names};
use wayfarer_identity::{Codec, Place as Named, Source};

/// What a face is told of sessions, and what it has said of them.
#[derive(Default)]
struct Told {
    at: Mutex<Option<SocketAddr>>,
    /// Whoever waits for a place waits for one of these.
    waiting: Mutex<Vec<oneshot::Sender<Option<Member>>>>,
    is_asked: bool,
    is_gone: bool,
    is_silent: AtomicBool,
    said: Mutex<Vec<String>>,
}

impl Told {
    fn say(&self, what: String) {
        self.said.lock().unwrap().push(what);
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.lock().unwrap())
    }
}

impl Sessions for Told {
    fn arriving(&self, _session: &[u8], run: Run<'_>) -> Option<Ended> {
        self.say(format!("runs {} {} {:?}", run.method, run.path, run.came));
        None
    }

    fn place(&self, _session: &[u8]) -> Place {
        if self.is_asked {
            let (sender, found) = oneshot::channel();
            self.waiting.lock().unwrap().push(sender);
            return Place::Unknown(Box::pin(async move { found.await.unwrap_or(None) }));
        }
        self.at.lock().unwrap().map_or(Place::Here, |address| Place::At(Member { address, life: 7 }))
    }

    fn is_here(&self, _session: &[u8]) -> bool {
        !self.is_gone
    }

    fn misplaced(&self, _session: &[u8], at: Member) {
        self.say(format!("misplaced {}", at.life));
    }

    fn unreachable(&self, member: Member) {
        self.say(format!("unreachable {}", member.life));
    }

    fn is_silent(&self, _member: Member) -> bool {
        self.is_silent.load(Ordering::SeqCst)
    }

    fn learned(&self, _before: Option<&[u8]>, _now: &[u8]) {}

    fn left(&self, _session: &[u8], answered: bool) {
        self.say(format!("left {answered}"));
    }

    fn owner(&self, _session: &[u8], _is_new: bool) -> Option<String> {
        None
    }
}

struct Face {
    address: SocketAddr,
    told: Arc<Told>,
    _stop: watch::Sender<bool>,
    running: JoinHandle<wayfarer_http_face::Closed>,
}

impl Drop for Face {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn key() -> PassKey {
    PassKey::new([3; 32])
}

async fn face(app: SocketAddr, told: Told, change: impl FnOnce(&mut HttpFaceSettings)) -> Face {
    let mut settings = HttpFaceSettings::new(ANY_PORT, app);
    settings.session = Identity::new(vec![Source::new(Named::Cookie("sid".to_owned()), Codec::Plain)]);
    change(&mut settings);
    let told = Arc::new(told);
    let face = bind(settings, told.clone() as Arc<dyn Sessions>).await.unwrap();
    let (stop, heard) = watch::channel(false);
    Face { address: face.local_addr(), told, _stop: stop, running: tokio::spawn(face.run(heard)) }
}

/// The face of A for clients, which believes the session to be at `at`.
async fn clients(app: &Instance, at: Option<SocketAddr>) -> Face {
    face(app.address, Told { at: Mutex::new(at), ..Told::default() }, |settings| settings.forwards = Some(key())).await
}

/// The face of B for members.
async fn members(app: &Instance, is_gone: bool) -> Face {
    face(app.address, Told { is_gone, ..Told::default() }, |settings| settings.takes_passes = Some(key())).await
}

const ASK: &str = "GET /cart?a=b HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\nwayfarer-pass: forged\r\n\r\n";

#[tokio::test]
async fn a_request_runs_at_the_owner_and_is_announced_there_alone() {
    let (here, there) = (mirror().await, mirror().await);
    let b = members(&there, false).await;
    let a = clients(&here, Some(b.address)).await;
    let mut client = connect(a.address).await;
    for _ in 0..3 {
        let (status, head, body) = client.ask(ASK).await;
        assert_eq!((status, field(&head, "wayfarer-elsewhere")), (200, None));
        assert_eq!(field(&body, "x-forwarded-for"), Some("127.0.0.1"), "{body}");
        assert!(!body.contains("wayfarer"), "{body}");
    }
    assert_eq!((here.connections(), there.connections(), a.told.said().len()), (0, 1, 0));
    until("the last end", || b.told.said.lock().unwrap().len() == 6).await;
    assert_eq!(b.told.said()[..2], ["runs GET /cart Forwarded", "left true"]);
}

#[tokio::test]
async fn the_answer_says_that_the_session_has_left() {
    let (here, there) = (mirror().await, mirror().await);
    let b = members(&there, true).await;
    let a = clients(&here, Some(b.address)).await;
    let (status, head, _) = connect(a.address).await.ask(ASK).await;
    assert_eq!((status, field(&head, "wayfarer-elsewhere")), (200, None));
    assert_eq!(a.told.said(), ["misplaced 7"]);
}

#[tokio::test]
async fn a_member_without_a_connection_to_give_is_done_without() {
    let closed = TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap();
    let here = mirror().await;
    let a = clients(&here, Some(closed)).await;
    let post = "POST /cart HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\ncontent-length: 4\r\n\r\nbody";
    let (status, _, body) = connect(a.address).await.ask(post).await;
    assert!(status == 200 && body.ends_with("\r\n\r\nbody"), "{body}");
    until("the end", || a.told.said.lock().unwrap().len() == 3).await;
    assert_eq!(a.told.said(), ["unreachable 7", "runs POST /cart Directly", "left true"]);
    assert_eq!(here.connections(), 1);
}

#[tokio::test]
async fn a_request_that_a_member_has_taken_runs_nowhere_else() {
    let (here, breaks) = (mirror().await, instance(|mut client| async move { drop(client.head().await) }).await);
    let b = members(&breaks, false).await;
    // Not a face at all, but what takes a request and goes.
    let gone = instance(|mut client| async move { drop(client.head().await) }).await;
    for at in [b.address, gone.address] {
        let a = clients(&here, Some(at)).await;
        let post = "POST /cart HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\ncontent-length: 0\r\n\r\n";
        let (status, head, _) = connect(a.address).await.ask(post).await;
        assert_eq!((status, field(&head, "retry-after")), (502, Some("1")));
    }
    assert_eq!(here.connections(), 0);
}

/// Nothing of them has come to an instance.
#[tokio::test]
async fn what_a_member_cannot_hand_to_its_instance_runs_where_it_came() {
    let counters = Counters::default();
    let _counting = metrics::set_default_local_recorder(&counters);
    let closed = TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap();
    let here = mirror().await;
    let b = face(closed, Told::default(), |settings| settings.takes_passes = Some(key())).await;
    let a = clients(&here, Some(b.address)).await;
    let mut client = connect(a.address).await;
    let post = "POST /cart HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\ncontent-length: 4\r\n\r\nbody";
    let chunks =
        "POST /cart HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    for request in [post, ASK, chunks] {
        let (status, head, body) = client.ask(request).await;
        assert_eq!((status, field(&head, "wayfarer-given-back")), (200, None), "{body}");
        assert_eq!(body.contains("body"), request != ASK, "{body}");
        assert!(!body.contains("wayfarer"), "{body}");
        let said = ["unreachable 7", &format!("runs {} /cart Directly", request.split(' ').next().unwrap()), "left true"];
        until("the end", || a.told.said.lock().unwrap().len() == said.len()).await;
        assert_eq!(a.told.said(), said);
    }
    assert_eq!((here.connections(), counters.get(&format!("{}{{outcome=given_back}}", names::FORWARDED))), (1, 3));
    // Of a long one not all is kept. What a client or an instance says of this counts for nothing.
    let long = "POST /cart HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\nconnection: close\r\ncontent-length: 200000\r\n\r\n";
    client.try_send(format!("{long}{}", "x".repeat(200_000)).as_bytes()).await;
    if let Some(head) = client.try_head().await {
        assert!(
            support::status(&head) == 200 || (support::status(&head), field(&head, "retry-after")) == (503, Some("1")),
            "{head}"
        );
    }
    let liar = instance(|mut client| async move {
        while client.try_head().await.is_some() {
            let ours = "wayfarer-given-back: 1\r\nwayfarer-pass: x\r\nwayfarer-elsewhere: 1\r\n";
            client.send(&format!("HTTP/1.1 200 OK\r\n{ours}content-length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let c = members(&liar, false).await;
    for to in [clients(&liar, None).await, clients(&here, Some(c.address)).await] {
        let (status, head, _) = connect(to.address).await.ask(ASK).await;
        assert!(status == 200 && !head.contains("wayfarer"), "{head}");
    }
    assert_eq!(here.connections(), 1);
}

/// HTTP/1.0 allows it; what goes on is of HTTP/1.1, which does not.
#[tokio::test]
async fn a_request_without_a_host_is_answered_the_same_either_way() {
    let (here, there) = (mirror().await, mirror().await);
    let b = members(&there, false).await;
    let (direct, forwarding) = (clients(&here, None).await, clients(&here, Some(b.address)).await);
    let mut seen = Vec::new();
    for face in [&direct, &forwarding] {
        let (status, _, body) = connect(face.address).await.ask("GET /10 HTTP/1.0\r\ncookie: sid=s1\r\n\r\n").await;
        assert_eq!((status, field(&body, "host"), field(&body, "x-forwarded-host")), (200, Some("localhost"), None), "{body}");
        seen.push(body.lines().next().unwrap().to_owned());
    }
    assert_eq!(seen, ["GET /10 HTTP/1.1", "GET /10 HTTP/1.1"]);
    assert_eq!((here.connections(), there.connections()), (1, 1));
}

#[tokio::test]
async fn nothing_without_a_pass_comes_in_where_members_come() {
    let counters = Counters::default();
    let _counting = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let b = members(&app, false).await;
    for pass in ["", "wayfarer-pass: 1.1.x\r\n", "wayfarer-pass: 1.1.x\r\nwayfarer-pass: 1.1.x\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\n{pass}\r\n");
        let (status, _, _) = connect(b.address).await.ask(&request).await;
        assert_eq!(status, 403, "{pass}");
    }
    assert_eq!((app.connections(), counters.get(names::PASSES_REFUSED)), (0, 3));
    // Members of another cluster have another key.
    let other = face(app.address, Told::default(), |settings| settings.takes_passes = Some(PassKey::new([4; 32]))).await;
    let a = clients(&app, Some(other.address)).await;
    assert_eq!(connect(a.address).await.ask(ASK).await.0, 403);
}

#[tokio::test]
async fn who_waits_is_answered_503_beyond_the_bounds() {
    let counters = Counters::default();
    let _counting = metrics::set_default_local_recorder(&counters);
    let app = mirror().await;
    let change = |settings: &mut HttpFaceSettings| {
        settings.forwards = Some(key());
        (settings.waiting_max, settings.waiting_ms_max) = (2, 60_000);
    };
    let a = face(app.address, Told { is_asked: true, ..Told::default() }, change).await;
    let mut waiting = Vec::new();
    for n in 1..=2 {
        let mut client = connect(a.address).await;
        client.send(ASK).await;
        waiting.push(client);
        until("one more that waits", || a.told.waiting.lock().unwrap().len() == n).await;
    }
    let (status, head, _) = connect(a.address).await.ask(ASK).await;
    assert_eq!((status, field(&head, "retry-after")), (503, Some("1")));
    assert_eq!(counters.get(&format!("{}{{bound=count}}", names::WAITING_REFUSED)), 1);
    // Who has waited is served, here or there, and gives the place back.
    let places: Vec<_> = a.told.waiting.lock().unwrap().drain(..).collect();
    let heard = places.into_iter().map(|place| place.send(None)).filter(Result::is_ok).count();
    assert_eq!(heard, 2, "the one that was refused waits for nothing");
    for client in &mut waiting {
        assert_eq!(client.answer().await.0, 200);
    }
    assert_eq!(a.told.said()[0], "runs GET /cart LookedUp");

    let soon = |settings: &mut HttpFaceSettings| (settings.forwards, settings.waiting_ms_max) = (Some(key()), 20);
    let b = face(app.address, Told { is_asked: true, ..Told::default() }, soon).await;
    let (status, head, _) = within("the answer", connect(b.address).await.ask(ASK)).await;
    assert_eq!((status, field(&head, "retry-after")), (503, Some("1")));
    let small = |settings: &mut HttpFaceSettings| (settings.forwards, settings.waiting_bytes_max) = (Some(key()), 10);
    let c = face(app.address, Told { is_asked: true, ..Told::default() }, small).await;
    assert_eq!(connect(c.address).await.ask(ASK).await.0, 503);
    for (bound, times) in [("time", 1), ("bytes", 1), ("count", 1)] {
        assert_eq!(counters.get(&format!("{}{{bound={bound}}}", names::WAITING_REFUSED)), times, "{bound}");
    }
    // A request of no session waits for nothing.
    assert_eq!(connect(c.address).await.ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n").await.0, 200);
}

#[tokio::test]
async fn streams_of_http2_are_forwarded_one_by_one() {
    let (here, there) = (mirror().await, mirror().await);
    let b = members(&there, false).await;
    let a = clients(&here, Some(b.address)).await;
    let (streams, _connection) = http2(a.address).await;
    let mut ready = within("ready", streams.ready()).await.unwrap();
    for body in ["one", "two"] {
        let request =
            http::Request::post("http://shop/cart?a=b").header("cookie", "x=y").header("cookie", "sid=s1").body(()).unwrap();
        let (answer, mut out) = ready.send_request(request, false).unwrap();
        out.send_data(body.into(), true).unwrap();
        let answer = within("the answer", answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        let got = text(&mut answer.into_body()).await;
        assert_eq!((field(&got, "host"), field(&got, "x-forwarded-host")), (Some("shop"), Some("shop")), "{got}");
        assert!(got.ends_with(body), "{got}");
        ready = within("ready", ready.ready()).await.unwrap();
    }
    assert_eq!((here.connections(), a.told.said().len()), (0, 0));
}

/// Keeps its connection, and answers nothing.
async fn hold(_client: support::Client) {
    std::future::pending::<()>().await;
}

/// As a paused process.
#[tokio::test]
async fn a_member_that_stands_still_is_waited_for_in_vain_for_a_while() {
    let (here, still) = (mirror().await, instance(hold).await);
    let a = clients(&here, Some(still.address)).await;
    let post = "POST /cart HTTP/1.1\r\nhost: shop\r\ncookie: sid=s1\r\ncontent-length: 8\r\n\r\nbody";
    let (mut with_a_body, mut without) = (connect(a.address).await, connect(a.address).await);
    with_a_body.send(post).await;
    without.send(ASK).await;
    let (streams, _connection) = http2(a.address).await;
    let request = http::Request::get("http://shop/cart").header("cookie", "sid=s1").body(()).unwrap();
    let (stream, _) = within("ready", streams.ready()).await.unwrap().send_request(request, true).unwrap();
    until("three requests at the member", || still.connections() == 3).await;
    a.told.is_silent.store(true, Ordering::SeqCst);
    for client in [&mut with_a_body, &mut without] {
        let (status, head, body) = client.answer().await;
        assert_eq!((status, field(&head, "retry-after")), (503, Some("1")), "{body}");
        client.closed().await;
    }
    assert!(within("the stream", stream).await.is_err());
    assert_eq!(here.connections(), 0);
    // What runs here because there was no connection is left alone, however long it takes.
    let slow = instance(|mut client| async move {
        client.head().await;
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let closed = TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap();
    let b = clients(&slow, Some(closed)).await;
    b.told.is_silent.store(true, Ordering::SeqCst);
    assert_eq!(connect(b.address).await.ask(ASK).await.0, 200);
}
