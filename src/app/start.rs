//! The start, step by step: each function is one of them, in the order of the table of [`super`].
//!
//! It decides nothing that is not a setting. Called once, by [`super::run`]; what has been started ends with the [`Running`] that
//! it returns, or with an error on the way there.
//!
//! Longer than 400 lines because the start is read in one piece, in its order.
//! Invariant: whoever is told that this node is ready finds its faces open, and nothing is registered for a node whose ports are
//! taken.

use super::arrivals::Arrivals;
use super::faces::{Requests, faces_can_listen, open_faces};
use super::memory::keep_within;
use super::reading::Reading;
use super::resting::check_in_unused;
use super::told::{adoption_rule, member_draft, node_settings};
use super::upkeep::keep_small;
use super::{Running, StartError, cannot, channels, expire, first_lease, live, redirected, serve_admin, traffic};
use crate::admin::{self, Admin, InstanceState};
use crate::bus::{Bus, Sieve};
use crate::control::{Control, ControlSettings};
use crate::driver::{Driver, Handle, Journal, Parked, Parts};
use crate::operations::{Forwards, OperationLimits, Operations};
use crate::passage::Passage;
use crate::passage::direct::Direct;
use crate::questions::SendTo;
use crate::rebalance::Rebalancer;
use crate::rest::AtRest;
use crate::routing::Neighbours;
use crate::routing::learned::Routes;
use crate::state_face::{Flights, SessionKeys, Understanding};
use crate::store::Store;
use crate::telemetry;
use crate::upstream::Dialer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wayfarer_directory::{SqliteDirectory, SqliteOptions};
use wayfarer_engine::directory::Directory;
use wayfarer_engine::ids::{Digest, IdKey, Incarnation};
use wayfarer_engine::mode::{Goal, Phase};
use wayfarer_http_face::PassKey;
use wayfarer_settings::{BeginsAs, DirectoryPlace, KeyMatcher, Layout, Settings, Word};

/// A forwarded operation may be parked at the owner; so much longer its answer is waited for.
const FORWARD_SLACK: Duration = Duration::from_millis(500);

