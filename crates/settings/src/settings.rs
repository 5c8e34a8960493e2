//! The settings as the rest of Wayfarer uses them: typed, within bounds, complete.
//!
//! Plain data; made by `assemble` alone, read by the composition root. What each field means, its default
//! and its bounds stand in [`crate::table::TABLE`] under the same name.
//! Invariant: whoever holds a [`Settings`] need not check it again. No `Debug` output shows a secret.

use crate::keys::KeyMatcher;
use crate::listen::ListenAt;
use crate::presets::IndexKey;
use crate::redirect::Redirect;
use crate::secret::{IdKey, Secret};
use crate::upstream::{DirectoryPlace, Upstream};
use crate::words::{BeginsAs, Forward, HintEncoding, ListenerSessions, LogFormat, LogLevel, MergeBy};
use http::header::HeaderName;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use wayfarer_certificates::Files;
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::plan::Policy;
use wayfarer_identity::Identity;

/// Everything.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "each field is the section of the same name")]
pub struct Settings {
    pub app: App,
    pub http: Http,
    pub state: State,
    pub cluster: Cluster,
    pub handover: Handover,
    pub rest: Rest,
    pub drain: Drain,
    pub child: Child,
    pub policy: Policy,
    pub admin: Admin,
    pub probe: Probe,
    pub redirect: Redirect,
    pub runtime: Runtime,
    pub log: Log,
}

/// `[app]`: the instance.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct App {
    pub name: String,
    pub version: String,
    pub address: ListenAt,
    pub http2: bool,
    pub probe_ms: u64,
}

/// `[http]`: the HTTP face.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Http {
    /// Whether there is one.
    pub enabled: bool,
    /// Port 0: any free one.
    pub listen: SocketAddr,
    /// How long requests in flight and WebSockets may go on when the sidecar ends.
    pub close_ms_max: u64,
    pub websocket_close_ms: u64,
    pub connections_max: usize,
    pub idle_ms_max: u64,
    pub header_ms_max: u64,
    pub header_bytes_max: usize,
    pub stalled_ms_max: u64,
    pub body_bytes_per_s_min: u64,
    pub request_ms_max: Option<u64>,
    pub connect_ms_max: u64,
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_protocol: bool,
    /// `None`: without TLS.
    pub tls: Option<Files>,
    pub http2: bool,
    /// `-`: standard output.
    pub access_log: Option<PathBuf>,
    /// Where the session's id is; empty: the face only proxies.
    pub session: Identity,
    pub hint_cookie: Option<String>,
    pub hint_header: Option<HeaderName>,
    /// The name by which balancers know this node.
    pub hint: Option<String>,
    pub hint_encoding: HintEncoding,
    pub forward: Forward,
    /// Loopback; port 0: any free one.
    pub forward_listen: SocketAddr,
    pub waiting_max: usize,
    pub waiting_bytes_max: usize,
    pub waiting_ms_max: u64,
}

impl Http {
    /// Whether requests go to the owners of their sessions, and other members' come here.
    pub fn forwards(&self) -> bool {
        self.enabled && self.forward == Forward::Owner && !self.session.is_empty()
    }

    /// The name of the node `node` for balancers; `None`: nobody is told any.
    pub fn hint_of(&self, node: &str) -> Option<String> {
        let is_told = self.enabled && (self.hint_cookie.is_some() || self.hint_header.is_some());
        let default = || match self.hint_encoding {
            HintEncoding::Plain => node.to_owned(),
            HintEncoding::Envoy => self.listen.to_string(),
        };
        is_told.then(|| self.hint.clone().unwrap_or_else(default))
    }
}

/// `[state]`: the state face.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct State {
    pub enabled: bool,
    pub listen: ListenAt,
    pub socket_mode: u32,
    pub upstream: Option<Upstream>,
    pub password: Option<Secret>,
    pub keys: KeyMatcher,
    /// Keys of the presets in use that belong to no single session, and go upstream.
    pub index_keys: Vec<IndexKey>,
    pub listeners: Vec<StateListener>,
    pub connections_max: usize,
    pub pipeline_depth_max: usize,
    pub frame_bytes_max: usize,
    pub value_bytes_max: usize,
    pub output_bytes_max: usize,
    pub output_total_bytes_max: usize,
    pub parked_operations_max: usize,
    pub park_ms_max: u64,
    pub fetch_ms_max: u64,
    pub operation_ms_max: u64,
    pub open: bool,
    pub flush: bool,
    /// What tells whose read a write to a key with [`crate::KeyPattern::merges`] rests on.
    pub merge_by: Option<MergeBy>,
    pub notify_keyspace_events: Classes,
    pub max_memory: Option<u64>,
    pub script_ms_max: u64,
    pub script_memory_bytes_max: usize,
}

