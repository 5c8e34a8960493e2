//! A load balancer that knows nothing: round robin over the backends that are ready, request by request.
//!
//! It knows no sessions, reads no cookies, and retries nothing, so that no error is hidden. The run and the tests start it. It
//! polls each backend's `/readyz` and sends no new request to one that does not answer 200; requests under way are left alone.
//! No backend ready: 503. A backend that cannot be reached: 502.
//! Invariant: every request goes to at most one backend.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::world::{Background, spawn};

const PROBE_EVERY: Duration = Duration::from_millis(50);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const PROBE_BYTES_MAX: usize = 64 * 1024;
const CONNECTIONS_MAX: usize = 10_000;

type Body = BoxBody<Bytes, hyper::Error>;

/// One instance behind the balancer.
struct Backend {
    name: String,
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    _probe: Background,
}

struct Shared {
    backends: Mutex<Vec<Backend>>,
    turn: AtomicUsize,
    forward: Client<HttpConnector, Incoming>,
    probe: Client<HttpConnector, Empty<Bytes>>,
}

/// A running balancer; it ends when dropped.
pub struct Balancer {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
    _listener: Background,
}

impl Balancer {
    /// Listens on a free port of loopback, without backends.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.retry_canceled_requests(false);
        let (forward, probe) = (builder.build(connector.clone()), builder.build(connector));
        let shared = Arc::new(Shared { backends: Mutex::new(Vec::new()), turn: AtomicUsize::new(0), forward, probe });
        let task = Background::start(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, address, _listener: task })
    }

    /// Adds a backend; it gets requests once `http://{probe}/readyz` answers 200.
    pub fn add(&self, name: &str, address: SocketAddr, probe: SocketAddr) {
        let ready = Arc::new(AtomicBool::new(false));
        let watching = Background::start(watch(Arc::clone(&self.shared), probe, Arc::clone(&ready)));
        backends(&self.shared).push(Backend { name: name.to_owned(), address, ready, _probe: watching });
    }

    /// Names of the backends that get requests now.
    pub fn ready(&self) -> Vec<String> {
        let ready = |backend: &&Backend| backend.ready.load(Ordering::Relaxed);
        backends(&self.shared).iter().filter(ready).map(|backend| backend.name.clone()).collect()
    }
}

fn backends(shared: &Shared) -> MutexGuard<'_, Vec<Backend>> {
    shared.backends.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say: leave the others time to end.
            tokio::time::sleep(PROBE_EVERY).await;
            continue;
        };
        // Without it small answers wait for the peer's delayed acknowledgement; they still arrive.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        spawn(async move {
            let service = service_fn(|request| forward(&shared, request));
            // A connection that breaks is seen by the client at its other end, which counts it.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

async fn forward(shared: &Shared, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let Some(backend) = choose(shared) else { return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "no backend is ready")) };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("http://{backend}{path}").parse::<Uri>() else {
        return Ok(refusal(StatusCode::BAD_REQUEST, "no path"));
    };
    *request.uri_mut() = uri;
    hop_by_hop(request.headers_mut());
    match shared.forward.request(request).await {
        Ok(mut response) => {
            hop_by_hop(response.headers_mut());
            Ok(response.map(BodyExt::boxed))
        }
        Err(error) => {
            let why = if error.is_connect() { "cannot connect to the backend" } else { "the backend broke off" };
            Ok(refusal(StatusCode::BAD_GATEWAY, why))
        }
    }
}

fn choose(shared: &Shared) -> Option<SocketAddr> {
    let backends = backends(shared);
    let ready: Vec<SocketAddr> =
        backends.iter().filter(|backend| backend.ready.load(Ordering::Relaxed)).map(|backend| backend.address).collect();
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    ready.get(turn.checked_rem(ready.len())?).copied()
}

fn hop_by_hop(headers: &mut http::HeaderMap) {
    for name in [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

fn refusal(status: StatusCode, why: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(why.as_bytes())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

async fn watch(shared: Arc<Shared>, probe: SocketAddr, ready: Arc<AtomicBool>) {
    let mut beat = tokio::time::interval(PROBE_EVERY);
    let Ok(uri) = format!("http://{probe}/readyz").parse::<Uri>() else { return };
    loop {
        beat.tick().await;
        let answer = tokio::time::timeout(PROBE_TIMEOUT, probe_once(&shared.probe, &uri)).await;
        ready.store(answer.unwrap_or(false), Ordering::Relaxed);
    }
}

async fn probe_once(client: &Client<HttpConnector, Empty<Bytes>>, uri: &Uri) -> bool {
    let Ok(response) = client.get(uri.clone()).await else { return false };
    let is_ready = response.status() == StatusCode::OK;
    // Read to its end, so that the connection serves the next probe.
    is_ready && Limited::new(response.into_body(), PROBE_BYTES_MAX).collect().await.is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_ready_backend_it_refuses_and_one_that_refuses_is_a_502() {
        let balancer = Balancer::start().await.unwrap();
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let uri: Uri = format!("http://{}/read", balancer.address).parse().unwrap();
        assert_eq!(client.get(uri.clone()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        balancer.add("a", nobody, nobody);
        backends(&balancer.shared).iter_mut().for_each(|backend| backend.ready = Arc::new(AtomicBool::new(true)));
        assert_eq!(balancer.ready(), ["a"]);
        assert_eq!(client.get(uri).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    }
}
