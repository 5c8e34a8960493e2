//! The admin interface: health, metrics, status, sessions, moves; rebalance, cordon, drain.
//!
//! It decides nothing and shows nothing private: sessions appear as keyed hashes. On loopback only; the probe listener serves
//! `/livez`, `/readyz` and `/metrics` alone.
//!
//! | path | |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 between the first lease and a drain; an outage of the directory does not change it |
//! | `GET /metrics` | Prometheus text |
//! | `GET /api/v1/status` | [`view::Status`] |
//! | `GET /api/v1/sessions?limit=N` | sessions of this node |
//! | `GET /api/v1/moves?after=SEQ` | the latest moves |
//! | `GET /api/v1/routes?method=GET&path=/cart/17` | what was learned of routes, and of that one |
//! | `POST /api/v1/checkin` | every session of this node goes to rest: how many went, how many did not |
//! | `GET /api/v1/mode` | [`view::ModeStatus`] |
//! | `POST /api/v1/mode?to=own`, `?to=observe` | orders that mode for the whole cluster: 202, and the status then |
//! | `POST /api/v1/rebalance`, `/api/v1/cordon?on=BOOL` | |
//! | `POST /drain`, `/api/v1/drain` | 202: everything leaves, then the process ends |
//! | the same with `?wait=true` | 200 when everything has left, 500 if something could not; see [`view::Drained`] |

mod asked;
mod mode;
mod outlook;
mod places;
mod routes;
pub mod view;

use crate::control::BytesSent;
use crate::driver::{Handle, Journal, clock, state_word};
use crate::operations::Operations;
use crate::rebalance::Rebalancer;
use crate::routing::learned::Routes;
use crate::store::Store;
use crate::telemetry::names;
use asked::Asked;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use wayfarer_engine::directory::{Directory, MemberState};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::node::{Input, NodeStatus};
use wayfarer_engine::residence::Table;

/// Sessions that one page of the list shows at most.
const SESSIONS_SHOWN_MAX: usize = 10_000;
/// Moves that one page shows at most.
const MOVES_SHOWN_MAX: usize = 10_000;

/// How the instance is, seen from its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InstanceState {
    /// Not looked at: no client reaches it through here, or it is not to be.
    Unwatched,
    /// It has not accepted a connection yet.
    Starting,
    /// It accepts connections.
    Accepting,
    /// It did, and does not now.
    Silent,
}

impl InstanceState {
    fn word(self) -> &'static str {
        match self {
            InstanceState::Unwatched => "unwatched",
            InstanceState::Starting => "starting",
            InstanceState::Accepting => "accepting",
            InstanceState::Silent => "silent",
        }
    }
}

/// What the admin interface looks at.
pub struct Admin {
    /// The name of this node.
    pub node: String,
    /// The sessions.
    pub store: Arc<Store>,
    /// The engine.
    pub driver: Handle,
    /// What happened.
    pub journal: Arc<Journal>,
    /// Gives members their shares.
    pub rebalancer: Arc<Rebalancer>,
    /// Where the mode of the cluster is.
    pub directory: Arc<dyn Directory>,
    /// What has been seen of sessions while nobody owns them.
    pub operations: Arc<Operations>,
    /// What requests of each route need.
    pub routes: Arc<Routes>,
    /// What may be carried of one session while it is paused.
    pub carried_bytes_max: u64,
    /// The last estimate of what owners would do, and when it was made.
    pub kept_outlook: std::sync::Mutex<Option<(u64, view::Outlook)>>,
    /// Bytes that crossed the control channel from here.
    pub sent: Box<dyn Fn() -> BytesSent + Send + Sync>,
    /// Whether a member has said that it takes other keys for those of sessions.
    pub takes_other_keys: Box<dyn Fn(Incarnation) -> bool + Send + Sync>,
    /// Whether sessions are at rest in an upstream.
    pub has_rest: bool,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Set while the node leaves.
    pub draining: Arc<AtomicBool>,
    /// How the instance is.
    pub instance: watch::Receiver<InstanceState>,
    /// Turns true when somebody asks for a drain.
    pub drain: watch::Sender<bool>,
    /// How the drain ended, once it has.
    pub drained: watch::Sender<Option<view::Drained>>,
}

