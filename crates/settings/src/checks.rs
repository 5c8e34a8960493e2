//! What is wrong with settings that are right each by itself, and what their reader should know though nothing is wrong.
//!
//! It never changes a setting. Called by [`crate::Settings::load`] after `assemble`.
//! Invariant: a mistake stands at the line of the setting that its remedy speaks of; warnings never stop anything.

use crate::gather::{Fields, Layer, Origin};
use crate::keys::KeyPattern;
use crate::listen::ListenAt;
use crate::mistake::Mistake;
use crate::redirect;
use crate::settings::Settings;
use crate::upstream::{HostPort, Upstream, UpstreamPlace};
use crate::words::{BeginsAs, Forward, HintEncoding, MergeBy};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use wayfarer_identity::{Place, Source};

/// Room that a value needs around it in a frame, in bytes.
const FRAME_OVERHEAD_BYTES: usize = 64 * 1024;

fn origin(fields: &Fields, key: &str) -> Origin {
    fields.get(key).map_or_else(
        || Origin { layer: Layer::Default, file: "defaults".to_owned(), line: None, key: key.to_owned() },
        |located| located.origin.clone(),
    )
}

/// Everything that does not go together; what rests on a key in `wrong` is left out, for its value is not the written one.
pub(crate) fn mistakes(settings: &Settings, fields: &Fields, wrong: &BTreeSet<&'static str>) -> Vec<Mistake> {
    let mut checks = Checks { fields, wrong, found: Vec::new() };
    leases(settings, &mut checks);
    scripts(settings, &mut checks);
    bounds(settings, &mut checks);
    addresses(settings, &mut checks);
    sockets(settings, &mut checks);
    strangers(settings, &mut checks);
    modes(settings, &mut checks);
    databases(settings, &mut checks);
    merging(settings, &mut checks);
    hints(settings, &mut checks);
    redirect::mistakes(settings, &mut checks);
    checks.found
}

/// What is found, and where.
pub(crate) struct Checks<'a> {
    fields: &'a Fields,
    wrong: &'a BTreeSet<&'static str>,
    found: Vec<Mistake>,
}

impl Checks<'_> {
    /// Reports at the first of `keys` that a person wrote, unless one of them is wrong by itself.
    pub(crate) fn report(&mut self, keys: &[&str], message: String, remedy: impl Into<String>) {
        if keys.iter().any(|key| self.wrong.contains(key)) {
            return;
        }
        let written = |key: &&&str| self.fields.get(**key).is_some_and(|located| located.origin.layer > Layer::Default);
        let place = keys.iter().find(written).or(keys.first()).copied().unwrap_or("");
        self.found.push(origin(self.fields, place).mistake(message, remedy));
    }
}

/// Times of the lease.
fn leases(settings: &Settings, checks: &mut Checks<'_>) {
    let cluster = &settings.cluster;
    let (lease_ms, margin_ms) = (cluster.lease_ms, cluster.lease_margin_ms);
    let least = margin_ms.saturating_mul(2);
    if least > lease_ms {
        let message = format!("a margin of {margin_ms} ms is more than half of a lease of {lease_ms} ms");
        checks.report(
            &["cluster.lease_margin_ms", "cluster.lease_ms"],
            message,
            format!("make cluster.lease_ms {least} at least"),
        );
    }
    let lapse_ms = lease_ms.saturating_add(margin_ms);
    if let Some(lost_after_ms) = cluster.lost_after_ms.filter(|ms| *ms < lapse_ms) {
        let keys = ["cluster.lost_after_ms", "cluster.lease_ms", "cluster.lease_margin_ms"];
        let message =
            format!("{lost_after_ms} ms is less than lease and margin together: sessions of a living node would be lost");
        checks.report(&keys, message, format!("write {lapse_ms} at least"));
    }
}

/// While a script runs its session's part of the store is held, and what renews the lease may have to wait for it.
fn scripts(settings: &Settings, checks: &mut Checks<'_>) {
    let (script_ms, lease_ms) = (settings.state.script_ms_max, settings.cluster.lease_ms);
    let usable_ms = lease_ms.saturating_sub(settings.cluster.lease_margin_ms);
    if script_ms >= usable_ms && settings.state.enabled {
        let message = format!(
            "a script of {script_ms} ms may cost this node its lease of {lease_ms} ms: nobody could use its sessions until it is renewed"
        );
        let most = usable_ms.saturating_sub(1).max(1);
        let remedy = format!("make state.script_ms_max {most} at most, better much less, or cluster.lease_ms longer");
        checks.report(&["state.script_ms_max", "cluster.lease_ms", "cluster.lease_margin_ms"], message, remedy);
    }
}

