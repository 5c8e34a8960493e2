//! The composition root: settings → listeners → directory → driver → faces → drain → exit code.
//!
//! Nothing else in the sidecar knows how its parts fit together. It decides no ownership; it decides the order of starting and
//! of leaving:
//!
//! | starting | leaving |
//! |---|---|
//! | 1 bind or try every listener: a taken port is known before anything is registered | 1 readiness fails; new sessions go elsewhere |
//! | 2 register in the directory, run the driver | 2 every session to accepting members, within the budget |
//! | 3 the first lease: ready | 3 what others still need of here is fetched by them |
//! | 4 serve the faces | 4 the HTTP face closes, requests in flight finish |
//! | 5 start the instance | 5 the instance ends; the state face closes; the member leaves the directory |

mod child;
mod leave;
mod traffic;

use crate::admin::{self, Admin};
use crate::control::{Control, ControlSettings};
use crate::driver::{Driver, Handle, Journal, Parked, Parts};
use crate::operations::{Forwards, OperationLimits, Operations};
use crate::rebalance::Rebalancer;
use crate::state_face::StateFace;
use crate::store::Store;
use crate::telemetry;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wayfarer_directory::{SqliteDirectory, SqliteOptions};
use wayfarer_engine::directory::{Directory, MemberDraft, Role};
use wayfarer_engine::ids::IdKey;
use wayfarer_engine::lease::LeaseTimes;
use wayfarer_engine::node::NodeSettings;
use wayfarer_engine::residence::AdoptionRule;
use wayfarer_http_face as http;
use wayfarer_settings::{Codec, DirectoryPlace, LogFormat, Settings};

/// How long the first lease may take before the start counts as failed.
const FIRST_LEASE: Duration = Duration::from_secs(20);
/// A forwarded operation may be parked at the owner; so much longer its answer is waited for.
const FORWARD_SLACK: Duration = Duration::from_millis(500);
/// How often expired sessions are looked for.
const EXPIRY_PERIOD: Duration = Duration::from_millis(250);

/// Why the sidecar could not start.
#[derive(Debug)]
pub struct StartError {
    /// What failed.
    pub what: String,
    /// Why, and what to do.
    pub why: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

fn cannot<E: fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> StartError {
    let what = what.into();
    move |error| StartError { what, why: error.to_string() }
}

/// Everything that runs, and the switches that end it.
struct Running {
    settings: Settings,
    store: Arc<Store>,
    driver: Handle,
    directory: Arc<SqliteDirectory>,
    admin: Arc<Admin>,
    draining: Arc<AtomicBool>,
    state_address: Option<SocketAddr>,
    http_draining: Option<http::Draining>,
    /// Ends the HTTP face, then the state face, then everything else.
    stop_http: watch::Sender<bool>,
    stop_state: watch::Sender<bool>,
    stop_all: watch::Sender<bool>,
    http_tasks: JoinSet<()>,
    state_tasks: JoinSet<()>,
    tasks: JoinSet<()>,
}

/// Runs the sidecar until it is told to leave or its instance ends; the exit code of the process.
pub async fn run(settings: Settings, command: Vec<OsString>) -> Result<u8, StartError> {
    telemetry::start_log(settings.log.level.word(), settings.log.format == LogFormat::Json);
    child::can_be_found(&command).map_err(cannot("the instance cannot be started"))?;
    // Before anybody can be told that this node is ready: who is ready can be told to leave.
    let mut signals = leave::Signals::new().map_err(cannot("signals cannot be received"))?;
    let (drain, drain_asked) = watch::channel(false);
    let running = tokio::select! {
        running = start(settings, drain) => running?,
        () = signals.leave(None) => {
            let why = "nothing was served yet".to_owned();
            return Err(StartError { what: "told to leave before this node was ready".to_owned(), why });
        }
    };
    leave::serve_and_leave(running, signals, drain_asked, command).await
}

/// The listeners, bound before anything is registered.
struct Listeners {
    control: Control,
    admin: Option<TcpListener>,
    probe: Option<TcpListener>,
}

async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(cannot(format!("[{setting}] cannot listen on {address}")))
}

async fn bind(settings: &Settings) -> Result<Listeners, StartError> {
    let cluster = &settings.cluster;
    let mut control = ControlSettings::new(cluster.name.clone(), cluster.node.clone());
    control.frame_bytes_max = cluster.frame_bytes_max;
    let control = Control::bind(cluster.control, control)
        .await
        .map_err(cannot(format!("[cluster] control cannot listen on {}", cluster.control)))?;
    let admin = if settings.admin.enabled { Some(listen(settings.admin.listen, "admin").await?) } else { None };
    let probe = match settings.probe.listen {
        Some(address) => Some(listen(address, "probe").await?),
        None => None,
    };
    Ok(Listeners { control, admin, probe })
}