/// The whole start. `drain` turns true when somebody asks for a drain; `instance` says how the instance is.
pub(super) async fn start(
    settings: Settings,
    drain: watch::Sender<bool>,
    instance: watch::Receiver<InstanceState>,
) -> Result<Running, StartError> {
    let dialer = settings.state.upstream.as_ref().filter(|_| settings.state.enabled).map(Dialer::new).transpose();
    let dialer = dialer.map_err(cannot("[state] upstream cannot be used"))?;
    let metrics = telemetry::start_metrics().map_err(cannot("the recorder of metrics cannot start"))?;
    let Listeners { control, admin: admin_listener, probe: probe_listener, requests } = bind(&settings).await?;
    faces_can_listen(&settings).await?;
    let redirected = redirected::bind(&settings)?;
    let mut tasks = JoinSet::new();
    dialer.clone().map(|dialer| tasks.spawn(dialer.follow_master()));
    let (stop_all, stopping) = watch::channel(false);
    let place = requests.as_ref().map(TcpListener::local_addr).transpose();
    let place = place.map_err(cannot("[http] forward_listen has no address"))?;
    let node = join(&settings, Arc::new(control), place, dialer.clone(), &stopping, &mut tasks).await?;
    let flights = settings.state.merge_by.filter(|_| settings.state.enabled).map(|by| Arc::new(Flights::new(by)));
    tasks.spawn(keep_small(metrics.clone(), node.directory.clone(), flights.clone()));
    let talk = connect(&settings, &node, &stopping, &mut tasks);
    node.rest.clone().map(|rest| tasks.spawn(async move { rest.try_out().await }));
    let draining = Arc::new(AtomicBool::new(false));
    let routes = Arc::new(Routes::default());
    let (for_bytes, for_keys) = (node.control.clone(), node.control.clone());
    let admin = Arc::new(Admin {
        node: settings.cluster.node.clone(),
        store: node.store.clone(),
        has_rest: settings.rest_upstream().is_some(),
        driver: node.driver.clone(),
        journal: node.journal,
        rebalancer: talk.rebalancer,
        directory: node.directory.clone(),
        operations: talk.operations.clone(),
        routes: routes.clone(),
        carried_bytes_max: settings.handover.carried_bytes_max,
        kept_outlook: std::sync::Mutex::default(),
        sent: Box::new(move || for_bytes.bytes()),
        takes_other_keys: Box::new(move |member| for_keys.takes_other_keys(member)),
        metrics,
        draining: draining.clone(),
        instance,
        drain,
        drained: watch::Sender::new(None),
    });
    let (operations, control) = (talk.operations.clone(), node.control.clone());
    let keys = Arc::new(SessionKeys::of_all(&settings.state));
    let reading = Reading { routes, keys, store: node.store.clone() };
    let arrivals = Arrivals { operations, control, tasks: talk.work, flights, neighbours: talk.neighbours, reading };
    let requests = requests.map(|listener| Requests { listener, key: PassKey::new(node.directory.secret()) });
    let (stop_http, stop_state) = (watch::Sender::new(false), watch::Sender::new(false));
    first_lease(&node.driver).await?;
    let faces = open_faces(&settings, arrivals, requests, redirected, dialer, &stop_http, &stop_state).await?;
    // Only now, so that whoever is told that this node is ready finds its faces open.
    for (listener, router) in
        [(admin_listener, admin::router(admin.clone())), (probe_listener, admin::probe_router(admin.clone()))]
    {
        if let Some(listener) = listener {
            tasks.spawn(serve_admin(listener, router, stopping.clone()));
        }
    }
    let (name, incarnation) = (&settings.cluster.node, node.driver.me().0.0);
    let state = faces.state_place.as_ref().map(ToString::to_string);
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    tracing::info!(node = name, incarnation, state, workers, control = %node.control.local_addr(), "ready");
    Ok(Running {
        settings,
        store: node.store,
        operations: talk.operations,
        driver: node.driver,
        directory: node.directory,
        admin,
        draining,
        state_place: faces.state_place,
        http_draining: faces.http_draining,
        stop_http,
        stop_state,
        stop_all,
        http_tasks: faces.http_tasks,
        state_tasks: faces.state_tasks,
        tasks,
    })
}

/// The listeners, bound before anything is registered.
struct Listeners {
    control: Control,
    admin: Option<TcpListener>,
    probe: Option<TcpListener>,
    /// For requests of other members.
    requests: Option<TcpListener>,
}

pub(super) async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(cannot(format!("{setting} cannot listen on {address}")))
}

/// What is the same in two nodes that take the same keys for those of sessions, in the same way.
fn keys_digest(keys: &KeyMatcher) -> [u8; 32] {
    let mut text = String::new();
    for pattern in keys.patterns() {
        let layout = Layout::WORDS.iter().find(|(_, known)| *known == pattern.layout()).map(|(word, _)| *word);
        // Of a String and two Options this is the same in every version, and no two of them are alike.
        text.push_str(&format!("{:?}\n", (pattern.text(), layout, pattern.database(), pattern.variable())));
    }
    Digest::of(text.as_bytes()).0
}

async fn bind(settings: &Settings) -> Result<Listeners, StartError> {
    let cluster = &settings.cluster;
    let mut control = ControlSettings::new(cluster.name.clone(), cluster.node.clone());
    control.frame_bytes_max = cluster.frame_bytes_max;
    control.keys = keys_digest(settings.state.every_key());
    let control = Control::bind(cluster.control, control)
        .await
        .map_err(cannot(format!("[cluster] control cannot listen on {}", cluster.control)))?;
    let admin = if settings.admin.enabled { Some(listen(settings.admin.listen, "[admin]").await?) } else { None };
    let probe = match settings.probe.listen {
        Some(address) => Some(listen(address, "[probe]").await?),
        None => None,
    };
    let requests = match settings.http.forwards() {
        true => Some(listen(settings.http.forward_listen, "[http] forward_listen").await?),
        false => None,
    };
    Ok(Listeners { control, admin, probe, requests })
}