impl Admin {
    /// Why this node is not ready; `None`: it is. An instance that was up once and is not now is in the status alone: its
    /// sidecar still serves its sessions to the others.
    fn unready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Acquire) {
            Some("draining")
        } else if !self.driver.standing().borrow().ready {
            Some("starting: no lease yet")
        } else if *self.instance.borrow() == InstanceState::Starting {
            Some("the instance does not accept connections yet")
        } else {
            None
        }
    }

    /// How old the oldest change is that the upstream lacks, by impact; 0: it has everything.
    fn staleness_us(&self) -> [(&'static str, u64); 4] {
        let now_us = clock::now().boot_us;
        // What has just been written is behind too, by less than the clock shows.
        let age_us = |at: Option<u64>| at.map_or(0, |at| now_us.saturating_sub(at).max(1));
        let [critical, high, medium, low] = self.store.unwritten_since().0.map(age_us);
        [("critical", critical), ("high", high), ("medium", medium), ("low", low)]
    }

    fn rest(&self, node: &NodeStatus) -> Option<view::Rest> {
        let totals = &self.journal.totals;
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        self.has_rest.then(|| view::Rest {
            upstream_answers: !node.upstream_fails,
            staleness_ms: self.staleness_us().map(|(impact, age_us)| (impact.to_owned(), age_us.div_ceil(1000))).into(),
            unwritten_sessions: node.unwritten as u64,
            unwritten_bytes: self.store.unwritten_bytes(),
            checking_in: node.checking_in as u64,
            checked_out: count(&totals.checked_out),
            checked_in: count(&totals.checked_in),
            flushes: count(&totals.flushed),
            foreign_writes: count(&totals.foreign),
        })
    }

    /// The status of this node; `None` if it is stopping.
    pub async fn status(self: &Arc<Self>) -> Option<view::Status> {
        let node = self.driver.status().await.ok()?;
        let loads = self.rebalancer.loads().await;
        let outlook = self.outlook().await;
        let (value_bytes, missing_variables) = self.store.totals();
        let totals = &self.journal.totals;
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let sent = (self.sent)();
        // What was declared dead is no member any more; the directory keeps it for a while, people need not see it.
        let living = node.members.iter().filter(|(_, (_, state))| *state != MemberState::Fenced);
        let members = living.map(|(who, (name, state))| view::MemberStatus {
            name: name.clone(),
            incarnation: who.0.0,
            state: state_word(*state).to_owned(),
            sessions: loads.get(who).and_then(|(_, n)| *n),
            other_keys: (self.takes_other_keys)(*who),
        });
        Some(view::Status {
            node: self.node.clone(),
            incarnation: node.incarnation.0.0,
            state: state_word(node.state).to_owned(),
            ready: self.unready().is_none(),
            instance: self.instance.borrow().word().to_owned(),
            lease_ms_left: node.lease_valid_until_us.saturating_sub(clock::now().boot_us) / 1000,
            sessions: self.store.count() as u64,
            value_bytes,
            missing_variables,
            born: count(&totals.born),
            ended: count(&totals.ended),
            handovers: view::Handovers {
                given: count(&totals.left),
                taken: count(&totals.opened),
                committed: count(&totals.opened),
                aborted: count(&totals.aborted),
                refused: count(&totals.declined),
                in_progress: (node.handovers_out + node.handovers_in) as u64,
                queued: node.handovers_queued as u64,
            },
            bytes: view::Bytes { eager: sent.eager, late: sent.late, other: sent.other },
            variables_fetched_late: count(&totals.fetched_late),
            variables_fetched_on_access: count(&totals.fetched_on_access),
            variables_lost: count(&totals.lost),
            residuals: node.residuals as u64,
            residual_bytes: node.residual_bytes,
            mode: Some(self.mode_of(&loads)),
            outlook,
            rest: self.rest(&node),
            members: members.collect(),
        })
    }
}

/// Everything, for the admin listener.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/moves", get(moves))
        .route("/api/v1/routes", get(routes::show))
        .route("/api/v1/rebalance", post(rebalance))
        .route("/api/v1/cordon", post(cordon))
        .route("/api/v1/checkin", post(check_in))
        .route("/api/v1/mode", get(mode::show).post(mode::order))
        .route("/api/v1/drain", post(drain))
        .route("/drain", post(drain))
        .with_state(admin.clone())
        .merge(probes(admin))
        .fallback(|uri: Uri| async move { no_such_path(&uri, "/livez, /readyz, /metrics, /drain and /api/v1/…") })
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(no_web_pages))
        .layer(axum::middleware::from_fn(places::of_this_machine))
        .layer(axum::middleware::from_fn(places::named_once))
}

/// A page in a browser of this machine can send orders to the loopback, and a browser says so; no operator's tool does.
async fn no_web_pages(request: Request, next: Next) -> Response {
    let of_a_page = request.headers().contains_key(header::ORIGIN) || request.headers().contains_key("sec-fetch-site");
    if of_a_page && request.method() != Method::GET {
        let error = "orders of web pages are not taken: ask with the command line, or without Origin and Sec-Fetch-Site";
        return (StatusCode::FORBIDDEN, Json(BTreeMap::from([("error", error)]))).into_response();
    }
    next.run(request).await
}

/// Health and metrics alone, for the probe listener.
pub fn probe_router(admin: Arc<Admin>) -> Router {
    probes(admin)
        .fallback(|uri: Uri| async move { no_such_path(&uri, "/livez, /readyz and /metrics") })
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(places::named_once))
}

/// An answer that somebody who mistyped can read.
fn no_such_path(uri: &Uri, there_are: &str) -> Response {
    let error = format!("there is nothing at {}; there are {there_are}", uri.path());
    (StatusCode::NOT_FOUND, Json(BTreeMap::from([("error", error)]))).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let error =
        format!("{method} is not for {}: what only tells is asked with GET, what changes something with POST", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, Json(BTreeMap::from([("error", error)]))).into_response()
}

