//! Puts the typed settings together: one line a field, and the two lists.
//!
//! It knows which settings there are, not what is right (`values`, the table) nor what goes together (`checks`). Called by
//! [`crate::Settings::load`].
//! Invariant: every row of the table is asked for here (a test), so no setting is accepted and then ignored.

use crate::gather::{Item, Layer, Origin, Raw};
use crate::key_entries;
use crate::mistake::{Complaint, Mistake};
use crate::reader::Reader;
use crate::redirect;
use crate::settings::{Admin, App, Child, Cluster, Drain, Handover, Http, Log, Probe, Rest, Runtime, Settings, State};
use crate::sources;
use crate::upstream::{DirectoryPlace, Upstream, UpstreamPlace, UpstreamTls};
use crate::words::{BeginsAs, Forward, HintEncoding, LogFormat, LogLevel};
use http::header::HeaderName;
use std::path::PathBuf;
use wayfarer_certificates::{Files, Which};
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::plan::{Impact, OnLost, Policy, Rule, Treatment};
use wayfarer_engine::session::Class;

/// Longest glob for names of variables, in bytes.
const GLOB_BYTES_MAX: usize = 256;

/// Reads everything; `host_name` is the name of the node where none is set.
pub(crate) fn settings(read: &mut Reader<'_>, host_name: &str) -> Settings {
    Settings {
        app: App {
            name: read.text("app.name"),
            version: read.text("app.version"),
            address: read.instance("app.address"),
            http2: read.flag("app.http2"),
            probe_ms: read.number("app.probe_ms"),
        },
        http: http(read),
        state: state(read),
        cluster: cluster(read, host_name),
        handover: handover(read),
        rest: rest(read),
        drain: Drain { budget_ms: read.number("drain.budget_ms"), settle_ms: read.number("drain.settle_ms") },
        child: Child { stop_ms_max: read.number("child.stop_ms_max") },
        policy: policy(read),
        admin: Admin { enabled: read.flag("admin.enabled"), listen: read.listen("admin.listen"), id_key: read.id_key() },
        probe: Probe { listen: read.optional_listen("probe.listen") },
        redirect: redirect::redirect(read),
        runtime: Runtime { workers: read.optional_number("runtime.workers").and_then(|workers| usize::try_from(workers).ok()) },
        log: Log {
            format: read.choice("log.format").unwrap_or(LogFormat::Text),
            level: read.choice("log.level").unwrap_or(LogLevel::Info),
        },
    }
}

fn http(read: &mut Reader<'_>) -> Http {
    Http {
        enabled: read.flag("http.enabled"),
        listen: read.listen("http.listen"),
        close_ms_max: read.number("http.close_ms_max"),
        websocket_close_ms: read.number("http.websocket_close_ms"),
        connections_max: read.count("http.connections_max"),
        idle_ms_max: read.number("http.idle_ms_max"),
        header_ms_max: read.number("http.header_ms_max"),
        header_bytes_max: read.count("http.header_bytes_max"),
        stalled_ms_max: read.number("http.stalled_ms_max"),
        body_bytes_per_s_min: read.number("http.body_bytes_per_s_min"),
        request_ms_max: read.optional_number("http.request_ms_max"),
        connect_ms_max: read.number("http.connect_ms_max"),
        trusted_proxies: read.networks("http.trusted_proxies"),
        proxy_protocol: read.flag("http.proxy_protocol"),
        tls: tls(read),
        http2: read.flag("http.http2"),
        access_log: read.optional_text("http.access_log").map(PathBuf::from),
        session: sources::identity(read),
        hint_cookie: read.optional_text("http.hint_cookie"),
        hint_header: read.optional_text("http.hint_header").and_then(|name| HeaderName::try_from(name).ok()),
        hint: read.optional_text("http.hint"),
        hint_encoding: read.choice("http.hint_encoding").unwrap_or(HintEncoding::Plain),
        forward: read.choice("http.forward").unwrap_or(Forward::Never),
        forward_listen: read.listen("http.forward_listen"),
        waiting_max: read.count("http.waiting_max"),
        waiting_bytes_max: read.count("http.waiting_bytes_max"),
        waiting_ms_max: read.number("http.waiting_ms_max"),
    }
}