/// Where sessions are at rest, if anywhere.
fn at_rest(settings: &Settings, dialer: Option<Arc<Dialer>>, directory: &SqliteDirectory) -> Option<Arc<AtRest>> {
    let dialer = dialer.filter(|_| settings.rest_upstream().is_some())?;
    let patience = Duration::from_millis(settings.rest.upstream_ms_max);
    let keys = settings.state.every_key().clone();
    Some(Arc::new(AtRest::new(dialer, keys, directory.made_unix_ms(), settings.state.value_bytes_max, patience)))
}

/// Where clients' channels are. What the settings say of events holds until a client says otherwise.
fn bus(settings: &Settings) -> Bus {
    let numbering = settings.state.upstream.as_ref().map(|upstream| upstream.numbering()).unwrap_or_default();
    Bus::new(settings.state.notify_keyspace_events, numbering)
}

/// This node as a member: registered, its driver running.
struct Joined {
    control: Arc<Control>,
    directory: Arc<SqliteDirectory>,
    store: Arc<Store>,
    parked: Arc<Parked>,
    journal: Arc<Journal>,
    driver: Handle,
    lives: watch::Receiver<Option<Incarnation>>,
    rest: Option<Arc<AtRest>>,
    bus: Arc<Bus>,
    passage: Arc<Passage>,
    dialer: Option<Arc<Dialer>>,
}

/// A node whose sessions cannot rest would leave its clients without an answer where the upstream answers for sessions.
async fn can_follow(settings: &Settings, directory: &SqliteDirectory) -> Result<(), StartError> {
    let view = directory.view().await.map_err(cannot("[cluster] directory does not say in which mode the cluster is"))?;
    if view.mode.phase.goal() == Goal::Observe && settings.rest_upstream().is_none() {
        let what = "the cluster is in mode observe, where the upstream answers for sessions".to_owned();
        return Err(StartError { what, why: "set [state] upstream, and leave [rest] enabled on".to_owned() });
    }
    Ok(())
}

/// Registers in the directory and runs the driver.
async fn join(
    settings: &Settings,
    control: Arc<Control>,
    requests: Option<SocketAddr>,
    dialer: Option<Arc<Dialer>>,
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<Joined, StartError> {
    let DirectoryPlace::Sqlite { path } = &settings.cluster.directory;
    let begins = match settings.cluster.mode {
        BeginsAs::Own => Phase::Own,
        BeginsAs::Observe => Phase::Observe,
    };
    let options = SqliteOptions { cluster: settings.cluster.name.clone(), begins, ..SqliteOptions::default() };
    let directory = SqliteDirectory::open(path, options)
        .map_err(cannot(format!("[cluster] directory {} cannot be opened", path.display())))?;
    let directory = Arc::new(directory);
    let store = Store::new(adoption_rule(settings)).with_value_bytes_max(settings.state.value_bytes_max);
    let store = match settings.rest_upstream() {
        Some(_) => store.with_rest(Arc::new(settings.policy.clone()), settings.rest.unwritten_bytes_max),
        None => store,
    };
    let store = settings.state.max_memory.into_iter().fold(store, Store::with_memory_max);
    let bus = Arc::new(bus(settings));
    let store = Arc::new(store.with_happened(bus.happened().clone()));
    let key = settings.admin.id_key.as_ref().map_or_else(random_key, |key| Ok(IdKey(key.0)))?;
    let journal = Arc::new(Journal::new(key));
    let (lives_in, lives) = watch::channel(None);
    let mail = Arc::new(traffic::Mail { control: control.clone(), lives: lives_in.clone() });
    let parked = Arc::new(Parked::default());
    let rest = at_rest(settings, dialer.clone(), &directory);
    let passage = Arc::new(Passage::default());
    can_follow(settings, &directory).await?;
    let parts = Parts {
        parked: parked.clone(),
        directory: directory.clone() as Arc<dyn Directory>,
        store: store.clone(),
        post: mail,
        settings: node_settings(settings),
        directory_ms_max: settings.handover.commit_ms_max,
        journal: journal.clone(),
        rest: rest.clone(),
        passage: passage.clone(),
    };
    let draft = member_draft(settings, control.local_addr(), requests);
    let (loop_, driver) = Driver::register(parts, draft, settings.cluster.groups)
        .await
        .map_err(cannot(format!("node {:?} cannot register in the directory", settings.cluster.node)))?;
    lives_in.send_replace(Some(driver.me()));
    on_its_own_thread(loop_, stopping.clone(), tasks)?;
    let for_sieve = (store.clone(), directory.clone() as Arc<dyn Directory>);
    bus.set_sieve(Sieve { store: for_sieve.0, directory: for_sieve.1, standing: driver.standing(), rest: rest.clone() });
    Ok(Joined { control, directory, store, parked, journal, driver, lives, rest, bus, passage, dialer })
}

/// Runs the driver beside the workers: however long these take over clients' scripts and values, the lease is renewed. It must be
/// told to end, also after a start that failed (the sender is dropped then), for such a thread cannot be cancelled.
fn on_its_own_thread(
    driver: Driver<traffic::Mail>,
    mut stopping: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot("the thread of the lease cannot start"))?;
    tasks.spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                () = driver.run() => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
    });
    Ok(())
}