/// Bounds of which one must hold another.
fn bounds(settings: &Settings, checks: &mut Checks<'_>) {
    let state = &settings.state;
    for (key, wait_ms) in [("state.park_ms_max", state.park_ms_max), ("state.fetch_ms_max", state.fetch_ms_max)] {
        if wait_ms > state.operation_ms_max {
            let message = format!("{key} = {wait_ms} is longer than state.operation_ms_max = {}", state.operation_ms_max);
            checks.report(&["state.operation_ms_max", key], message, "one wait cannot be longer than the whole operation");
        }
    }
    let least = state.value_bytes_max.saturating_add(FRAME_OVERHEAD_BYTES);
    for (key, bytes) in [
        ("state.frame_bytes_max", state.frame_bytes_max),
        ("state.output_bytes_max", state.output_bytes_max),
        ("cluster.frame_bytes_max", settings.cluster.frame_bytes_max),
    ] {
        if bytes < least {
            let message =
                format!("{key} = {bytes} does not hold a value of state.value_bytes_max = {} bytes", state.value_bytes_max);
            let remedy = format!("make {key} {least} at least, or state.value_bytes_max smaller");
            checks.report(&[key, "state.value_bytes_max"], message, remedy);
        }
    }
}

/// Fields of answers that say how a message is to be read, who may read it, or what a client does with it.
const OF_HTTP: [&str; 22] = [
    "age",
    "alt-svc",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "location",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];

/// What balancers are told.
fn hints(settings: &Settings, checks: &mut Checks<'_>) {
    let http = &settings.http;
    let told =
        http.hint_of(&settings.cluster.node).filter(|_| http.hint_encoding == HintEncoding::Envoy && http.hint_cookie.is_some());
    if let Some(name) = told {
        let usable = |address: SocketAddr| address.port() != 0 && !address.ip().is_unspecified();
        if !name.parse().is_ok_and(usable) {
            let message = format!("{name} is no address to which Envoy could send a request");
            let remedy = "write the IP:PORT by which Envoy knows this node's HTTP face as http.hint";
            checks.report(&["http.hint", "http.hint_encoding"], message, remedy);
        }
    }
    let field = http.hint_header.as_ref().filter(|name| OF_HTTP.contains(&name.as_str()));
    if let Some(name) = field {
        let message = format!("{name} has a meaning of its own in HTTP");
        checks.report(&["http.hint_header"], message, "choose a name that nothing else uses, as x-session-node");
    }
    let is_hint = |source: &Source| matches!(&source.place, Place::Cookie(name) if Some(name) == http.hint_cookie.as_ref());
    if http.session.sources().iter().any(is_hint) {
        checks.report(&["http.hint_cookie"], "is the cookie of the session".to_owned(), "choose another name");
    }
}

/// Two listeners on one address, and faces that would talk to themselves.
fn addresses(settings: &Settings, checks: &mut Checks<'_>) {
    let redirect = &settings.redirect;
    let listeners: Vec<(&str, SocketAddr)> = [
        ("http.listen", settings.http.enabled.then_some(settings.http.listen)),
        ("http.forward_listen", settings.http.forwards().then_some(settings.http.forward_listen)),
        ("state.listen", settings.state.listen.tcp().filter(|_| settings.state.enabled)),
        ("cluster.control", Some(settings.cluster.control)),
        ("admin.listen", settings.admin.enabled.then_some(settings.admin.listen)),
        ("probe.listen", settings.probe.listen),
        ("redirect.outbound_port", redirect.outbound.then_some((Ipv4Addr::LOCALHOST, redirect.outbound_port).into())),
        ("redirect.inbound_port", redirect.inbound.then_some((Ipv4Addr::UNSPECIFIED, redirect.inbound_port).into())),
    ]
    .into_iter()
    .chain(settings.state.listeners.iter().filter(|_| settings.state.enabled).map(|more| ("state.listener", more.listen.tcp())))
    .filter_map(|(key, address)| address.filter(|address| address.port() != 0).map(|address| (key, address)))
    .collect();
    for (at, (key, address)) in listeners.iter().enumerate() {
        if let Some((other, _)) = listeners.iter().take(at).find(|(_, earlier)| same_place(*earlier, *address)) {
            checks.report(&[key, other], format!("{key} is the same address as {other}"), "give each its own port");
        }
        if settings.app.address.tcp().is_some_and(|app| same_place(*address, app)) {
            let message = format!("the instance is expected at {}, where {key} is", settings.app.address);
            checks.report(
                &["app.address", key],
                message,
                "let the instance listen on another port, and name that in app.address",
            );
        }
    }
    let servers: &[HostPort] = match settings.state.upstream.as_ref().map(|upstream| &upstream.place) {
        Some(UpstreamPlace::Server(server)) => std::slice::from_ref(server),
        Some(UpstreamPlace::Cluster(servers)) => servers,
        _ => &[],
    };
    for server in servers.iter().filter(|_| settings.state.enabled) {
        let host = if server.host == "localhost" { "127.0.0.1" } else { server.host.as_str() };
        let is_face = |ip| settings.state.listen.tcp().is_some_and(|face| same_place(face, SocketAddr::new(ip, server.port)));
        if host.parse().is_ok_and(is_face) {
            let keys = ["state.upstream", "state.upstream_file", "state.listen"];
            let remedy = "name the Redis behind it, or give state.listen another port";
            checks.report(&keys, "the upstream is the state face itself".to_owned(), remedy);
        }
    }
}