/// The files for TLS, which are looked into: whoever starts or checks with them hears at the right line what is wrong.
fn tls(read: &mut Reader<'_>) -> Option<Files> {
    const KEYS: [&str; 2] = ["http.tls_certificate_file", "http.tls_key_file"];
    let [certificate, key] = KEYS.map(|key| read.optional_text(key).map(PathBuf::from));
    let (at, message, remedy) = match (certificate, key) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => {
            let files = Files { certificate, key };
            match files.read() {
                Ok(_) => return Some(files),
                Err(fault) => (usize::from(fault.file == Which::Key), fault.message, fault.remedy.to_owned()),
            }
        }
        (Some(_), None) => (0, "needs its private key".to_owned(), format!("set {} too", KEYS[1])),
        (None, Some(_)) => (1, "needs its certificate".to_owned(), format!("set {} too", KEYS[0])),
    };
    let place = KEYS.get(at).and_then(|key| read.located(key));
    if let Some(mistake) = place.map(|located| located.origin.mistake(message, remedy)) {
        read.report(mistake);
    }
    None
}

fn state(read: &mut Reader<'_>) -> State {
    let (keys, index_keys) = key_entries::keys(read);
    State {
        enabled: read.flag("state.enabled"),
        listen: read.listen_at("state.listen"),
        socket_mode: read.mode("state.socket_mode"),
        upstream: upstream(read),
        password: read.secret("state.password", "state.password_file", |password| Ok(password.clone())),
        listeners: key_entries::listeners(read, &keys),
        keys,
        index_keys,
        connections_max: read.count("state.connections_max"),
        pipeline_depth_max: read.count("state.pipeline_depth_max"),
        frame_bytes_max: read.count("state.frame_bytes_max"),
        value_bytes_max: read.count("state.value_bytes_max"),
        output_bytes_max: read.count("state.output_bytes_max"),
        output_total_bytes_max: read.count("state.output_total_bytes_max"),
        parked_operations_max: read.count("state.parked_operations_max"),
        park_ms_max: read.number("state.park_ms_max"),
        fetch_ms_max: read.number("state.fetch_ms_max"),
        operation_ms_max: read.number("state.operation_ms_max"),
        open: read.flag("state.open"),
        flush: read.flag("state.flush"),
        max_memory: read.optional_number("state.max_memory"),
        merge_by: read.choice("state.merge_by"),
        notify_keyspace_events: read.parsed("state.notify_keyspace_events", events).unwrap_or_default(),
        script_ms_max: read.number("state.script_ms_max"),
        script_memory_bytes_max: read.count("state.script_memory_bytes_max"),
    }
}

/// The upstream's URL, and what is said of it beside the URL.
fn upstream(read: &mut Reader<'_>) -> Option<Upstream> {
    const TLS: [&str; 4] =
        ["state.upstream_ca_file", "state.upstream_server_name", "state.upstream_cert_file", "state.upstream_key_file"];
    const PASSWORDS: [&str; 2] = ["state.sentinel_password", "state.sentinel_password_file"];
    let mut upstream = read.secret("state.upstream", "state.upstream_file", |url| Upstream::parse(url.expose()));
    let [ca, server_name, certificate, key] = TLS;
    let tls = UpstreamTls {
        ca_file: read.file(ca),
        server_name: read.optional_text(server_name),
        client: read.file(certificate).zip(read.file(key)).map(|(certificate, key)| Files { certificate, key }),
    };
    let sentinel_password = read.secret(PASSWORDS[0], PASSWORDS[1], |password| Ok(password.clone()));
    let Some(found) = upstream.as_mut() else {
        // What is wrong with the URL itself has been named.
        if read.located("state.upstream").is_none() && read.located("state.upstream_file").is_none() {
            let told = TLS.iter().chain(&PASSWORDS).filter_map(|key| read.located(key));
            let unused =
                told.map(|located| located.origin.mistake("has no meaning without state.upstream", "set that, or remove it"));
            let unused: Vec<Mistake> = unused.collect();
            read.warnings.extend(unused);
        }
        return None;
    };
    let (has_tls, has_sentinels) = (found.tls.is_some(), matches!(found.place, UpstreamPlace::Sentinels { .. }));
    found.tls.iter_mut().for_each(|own| *own = tls.clone());
    if let UpstreamPlace::Sentinels(sentinels) = &mut found.place {
        sentinels.password = sentinel_password;
    }
    let without = |read: &mut Reader<'_>, keys: &[&str], message: &str, remedy: &str| {
        for key in keys {
            if let Some(located) = read.located(key) {
                let mistake = located.origin.mistake(message, remedy);
                read.report(mistake);
            }
        }
    };
    if !has_tls {
        without(read, &TLS, "has no meaning without TLS to the upstream", "write rediss://… in state.upstream, or remove it");
    }
    if !has_sentinels {
        without(read, &PASSWORDS, "has no meaning: state.upstream names no sentinels", "remove it");
    }
    let is_set = |read: &Reader<'_>, key| read.located(key).is_some();
    for (one, other) in [(certificate, key), (key, certificate)] {
        if is_set(read, one) && !is_set(read, other) {
            without(read, &[one], &format!("{other} is not set"), "a client certificate needs both: set it, or remove this");
        }
    }
    upstream
}