/// What talks to other nodes.
struct Talk {
    operations: Arc<Operations>,
    rebalancer: Arc<Rebalancer>,
    work: traffic::Tasks,
    neighbours: Arc<Neighbours>,
}

/// Runs the control channel and all that it brings messages to.
fn connect(settings: &Settings, node: &Joined, stopping: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) -> Talk {
    let limits = OperationLimits {
        parked_max: settings.state.parked_operations_max,
        park: Duration::from_millis(settings.state.park_ms_max),
        whole: Duration::from_millis(settings.state.operation_ms_max),
    };
    let sender = || -> SendTo {
        let control = node.control.clone();
        Box::new(move |to, message| traffic::send(&control, to, message))
    };
    let (store, driver) = (node.store.clone(), node.driver.clone());
    let forwards = Arc::new(Forwards::new(sender, limits.park + FORWARD_SLACK));
    let (policy, rest) = (Arc::new(settings.policy.clone()), node.rest.clone());
    let parked = node.parked.clone();
    let direct = node.dialer.clone().filter(|_| settings.rest_upstream().is_some()).map(|dialer| {
        let patience = Duration::from_millis(settings.rest.upstream_ms_max);
        Direct::new(dialer, patience, settings.state.output_bytes_max)
    });
    let operations = Operations::new(store.clone(), driver.clone(), parked, forwards, policy, rest, limits);
    let operations = operations.with_bus(node.bus.clone()).with_passage(node.passage.clone(), direct);
    let operations = Arc::new(operations);
    tasks.spawn(channels::spread(node.bus.clone(), node.control.clone(), stopping.clone()));
    tasks.spawn(channels::keep_told(operations.clone(), stopping.clone()));
    let rebalancer = Arc::new(Rebalancer::new(driver.clone(), node.directory.clone(), store.clone(), sender()));
    let (work, working) = traffic::Tasks::new();
    tasks.spawn(working);
    let app = settings.app.clone();
    let neighbours = Arc::new(Neighbours::new(app.name, app.version, settings.cluster.lease_ms * 1000));
    let inbound = Arc::new(traffic::Traffic {
        operations: operations.clone(),
        rebalancer: rebalancer.clone(),
        control: node.control.clone(),
        keys: Understanding::new(&settings.state),
        tasks: work.clone(),
        neighbours: neighbours.clone(),
    });
    tasks.spawn(live(node.control.clone(), inbound, node.lives.clone(), stopping.clone()));
    if settings.rest_upstream().is_some() {
        tasks.spawn(check_in_unused(store.clone(), driver.clone(), settings.rest.after_ms, stopping.clone()));
    }
    tasks.spawn(keep_within(store.clone(), driver.clone(), stopping.clone()));
    tasks.spawn(expire(store, driver, stopping.clone()));
    Talk { operations, rebalancer, work, neighbours }
}

fn random_key() -> Result<IdKey, StartError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(cannot("the system gives no random bytes"))?;
    Ok(IdKey(key))
}
