//! What the face's tests share: a face that runs, raw instances behind it, raw clients before it, counters and log lines.
//!
//! Every wait has the deadline [`PATIENCE`]; every server ends when its handle is dropped, also after a failed assertion.
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wayfarer_http_face::{Closed, Draining, Ended, HttpFaceSettings, Identity, Run, Sessions};
use wayfarer_identity::{Codec, Place, Source};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Remembers which sessions were announced.
#[derive(Default)]
pub struct Announced(Mutex<Vec<String>>, Mutex<Vec<(Option<String>, String)>>, Mutex<Vec<(String, bool)>>);

impl Announced {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Whose requests have ended, and whether they were answered.
    pub fn left(&self) -> Vec<(String, bool)> {
        self.2.lock().unwrap().clone()
    }

    /// What answers gave: before, now.
    pub fn learned(&self) -> Vec<(Option<String>, String)> {
        self.1.lock().unwrap().clone()
    }
}

impl Sessions for Announced {
    fn owner(&self, _session: &[u8], _is_new: bool) -> Option<String> {
        None
    }

    fn arriving(&self, session: &[u8], _run: Run<'_>) -> Option<Ended> {
        self.0.lock().unwrap().push(String::from_utf8_lossy(session).into_owned());
        None
    }

    fn learned(&self, before: Option<&[u8]>, now: &[u8]) {
        let text = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
        self.1.lock().unwrap().push((before.map(text), text(now)));
    }

    fn left(&self, session: &[u8], answered: bool) {
        self.2.lock().unwrap().push((String::from_utf8_lossy(session).into_owned(), answered));
    }
}

/// A client's side of an HTTP/2 connection.
pub type Streams = h2::client::SendRequest<bytes::Bytes>;

/// A client in HTTP/2 without TLS, and the task that drives its connection.
pub async fn http2(address: SocketAddr) -> (Streams, JoinHandle<Result<(), h2::Error>>) {
    let socket = TcpStream::connect(address).await.unwrap();
    let (streams, connection) = within("handshake", h2::client::handshake(socket)).await.unwrap();
    (streams, tokio::spawn(connection))
}

/// The next piece of a body in HTTP/2; `None`: there is no more.
pub async fn piece(body: &mut h2::RecvStream) -> Option<bytes::Bytes> {
    let piece = within("a piece", body.data()).await?.unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    Some(piece)
}

