//! The example shop: a web service that keeps its session as a hash `shop:<sid>` in Redis, as such services do.
//!
//! It knows nothing of Wayfarer, of other instances or of what a value should be: it stores and reads what its store gives it.
//! `wayfarer shop` and the tests start it. It takes `PORT` and `REDIS_URL` from its environment, and of its own
//! `SHOP_CONNECTIONS` (connections to Redis, 4) and `SHOP_TTL_SECONDS` (life of an idle session, 1800).
//!
//! | request | Redis commands, over connections shared by all requests |
//! |---|---|
//! | login | pipeline: HSET of all variables, HINCRBY hits, EXPIRE |
//! | home, item, item_again, cart_add, checkout | HMGET of the small ones, HGET of each large one; pipeline: HSET, HINCRBY hits, EXPIRE |
//! | read | the same reads, or HGETALL; writes nothing |
//! | logout | DEL |
//!
//! What a request reads and writes stands in its query, so that a seed fixes the whole run and each user knows the sequence
//! number of its write: `r=user,cart` or `r=*`, `w=cart:7:1200` (name, sequence, bytes), `n=1` (count the page). The answer has a
//! line for each variable read: `cart 7 1200 <digest of the bytes>` or `cart -`; and `hits 12`.
//! Invariant: an answer is 200 only when Redis acknowledged every write of the request.

mod accesses;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use accesses::SESSION_COOKIE;
use accesses::{Accesses, RawAccesses};
use store::Store;

/// What a shop needs to know.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    /// Where its sessions are: `redis://…`.
    pub redis_url: String,
    /// Connections to Redis, each shared by many requests.
    pub connections: usize,
    /// Life of an idle session in seconds.
    pub ttl_seconds: u32,
}

impl ShopSettings {
    /// The usual shop over this Redis.
    pub fn new(redis_url: impl Into<String>) -> Self {
        Self { redis_url: redis_url.into(), connections: 4, ttl_seconds: 1800 }
    }
}

/// Runs the shop by its environment until SIGTERM or SIGINT, or until its parent is gone.
pub async fn run() -> ExitCode {
    let started = async {
        let port = number("PORT")?.ok_or("PORT is not set")?;
        let port = u16::try_from(port).map_err(|_| "PORT is no port number".to_owned())?;
        let mut settings = ShopSettings::new(std::env::var("REDIS_URL").map_err(|_| "REDIS_URL is not set")?);
        if let Some(connections) = number("SHOP_CONNECTIONS")? {
            settings.connections = usize::try_from(connections.clamp(1, 64)).unwrap_or(1);
        }
        settings.ttl_seconds = number("SHOP_TTL_SECONDS")?.map_or(settings.ttl_seconds, |seconds| seconds.clamp(1, 86_400));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok::<_, String>((listener.await.map_err(|error| format!("cannot listen on port {port}: {error}"))?, settings))
    };
    let outcome = match started.await {
        Ok((listener, settings)) => tokio::select! {
            outcome = serve(listener, settings) => outcome,
            () = told_to_end() => Ok(()),
            () = orphaned() => Ok(()),
        },
        Err(message) => Err(message),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("shop: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the shop on `listener` until the future is dropped or fails with a message.
pub async fn serve(listener: TcpListener, settings: ShopSettings) -> Result<(), String> {
    let store = Store::connect(&settings).await.map_err(|error| format!("no session store: {error}"))?;
    let routes = Router::new()
        .route("/login", post(login))
        .route("/home", post(page))
        .route("/item", post(page))
        .route("/item_again", post(page))
        .route("/cart_add", post(page))
        .route("/checkout", post(page))
        .route("/read", get(page))
        .route("/logout", post(logout))
        .layer(middleware::from_fn(with_session))
        .route("/readyz", get(|| async { "ready" }))
        .with_state(Arc::new(store));
    axum::serve(listener, routes).await.map_err(|error| error.to_string())
}

/// The session of a request, as its cookie names it.
#[derive(Clone)]
struct Sid(String);

async fn with_session(headers: HeaderMap, mut request: Request, next: Next) -> Response {
    match accesses::session_of(&headers) {
        Some(sid) => {
            request.extensions_mut().insert(Sid(sid));
            next.run(request).await
        }
        None => (StatusCode::UNAUTHORIZED, "no session cookie").into_response(),
    }
}

type Session = axum::Extension<Sid>;

async fn login(store: State<Arc<Store>>, session: Session, query: Query<RawAccesses>) -> Response {
    let cookie = format!("{SESSION_COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", session.0.0);
    let answer = page(store, session, query).await;
    ([(header::SET_COOKIE, cookie)], answer).into_response()
}

async fn page(store: State<Arc<Store>>, session: Session, query: Query<RawAccesses>) -> Response {
    match Accesses::parse(&query) {
        Ok(accesses) => answer(store.page(&session.0.0, &accesses).await),
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

async fn logout(store: State<Arc<Store>>, session: Session) -> Response {
    answer(store.end(&session.0.0).await)
}

fn answer(outcome: redis::RedisResult<String>) -> Response {
    match outcome {
        Ok(text) => text.into_response(),
        // The kind of the error, and the sidecar's own words, which name no session; a server's text may name the key.
        Err(error) => {
            let kind = error.code().map_or_else(|| error.category().to_owned(), str::to_owned);
            let words = error.detail().filter(|detail| detail.starts_with("wayfarer: ")).unwrap_or_default();
            (StatusCode::SERVICE_UNAVAILABLE, format!("session store: {kind} {words}").trim_end().to_owned()).into_response()
        }
    }
}

fn number(name: &str) -> Result<Option<u32>, String> {
    match std::env::var(name) {
        Ok(text) => text.parse().map(Some).map_err(|_| format!("{name} is no number")),
        Err(_) => Ok(None),
    }
}

async fn told_to_end() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
}

/// Ends when this process has got another parent, that is when the one that started it has died without a word.
async fn orphaned() {
    let parent = rustix::process::getppid();
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    while rustix::process::getppid() == parent {
        beat.tick().await;
    }
}