/// The faces are bound when the node has its lease; that their ports are taken is found out before it registers.
async fn faces_can_listen(settings: &Settings) -> Result<(), StartError> {
    for (enabled, address, setting) in
        [(settings.state.enabled, settings.state.listen, "state"), (settings.http.enabled, settings.http.listen, "http")]
    {
        if enabled {
            drop(listen(address, setting).await?);
        }
    }
    Ok(())
}

fn lease_times(settings: &Settings) -> LeaseTimes {
    LeaseTimes {
        length_us: settings.cluster.lease_ms * 1000,
        margin_us: settings.cluster.lease_margin_ms * 1000,
        lost_after_us: settings.cluster.lost_after_ms.map(|ms| ms * 1000),
    }
}

fn node_settings(settings: &Settings) -> NodeSettings {
    let handover = &settings.handover;
    NodeSettings {
        lease: lease_times(settings),
        policy: Arc::new(settings.policy.clone()),
        carried_bytes_max: handover.carried_bytes_max,
        pause_bytes_max: handover.carried_bytes_max,
        at_once_max: handover.at_once_max,
        propose_us_max: handover.propose_ms_max * 1000,
        stage_us_max: (handover.stage_ms_max + handover.commit_ms_max) * 1000,
        retry_us: 50_000,
        fetch_us_max: settings.state.fetch_ms_max * 1000,
        stream_bytes_max: 4 << 20,
        trickle_bytes_per_s: if handover.trickle { handover.trickle_bytes_per_s } else { 0 },
        drain_residuals: true,
        residual_bytes_max: handover.residual_bytes_max,
        sweep_us: 5_000_000,
        waiting_max: settings.state.parked_operations_max,
    }
}

async fn start(settings: Settings, drain: watch::Sender<bool>) -> Result<Running, StartError> {
    let metrics = telemetry::start_metrics().map_err(cannot("the recorder of metrics cannot start"))?;
    let Listeners { control, admin: admin_listener, probe: probe_listener } = bind(&settings).await?;
    faces_can_listen(&settings).await?;
    let control = Arc::new(control);
    let DirectoryPlace::Sqlite { path } = &settings.cluster.directory;
    let directory = SqliteDirectory::open(path, SqliteOptions::default())
        .map_err(cannot(format!("[cluster] directory {} cannot be opened", path.display())))?;
    let directory = Arc::new(directory);
    let rule = AdoptionRule {
        arrivals: u32::try_from(settings.handover.arrivals_to_adopt).unwrap_or(u32::MAX),
        gap_us: settings.handover.arrival_gap_ms * 1000,
        residence_us_min: settings.handover.residence_ms_min * 1000,
    };
    let store = Arc::new(Store::new(rule));
    let key = settings.admin.id_key.as_ref().map_or_else(random_key, |key| Ok(IdKey(key.0)))?;
    let journal = Arc::new(Journal::new(key));
    let (lives, lives_seen) = watch::channel(None);
    let mail = Arc::new(traffic::Mail { control: control.clone(), lives: lives.clone() });
    let parked = Arc::new(Parked::default());
    let parts = Parts {
        parked: parked.clone(),
        directory: directory.clone() as Arc<dyn Directory>,
        store: store.clone(),
        post: mail,
        settings: node_settings(&settings),
        directory_ms_max: settings.handover.commit_ms_max,
        journal: journal.clone(),
    };
    let draft = MemberDraft {
        name: settings.cluster.node.clone(),
        control: control.local_addr().to_string(),
        zone: String::new(),
        app_name: settings.app.name.clone(),
        app_version: settings.app.version.clone(),
        role: Role::Owner,
    };
    let (loop_, driver) = Driver::register(parts, draft, settings.cluster.groups)
        .await
        .map_err(cannot(format!("node {:?} cannot register in the directory", settings.cluster.node)))?;
    lives.send_replace(Some(driver.me()));

    let (stop_all, stopping) = watch::channel(false);
    let (stop_http, stopping_http) = watch::channel(false);
    let (stop_state, stopping_state) = watch::channel(false);
    let (mut tasks, mut http_tasks, mut state_tasks) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    tasks.spawn(loop_.run());
    let limits = OperationLimits {
        parked_max: settings.state.parked_operations_max,
        park: Duration::from_millis(settings.state.park_ms_max),
        whole: Duration::from_millis(settings.state.operation_ms_max),
    };
    let sender = |control: &Arc<Control>| {
        let control = control.clone();
        Box::new(move |to, message| control.send(to, message).is_ok())
    };
    let forwards = Arc::new(Forwards::new(sender(&control), limits.park + FORWARD_SLACK));
    let policy = Arc::new(settings.policy.clone());
    let operations = Arc::new(Operations::new(store.clone(), driver.clone(), parked, forwards, policy, limits));
    let rebalancer = Arc::new(Rebalancer::new(driver.clone(), directory.clone(), store.clone(), sender(&control)));
    let (work, work_queue) = traffic::queue();
    tasks.spawn(traffic::work(work_queue));
    let inbound = Arc::new(traffic::Traffic {
        operations: operations.clone(),
        rebalancer: rebalancer.clone(),
        control: control.clone(),
        keys: settings.state.keys.clone(),
        tasks: work.clone(),
    });
    tasks.spawn(live(control.clone(), inbound, lives_seen, stopping.clone()));
    tasks.spawn(expire(store.clone(), driver.clone(), stopping.clone()));

    let draining = Arc::new(AtomicBool::new(false));
    let for_bytes = control.clone();
    let admin = Arc::new(Admin {
        node: settings.cluster.node.clone(),
        store: store.clone(),
        driver: driver.clone(),
        journal,
        rebalancer,
        sent: Box::new(move || for_bytes.bytes()),
        metrics,
        draining: draining.clone(),
        drain,
        drained: watch::Sender::new(None),
    });
    let mut state_address = None;
    if settings.state.enabled {
        let face = StateFace::bind(settings.state.clone(), operations.clone())
            .await
            .map_err(cannot(format!("[state] cannot listen on {}", settings.state.listen)))?;
        state_address = Some(face.local_addr().map_err(cannot("[state] the listener has no address"))?);
        state_tasks.spawn(async move { face.run(stopping_state).await });
    }
    let mut http_draining = None;
    if settings.http.enabled {
        let arrivals = traffic::Arrivals { operations, control: control.clone(), tasks: work };
        let face = http::bind(http_settings(&settings), Arc::new(arrivals))
            .await
            .map_err(cannot(format!("[http] cannot listen on {}", settings.http.listen)))?;
        tracing::info!(address = %face.local_addr(), app = %settings.app.address, "http face");
        http_draining = Some(face.draining());
        http_tasks.spawn(async move {
            let closed = face.run(stopping_http).await;
            if closed.cut_off > 0 {
                tracing::warn!(connections = closed.cut_off, "requests in flight were cut off");
            }
        });
    }
    // Only now, so that whoever is told that this node is ready finds its faces open.
    for (listener, router) in
        [(admin_listener, admin::router(admin.clone())), (probe_listener, admin::probe_router(admin.clone()))]
    {
        if let Some(listener) = listener {
            tasks.spawn(serve_admin(listener, router, stopping.clone()));
        }
    }
    first_lease(&driver).await?;
    tracing::info!(
        node = settings.cluster.node,
        incarnation = driver.me().0.0,
        state = ?state_address,
        control = %control.local_addr(),
        "ready"
    );
    Ok(Running {
        settings,
        store,
        driver,
        directory,
        admin,
        draining,
        state_address,
        http_draining,
        stop_http,
        stop_state,
        stop_all,
        http_tasks,
        state_tasks,
        tasks,
    })
}