/// Two listeners on one Unix socket.
fn sockets(settings: &Settings, checks: &mut Checks<'_>) {
    let faces = settings.state.faces().filter(|_| settings.state.enabled);
    let paths: Vec<(&str, &ListenAt)> = faces.map(|(key, at, _)| (key, at)).filter(|(_, at)| at.tcp().is_none()).collect();
    for (at, (key, place)) in paths.iter().enumerate() {
        if let Some((other, _)) = paths.iter().take(at).find(|(_, earlier)| earlier == place) {
            checks.report(&[key, other], format!("{key} is the same socket as {other}"), "give each its own path");
        }
    }
}

/// Who is served without a password.
fn strangers(settings: &Settings, checks: &mut Checks<'_>) {
    let state = &settings.state;
    if !state.enabled || state.open || state.password.is_some() {
        return;
    }
    for (key, listen) in state.addresses() {
        if !listen.ip().to_canonical().is_loopback() {
            let message = "other machines could read and write all sessions: there is no state.password".to_owned();
            let remedy = "set state.password or state.password_file, listen on loopback, or write state.open = true";
            // A file that could not be read has been named already.
            checks.report(&[key, "state.password", "state.password_file", "state.open"], message, remedy);
        }
    }
}

/// A write is merged on what its writer has read, so that must be known.
fn merging(settings: &Settings, checks: &mut Checks<'_>) {
    let merges = settings.state.keys.patterns().iter().any(KeyPattern::merges);
    let http = &settings.http;
    match settings.state.merge_by {
        None if merges => {
            let message = "merge = \"members\" needs to know whose read a write rests on: there is no state.merge_by".to_owned();
            let remedy = "set merge_by = \"connection\" if each connection of the instance serves one request at a time (PHP, one \
                          process a request), or \"request\" to go by the requests of the HTTP face";
            checks.report(&["state.merge_by", "state.keys"], message, remedy);
        }
        Some(MergeBy::Request) if merges && (!http.enabled || http.session.is_empty()) => {
            let message = "is \"request\", but the HTTP face does not see which session a request belongs to".to_owned();
            checks.report(&["state.merge_by"], message, "enable [http] and set http.session, or use merge_by = \"connection\"");
        }
        _ => {}
    }
}

/// What a cluster needs that begins with the upstream answering for sessions.
fn modes(settings: &Settings, checks: &mut Checks<'_>) {
    if settings.cluster.mode == BeginsAs::Observe && settings.rest_upstream().is_none() {
        let message = "mode observe needs an upstream that answers for sessions".to_owned();
        let remedy = "set state.upstream (and leave rest.enabled on), or write cluster.mode = \"own\"";
        checks.report(&["cluster.mode", "state.upstream", "state.upstream_file", "rest.enabled"], message, remedy);
    }
}

/// A Redis Cluster has one database.
fn databases(settings: &Settings, checks: &mut Checks<'_>) {
    let state = &settings.state;
    if !state.enabled || !state.upstream.as_ref().is_some_and(Upstream::is_cluster) {
        return;
    }
    for pattern in state.every_key().patterns() {
        if let Some(database) = pattern.database().filter(|database| *database != 0) {
            let message = format!("`{}` is in database {database}, and a Redis Cluster has none but 0", pattern.text());
            checks.report(&["state.keys", "state.upstream", "state.upstream_file"], message, "remove the database of that entry");
        }
    }
}