fn events(text: &str) -> Result<Classes, Complaint> {
    let unknown = || Complaint::new("has a letter that Redis does not know", "write letters of Ag$lshzxeKEtmdn, such as Egx");
    let classes = Classes::parse(text.as_bytes()).ok_or_else(unknown)?;
    if classes.tells_something() || text.is_empty() {
        return Ok(classes);
    }
    Err(Complaint::new("tells nobody anything", "write K or E, and the letters of classes beside it, such as Egx"))
}

fn cluster(read: &mut Reader<'_>, host_name: &str) -> Cluster {
    let mut node = read.optional_text("cluster.node").unwrap_or_default();
    if read.located("cluster.node").is_none() {
        node = node_of_host(read, host_name);
    }
    let directory = read.parsed("cluster.directory", DirectoryPlace::parse);
    Cluster {
        name: read.text("cluster.name"),
        node,
        control: read.listen("cluster.control"),
        advertise: read.optional_listen("cluster.advertise"),
        directory: directory.unwrap_or(DirectoryPlace::Sqlite { path: PathBuf::new() }),
        groups: read.count("cluster.groups"),
        lease_ms: read.number("cluster.lease_ms"),
        lease_margin_ms: read.number("cluster.lease_margin_ms"),
        lost_after_ms: read.optional_number("cluster.lost_after_ms"),
        mode: read.choice("cluster.mode").unwrap_or(BeginsAs::Own),
        mode_ms_max: read.number("cluster.mode_ms_max"),
        frame_bytes_max: read.count("cluster.frame_bytes_max"),
    }
}

/// The host name as the node's name, held to the same bounds.
fn node_of_host(read: &mut Reader<'_>, host_name: &str) -> String {
    let origin = Origin { layer: Layer::Default, file: "defaults".to_owned(), line: None, key: "cluster.node".to_owned() };
    let located = crate::gather::Located { raw: Raw::Bare(host_name.to_owned()), origin };
    let fields = [("cluster.node", located)].into_iter().collect();
    let mut mistakes = Vec::new();
    let name = Reader::new(&fields, &mut mistakes).optional_text("cluster.node");
    for mistake in mistakes {
        read.report(Mistake {
            message: format!("the host name cannot be the node's name: {}", mistake.message),
            remedy: "set cluster.node".to_owned(),
            ..mistake
        });
    }
    name.unwrap_or_default()
}

fn handover(read: &mut Reader<'_>) -> Handover {
    Handover {
        at_once_max: read.count("handover.at_once_max"),
        carried_bytes_max: read.number("handover.carried_bytes_max"),
        propose_ms_max: read.number("handover.propose_ms_max"),
        stage_ms_max: read.number("handover.stage_ms_max"),
        commit_ms_max: read.number("handover.commit_ms_max"),
        arrivals_to_adopt: read.count("handover.arrivals_to_adopt"),
        arrival_gap_ms: read.number("handover.arrival_gap_ms"),
        residence_ms_min: read.number("handover.residence_ms_min"),
        trickle: read.flag("handover.trickle"),
        trickle_bytes_per_s: read.number("handover.trickle_bytes_per_s"),
        residual_bytes_max: read.number("handover.residual_bytes_max"),
    }
}