/// The whole of it.
pub async fn text(body: &mut h2::RecvStream) -> String {
    let mut text = Vec::new();
    while let Some(piece) = piece(body).await {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

/// A face that runs until it is stopped or dropped.
pub struct Face {
    pub address: SocketAddr,
    pub announced: Arc<Announced>,
    pub draining: Draining,
    shutdown: watch::Sender<bool>,
    running: JoinHandle<Closed>,
}

pub async fn face(app: SocketAddr, change: impl FnOnce(&mut HttpFaceSettings)) -> Face {
    face_at(ANY_PORT, app, change).await
}

pub async fn face_at(listen: SocketAddr, app: SocketAddr, change: impl FnOnce(&mut HttpFaceSettings)) -> Face {
    let mut settings = HttpFaceSettings::new(listen, app);
    settings.session = Identity::new(vec![Source::new(Place::Cookie("sid".to_owned()), Codec::Express)]);
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    change(&mut settings);
    let announced = Arc::new(Announced::default());
    let face = wayfarer_http_face::bind(settings, Arc::clone(&announced) as Arc<dyn Sessions>).await.unwrap();
    let (shutdown, heard) = watch::channel(false);
    let (address, draining) = (face.local_addr(), face.draining());
    Face { address, announced, draining, shutdown, running: tokio::spawn(face.run(heard)) }
}

impl Face {
    /// Says that it must end; [`Face::ended`] waits for it.
    pub fn shut_down(&self) {
        self.shutdown.send(true).unwrap();
    }

    pub async fn ended(mut self) -> Closed {
        within("the face ends", &mut self.running).await.unwrap()
    }

    pub fn is_running(&self) -> bool {
        !self.running.is_finished()
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A server that runs a closure per connection.
pub struct Instance {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

pub async fn instance<F, Serving>(serve: F) -> Instance
where
    F: Fn(Client) -> Serving + Send + 'static,
    Serving: Future<Output = ()> + Send + 'static,
{
    instance_at(ANY_PORT, serve).await
}

pub async fn instance_at<F, Serving>(address: SocketAddr, serve: F) -> Instance
where
    F: Fn(Client) -> Serving + Send + 'static,
    Serving: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let running = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tasks.spawn(serve(Client { stream, unread: Vec::new() }));
        }
    });
    Instance { address, connections, running }
}

impl Instance {
    /// Connections that it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// An instance that answers every request with what it got: its header, then its body, as text.
pub async fn mirror() -> Instance {
    instance(mirror_connection).await
}

pub async fn mirror_connection(mut client: Client) {
    while let Some(head) = client.try_head().await {
        let body = client.body(&head).await;
        let text = format!("{head}{}", String::from_utf8_lossy(&body));
        client.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
    }
}

/// One end of a raw connection; instances use it too, for their side.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

pub async fn connect(address: SocketAddr) -> Client {
    Client { stream: within("connect", TcpStream::connect(address)).await.unwrap(), unread: Vec::new() }
}

impl Client {
    pub async fn send(&mut self, text: &str) {
        within("send", self.stream.write_all(text.as_bytes())).await.unwrap();
    }

    /// Sends what the other side may refuse to take.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        within("send", self.stream.write_all(bytes)).await.is_ok()
    }

    /// Reads more; false at the end of the connection (or a reset).
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let count = within("read", self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// A header with its blank line; `None` if the connection ends before.
    pub async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub async fn head(&mut self) -> String {
        self.try_head().await.expect("the connection ended before a header")
    }

    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.more().await, "the connection ended after {} of {count} bytes", self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// As [`Client::exactly`], of a connection that may end before; whether it did not.
    pub async fn fill(&mut self, bytes: &mut [u8]) -> bool {
        while self.unread.len() < bytes.len() {
            if !self.more().await {
                return false;
            }
        }
        bytes.copy_from_slice(&self.unread.drain(..bytes.len()).collect::<Vec<_>>());
        true
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.unread)).unwrap()
    }

    /// A body as its header frames it; chunks are joined.
    pub async fn body(&mut self, head: &str) -> Vec<u8> {
        if let Some(length) = field(head, "content-length") {
            return self.exactly(length.parse().unwrap()).await;
        }
        let mut body = Vec::new();
        while field(head, "transfer-encoding") == Some("chunked") {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.extend(self.exactly(1).await);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
            let chunk = self.exactly(size + 2).await;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
        body
    }

    /// As [`Client::body`], of a client that may break off.
    pub async fn try_body(&mut self, head: &str) {
        if let Some(length) = field(head, "content-length") {
            let length: usize = length.parse().unwrap();
            while self.unread.len() < length && self.more().await {}
            self.unread.drain(..length.min(self.unread.len()));
        } else if field(head, "transfer-encoding") == Some("chunked") {
            loop {
                if let Some(end) = self.unread.windows(5).position(|window| window == b"0\r\n\r\n") {
                    self.unread.drain(..end + 5);
                    return;
                }
                if !self.more().await {
                    return;
                }
            }
        }
    }

    /// A request and its answer: status, header, body.
    pub async fn ask(&mut self, request: &str) -> (u16, String, String) {
        self.send(request).await;
        self.answer().await
    }

    pub async fn answer(&mut self) -> (u16, String, String) {
        let head = self.head().await;
        let body = self.body(&head).await;
        (status(&head), head, String::from_utf8(body).unwrap())
    }

    /// Waits until the other side has closed, whatever it says before.
    pub async fn closed_after_frames(&mut self) {
        while self.more().await {}
    }

    /// Waits until the other side has closed.
    pub async fn closed(&mut self) {
        let rest = self.rest().await;
        assert_eq!(rest, "", "unexpected bytes before the end");
    }
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The value of a header field, by its lower-case name.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Polls until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Counts what the face counts; for one thread, so for tests on a current-thread runtime.
#[derive(Default, Clone)]
pub struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    /// The value of a counter: its name, and its labels as `{key=value}`.
    pub fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).map_or(0, |value| value.load(Ordering::SeqCst))
    }

    /// Names and labels of all that was ever counted.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

impl metrics::Recorder for Counters {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let labels: String = key.labels().map(|label| format!("{{{}={}}}", label.key(), label.value())).collect();
        let counter = Arc::clone(self.0.lock().unwrap().entry(format!("{}{labels}", key.name())).or_default());
        metrics::Counter::from_arc(counter)
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

/// Collects log lines of level INFO and above; for one thread.
#[derive(Default, Clone)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
