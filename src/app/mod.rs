//! The composition root: settings → listeners → directory → driver → faces → drain → exit code.
//!
//! Nothing else in the sidecar knows how its parts fit together. It decides no ownership; it decides the order of starting and
//! of leaving:
//!
//! | starting | leaving |
//! |---|---|
//! | 1 bind or try every listener: a taken port is known before anything is registered | 1 readiness fails; new sessions go elsewhere |
//! | 2 register in the directory, run the driver | 2 every session to accepting members, within the budget |
//! | 3 the first lease | 3 what others still need of here is fetched by them |
//! | 4 serve the faces | 4 the HTTP face closes, requests in flight finish |
//! | 5 start the instance; ready when it accepts connections | 5 the instance ends; the state face closes |
//! | | 6 farewell: nobody forwards to here any more; the member leaves the directory |

mod arrivals;
mod channels;
mod child;
mod faces;
mod leave;
mod memory;
mod probe;
mod reading;
mod redirected;
mod resting;
mod serve;
mod signals;
mod start;
mod survey;
mod told;
mod traffic;
mod upkeep;

use crate::admin::{Admin, InstanceState};
use crate::control::Control;
use crate::driver::Handle;
use crate::operations::Operations;
use crate::store::Store;
use crate::telemetry;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wayfarer_directory::SqliteDirectory;
use wayfarer_http_face as http;
use wayfarer_settings::{ListenAt, LogFormat, Settings, Word};

/// How long the first lease may take before the start counts as failed.
const FIRST_LEASE: Duration = Duration::from_secs(20);
/// How often expired sessions are looked for.
const EXPIRY_PERIOD: Duration = Duration::from_millis(100);

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
    operations: Arc<Operations>,
    driver: Handle,
    directory: Arc<SqliteDirectory>,
    admin: Arc<Admin>,
    draining: Arc<AtomicBool>,
    state_place: Option<ListenAt>,
    http_draining: Vec<http::Draining>,
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
    let mut signals = signals::Signals::new().map_err(cannot("signals cannot be received"))?;
    let (drain, drain_asked) = watch::channel(false);
    // Without the HTTP face nobody reaches the instance through here, and it need not listen.
    let is_waited_for = !command.is_empty() && settings.http.enabled;
    let state = if is_waited_for { InstanceState::Starting } else { InstanceState::Unwatched };
    let (instance, instance_seen) = watch::channel(state);
    let running = tokio::select! {
        running = start::start(settings, drain, instance_seen) => running?,
        _ = signals.leave(None) => {
            let why = "nothing was served yet".to_owned();
            return Err(StartError { what: "told to leave before this node was ready".to_owned(), why });
        }
    };
    leave::serve_and_leave(running, signals, drain_asked, command, instance).await
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