fn rest(read: &mut Reader<'_>) -> Rest {
    Rest {
        enabled: read.flag("rest.enabled"),
        after_ms: read.number("rest.after_ms"),
        high_ms: read.number("rest.high_ms"),
        medium_ms: read.number("rest.medium_ms"),
        low_ms: read.number("rest.low_ms"),
        upstream_ms_max: read.number("rest.upstream_ms_max"),
        batches_max: read.count("rest.batches_max"),
        unwritten_bytes_max: read.number("rest.unwritten_bytes_max"),
    }
}

/// The entries of a list.
pub(crate) fn items<'a>(read: &mut Reader<'a>, key: &'static str) -> &'a [Item] {
    #[cfg(test)]
    read.asked.push(key);
    match read.located(key) {
        None => &[],
        Some(located) => match &located.raw {
            Raw::Items(items) => items,
            _ => {
                let remedy = format!("write a list: [{{ … }}, …], or [[{key}]] for each entry");
                let mistake = located.origin.mistake("is not a list", remedy);
                read.report(mistake);
                &[]
            }
        },
    }
}

fn policy(read: &mut Reader<'_>) -> Policy {
    let class = read.choice("policy.class").unwrap_or(Class::Streamed);
    let impact = read.choice("policy.impact").unwrap_or(Impact::High);
    let on_lost = read.choice("policy.on_lost").unwrap_or(OnLost::Error);
    if class == Class::Dropped
        && let Some(located) = read.located("policy.class")
    {
        let remedy = "choose another class, or say so by a last rule with name = \"*\"";
        let mistake = located.origin.mistake("every move would lose all variables that no rule names", remedy);
        read.report(mistake);
    }
    let default = Treatment { class, impact, on_lost };
    let mut rules: Vec<(Rule, Origin)> = Vec::new();
    for item in items(read, "policy.variable") {
        let mut mistakes = Vec::new();
        let mut entry = Reader::new(&item.fields, &mut mistakes);
        let rule = rule(&mut entry, default);
        let origin = entry.origin_or("policy.variable[].name", &item.origin);
        #[cfg(test)]
        read.asked.append(&mut entry.asked);
        match rule {
            Ok(rule) => {
                let earlier = rules
                    .iter()
                    .find(|(earlier, _)| earlier.pattern == rule.pattern || earlier.pattern.bytes().all(|byte| byte == b'*'));
                if let Some((earlier, place)) = earlier {
                    let place = place.line.map_or_else(|| place.file.clone(), |line| format!("line {line}"));
                    let message =
                        format!("this rule is never used: the one for `{}` ({place}) takes its variables", earlier.pattern);
                    mistakes.push(origin.mistake(message, "remove one, or put this one first"));
                }
                rules.push((rule, origin));
            }
            Err(Some(complaint)) => mistakes.push(origin.mistake(complaint.message, complaint.remedy)),
            Err(None) => {}
        }
        mistakes.into_iter().for_each(|mistake| read.report(mistake));
    }
    Policy { default, rules: rules.into_iter().map(|(rule, _)| rule).collect() }
}

/// The glob of a rule; matching takes (length of the glob × length of the name) steps at most, so the length is bounded.
fn glob(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > GLOB_BYTES_MAX {
        let message = format!("has {} bytes", text.len());
        return Err(Complaint::new(message, format!("give the name or glob 1 to {GLOB_BYTES_MAX} bytes, as in \"cart_*\"")));
    }
    Ok(text.to_owned())
}

/// One rule; `Err(None)`: its name is wrong, which is reported already.
fn rule(entry: &mut Reader<'_>, default: Treatment) -> Result<Rule, Option<Complaint>> {
    let pattern = entry.parsed("policy.variable[].name", glob);
    let class = entry.choice("policy.variable[].class");
    let impact = entry.choice("policy.variable[].impact");
    let on_lost = entry.choice("policy.variable[].on_lost");
    if entry.located("policy.variable[].name").is_none() {
        return Err(Some(Complaint::new("has a rule without a name", "add name = \"…\" (* is any text)")));
    }
    let pattern = pattern.ok_or(None)?;
    let treatment = Treatment {
        class: class.unwrap_or(default.class),
        impact: impact.unwrap_or(default.impact),
        on_lost: on_lost.unwrap_or(default.on_lost),
    };
    Ok(Rule { pattern, treatment })
}