/// `[[state.listener]]`: one more listener of the state face.
#[derive(Clone, PartialEq, Debug)]
pub struct StateListener {
    /// Where it listens.
    pub listen: ListenAt,
    /// Which of its keys are sessions'.
    pub sessions: ListenerSessions,
    /// The matcher for the keys of its clients: the one of [`State::keys`], perhaps with every other key as a session.
    pub keys: KeyMatcher,
}

/// `[cluster]`: who this node is, and how it finds and meets the others.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Cluster {
    pub name: String,
    pub node: String,
    /// Loopback; port 0: any free one.
    pub control: SocketAddr,
    /// Loopback; what other nodes are told instead of where it listens.
    pub advertise: Option<SocketAddr>,
    pub directory: DirectoryPlace,
    pub groups: usize,
    pub lease_ms: u64,
    pub lease_margin_ms: u64,
    pub lost_after_ms: Option<u64>,
    pub mode: BeginsAs,
    pub mode_ms_max: u64,
    pub frame_bytes_max: usize,
}

/// `[handover]`: moves of sessions.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Handover {
    pub at_once_max: usize,
    pub carried_bytes_max: u64,
    pub propose_ms_max: u64,
    pub stage_ms_max: u64,
    pub commit_ms_max: u64,
    pub arrivals_to_adopt: usize,
    pub arrival_gap_ms: u64,
    pub residence_ms_min: u64,
    pub trickle: bool,
    pub trickle_bytes_per_s: u64,
    pub residual_bytes_max: u64,
}

/// `[rest]`: sessions at rest in the upstream.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Rest {
    pub enabled: bool,
    pub after_ms: u64,
    pub high_ms: u64,
    pub medium_ms: u64,
    pub low_ms: u64,
    pub upstream_ms_max: u64,
    pub batches_max: usize,
    pub unwritten_bytes_max: u64,
}

/// `[drain]`: leaving.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Drain {
    pub budget_ms: u64,
    pub settle_ms: u64,
}

/// `[child]`: the instance, where `wayfarer run -- COMMAND` starts it.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Child {
    pub stop_ms_max: u64,
}

/// `[admin]`: the admin interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Admin {
    /// Whether there is one.
    pub enabled: bool,
    /// Loopback; port 0: any free one.
    pub listen: SocketAddr,
    /// `None`: the process makes a random one.
    pub id_key: Option<IdKey>,
}

/// `[probe]`: health and metrics for other machines.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    /// Port 0: any free one; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[runtime]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Runtime {
    /// Threads that serve; `None`: half of the CPUs, at least two.
    pub workers: Option<usize>,
}

/// `[log]`.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

impl State {
    /// Where it listens and for which keys, all listeners together, each with the setting that says so.
    pub fn faces(&self) -> impl Iterator<Item = (&'static str, &ListenAt, &KeyMatcher)> {
        let more = self.listeners.iter().map(|more| ("state.listener", &more.listen, &more.keys));
        [("state.listen", &self.listen, &self.keys)].into_iter().chain(more)
    }

    /// Those of its places that are addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.faces().filter_map(|(key, place, _)| Some((key, place.tcp()?)))
    }

    /// The matcher for what may come through any of its listeners: what another node forwards, and what is at rest.
    pub fn every_key(&self) -> &KeyMatcher {
        // Those that take every key are equal.
        self.listeners.iter().find(|more| more.sessions == ListenerSessions::All).map_or(&self.keys, |more| &more.keys)
    }
}

impl Settings {
    /// The upstream, if sessions are at rest there.
    pub fn rest_upstream(&self) -> Option<&Upstream> {
        self.state.upstream.as_ref().filter(|_| self.rest.enabled && self.state.enabled)
    }
}