/// Whether a listener on `a` and one on `b` would be in each other's way.
fn same_place(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// What is right, but should be known.
pub(crate) fn warnings(settings: &Settings, fields: &Fields) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut warn = |key: &str, message: &str, remedy: &str| found.push(origin(fields, key).mistake(message, remedy));
    let (http, state) = (&settings.http, &settings.state);
    if state.enabled {
        let lost = "a crash of a node loses the sessions that it owns, and the drain of the last member loses them all";
        if state.upstream.is_none() {
            let message =
                format!("is not set: sessions live in memory only ({lost}), and keys that are no session's get an error");
            warn("state.upstream", &message, "set it: sessions are at rest there, and other keys are served");
        } else if !settings.rest.enabled {
            let message = format!("is false: sessions live in memory only ({lost})");
            warn("rest.enabled", &message, "turn it on, or have two nodes at least");
        }
        let asks_for_rest = fields.get("rest.enabled").is_some_and(|located| located.origin.layer > Layer::Default);
        if settings.rest.enabled && state.upstream.is_none() && asks_for_rest {
            warn("rest.enabled", "is true, but there is no state.upstream where sessions could rest", "set state.upstream");
        }
        if state.every_key().patterns().is_empty() {
            warn("state.keys", "is empty: no key is a session's", "name a preset or a pattern");
        }
        if state.keys.patterns().iter().any(KeyPattern::takes_every_key) {
            let message = "the pattern {session} alone takes every key that no other pattern takes, each as a session of its own: \
                           also caches, locks and queues, which then are not in the upstream";
            warn("state.keys", message, "give the pattern a prefix, or use it only where all keys are sessions");
        }
        for (key, listen) in state.addresses() {
            if state.open && state.password.is_none() && !listen.ip().to_canonical().is_loopback() {
                let message = "other machines can read and write all sessions: there is no state.password";
                warn(key, message, "set state.password or state.password_file, or listen on loopback");
            }
        }
    } else if !http.enabled {
        warn("state.enabled", "neither the state face nor the HTTP face is enabled: this node serves nobody", "enable one");
    }
    if state.merge_by.is_some() && !state.keys.patterns().iter().any(KeyPattern::merges) {
        let message = "has no meaning: no entry of state.keys has merge = \"members\"";
        warn("state.merge_by", message, "add it to an entry, or remove this");
    }
    if http.session.is_empty() && http.hint_of(&settings.cluster.node).is_some() {
        let key = if http.hint_cookie.is_some() { "http.hint_cookie" } else { "http.hint_header" };
        warn(
            key,
            "has no meaning: http.session does not say where requests name their session",
            "set http.session, or remove this",
        );
    }
    if http.enabled && http.forward == Forward::Owner && http.session.is_empty() {
        let message = "has no meaning: http.session does not say where requests name their session";
        warn("http.forward", message, "set http.session, or remove this");
    }
    let has_version = fields.get("app.version").is_some_and(|located| located.origin.layer > Layer::Default);
    if http.forwards() && !has_version {
        let message = "is not set: while a new version is rolled out, requests are forwarded between the old and the new one";
        warn("app.version", message, "set it to what changes with each release");
    }
    if http.enabled && http.session.is_empty() {
        let message = "is not set: the HTTP face only proxies, and starts no fetch before the instance asks";
        warn("http.session", message, "name the cookie with the session's id: session = { cookie = \"…\" }");
    }
    warn(
        "cluster.directory",
        "SQLite joins the nodes of one machine only; nodes elsewhere would be a cluster of their own",
        "run all nodes on this machine (other directories come later)",
    );
    if settings.admin.enabled && settings.admin.id_key.is_none() {
        let message = "is not set: each process shows the same session under another hash, and a new one after a restart";
        warn("admin.id_key", message, "set it, or admin.id_key_file, to the same 32 hexadecimal digits on all nodes");
    }
    if !settings.redirect.is_on() && settings.redirect.sidecar_user.is_some() {
        let message = "has no meaning: nothing is redirected";
        warn("redirect.sidecar_user", message, "set redirect.outbound or redirect.inbound, or remove this");
    }
    if !settings.admin.enabled {
        let message = "is false: no status, no drain by command, no metrics but on probe.listen";
        warn("admin.enabled", message, "leave it on; it listens on loopback only");
    }
    found
}