fn probes(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()).into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn render_metrics(State(admin): State<Arc<Admin>>) -> Response {
    let leased = clock::now().boot_us < admin.store.lease_until_us();
    metrics::gauge!(names::LEASE_VALID).set(f64::from(u8::from(leased)));
    let present = admin.driver.standing().borrow().view.mode.phase.word();
    for mode in wayfarer_engine::mode::WORDS {
        metrics::gauge!(names::MODE, "mode" => mode).set(f64::from(u8::from(mode == present)));
    }
    metrics::gauge!(names::SESSIONS_OWNED).set(admin.store.count() as f64);
    if admin.has_rest {
        for (impact, age_us) in admin.staleness_us() {
            metrics::gauge!(names::STALENESS_SECONDS, "impact" => impact).set(age_us as f64 / 1e6);
        }
        metrics::gauge!(names::UNWRITTEN_BYTES).set(admin.store.unwritten_bytes() as f64);
    }
    if let Ok(node) = admin.driver.status().await {
        metrics::gauge!(names::RESIDUAL_BYTES).set(node.residual_bytes as f64);
    }
    admin.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render()).into_response()
}

fn stopping() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(BTreeMap::from([("error", "this node is stopping")]))).into_response()
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    match admin.status().await {
        Some(status) => Json(status).into_response(),
        None => stopping(),
    }
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn sessions(State(admin): State<Arc<Admin>>, Asked(Limit { limit }): Asked<Limit>) -> Json<view::Sessions> {
    let limit = limit.unwrap_or(100).min(SESSIONS_SHOWN_MAX);
    let journal = admin.journal.clone();
    let sessions = admin.store.list(limit, |id, resident| view::SessionStatus::of(journal.show(id), resident));
    Json(view::Sessions { total: admin.store.count() as u64, sessions })
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

async fn moves(State(admin): State<Arc<Admin>>, Asked(After { after }): Asked<After>) -> Json<view::Moves> {
    let (moves, last) = admin.journal.moves_after(after.unwrap_or(0), MOVES_SHOWN_MAX);
    Json(view::Moves { moves: moves.into_iter().map(view::MoveStatus::from).collect(), last })
}

async fn rebalance(State(admin): State<Arc<Admin>>) -> Response {
    match admin.rebalancer.rebalance().await {
        Ok(done) => Json(BTreeMap::from([("moved", done.moved), ("failed", done.failed)])).into_response(),
        Err(trouble) => (StatusCode::SERVICE_UNAVAILABLE, Json(BTreeMap::from([("error", trouble.to_string())]))).into_response(),
    }
}

/// How long sessions that cannot go to rest, because they are just on their way to another node, are asked again.
const CHECK_IN_US: u64 = 3_000_000;
/// Between two such rounds.
const CHECK_IN_PAUSE: Duration = Duration::from_millis(50);

async fn check_in(State(admin): State<Arc<Admin>>) -> Response {
    if !admin.has_rest {
        let why = "sessions are not at rest anywhere: there is no [state] upstream, or [rest] enabled is false";
        return (StatusCode::CONFLICT, Json(BTreeMap::from([("error", why)]))).into_response();
    }
    let mut sessions = admin.store.ids();
    let (all, until_us) = (sessions.len() as u64, clock::now().boot_us + CHECK_IN_US);
    let mut at_rest = 0;
    loop {
        let Ok((done, failed)) = admin.driver.check_in(sessions.clone()).await else { return stopping() };
        // Some may have been used again and gone to rest a second time.
        at_rest = (at_rest + done).min(all);
        if failed == 0 || clock::now().boot_us >= until_us {
            return Json(BTreeMap::from([("at_rest", at_rest), ("failed", failed)])).into_response();
        }
        // Those that were on their way to another node are there by now, or back.
        tokio::time::sleep(CHECK_IN_PAUSE).await;
        sessions.retain(|session| admin.store.has(&session.0));
    }
}

#[derive(Deserialize)]
struct On {
    on: bool,
}

async fn cordon(State(admin): State<Arc<Admin>>, Asked(On { on }): Asked<On>) -> Response {
    match admin.driver.tell(Input::Cordon(on)).await {
        Ok(()) => Json(BTreeMap::from([("cordoned", on)])).into_response(),
        Err(_) => stopping(),
    }
}

#[derive(Deserialize)]
struct Wait {
    wait: Option<bool>,
}

async fn drain(State(admin): State<Arc<Admin>>, Asked(Wait { wait }): Asked<Wait>) -> Response {
    admin.drain.send_replace(true);
    if wait == Some(true) {
        let mut drained = admin.drained.subscribe();
        // The sender lives in `admin`, so this ends with the drain, whose budget is a setting.
        return match drained.wait_for(Option::is_some).await.ok().and_then(|d| *d) {
            Some(drained) if drained.all_left => Json(drained).into_response(),
            Some(drained) => (StatusCode::INTERNAL_SERVER_ERROR, Json(drained)).into_response(),
            None => stopping(),
        };
    }
    (StatusCode::ACCEPTED, Json(BTreeMap::from([("draining", true)]))).into_response()
}