fn random_key() -> Result<IdKey, StartError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(cannot("the system gives no random bytes"))?;
    Ok(IdKey(key))
}

fn http_settings(settings: &Settings) -> http::HttpFaceSettings {
    let mut face = http::HttpFaceSettings::new(settings.http.listen, settings.app.address);
    face.close_ms_max = settings.http.close_ms_max;
    face.session = settings.http.session.as_ref().map(|session| http::SessionCookie {
        name: session.cookie.clone(),
        codec: match session.codec {
            Codec::Plain => http::Codec::Plain,
            Codec::Express => http::Codec::Express,
        },
    });
    face
}

async fn first_lease(driver: &Handle) -> Result<(), StartError> {
    let mut standing = driver.standing();
    match tokio::time::timeout(FIRST_LEASE, standing.wait_for(|s| s.ready)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(StartError {
            what: "the directory gave no lease".to_owned(),
            why: format!("no renewal succeeded within {} s; see the log", FIRST_LEASE.as_secs()),
        }),
    }
}

/// The control channel through all lives of the node.
async fn live(
    control: Arc<Control>,
    inbound: Arc<traffic::Traffic>,
    mut lives: watch::Receiver<Option<wayfarer_engine::ids::Incarnation>>,
    stopping: watch::Receiver<bool>,
) {
    loop {
        let me = *lives.borrow_and_update();
        let Some(me) = me else {
            if lives.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            ended = control.run(me, inbound.clone(), stopping.clone()) => {
                if ended.is_err() {
                    tracing::error!("the control channel runs already");
                }
                return;
            }
            // Dropping the run closes the connections of the life that is over.
            changed = lives.changed() => if changed.is_err() { return },
        }
    }
}

async fn expire(store: Arc<Store>, driver: Handle, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(EXPIRY_PERIOD);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = period.tick() => {}
        }
        for session in store.expire(crate::driver::clock::now()) {
            if driver.tell(wayfarer_engine::node::Input::Ended { session, ticket: None }).await.is_err() {
                return;
            }
        }
    }
}

async fn serve_admin(listener: TcpListener, router: axum::Router, mut stopping: watch::Receiver<bool>) {
    let stop = async move {
        // A closed channel means the same as a stop.
        drop(stopping.wait_for(|stop| *stop).await);
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the admin interface ended");
    }
}
