//! What each part is told: the settings in the part's own terms and units.
//!
//! It decides nothing that is not a setting, and starts nothing. Called by `start`.
//! Invariant: milliseconds of the settings become microseconds of the engine here and nowhere else.

use std::net::SocketAddr;
use std::sync::Arc;
use wayfarer_engine::directory::{MemberDraft, Role};
use wayfarer_engine::lease::LeaseTimes;
use wayfarer_engine::node::NodeSettings;
use wayfarer_engine::residence::AdoptionRule;
use wayfarer_engine::rest::RestSettings;
use wayfarer_http_face::{self as http, PassKey};
use wayfarer_settings::{HintEncoding, ListenAt, Settings};

/// What a face adds to a header that it forwards: the pass, who the client is, ids of request and trace.
const PASS_ROOM_BYTES: usize = 8 * 1024;

pub(super) fn adoption_rule(settings: &Settings) -> AdoptionRule {
    AdoptionRule {
        arrivals: u32::try_from(settings.handover.arrivals_to_adopt).unwrap_or(u32::MAX),
        gap_us: settings.handover.arrival_gap_ms * 1000,
        residence_us_min: settings.handover.residence_ms_min * 1000,
    }
}

fn lease_times(settings: &Settings) -> LeaseTimes {
    LeaseTimes {
        length_us: settings.cluster.lease_ms * 1000,
        margin_us: settings.cluster.lease_margin_ms * 1000,
        lost_after_us: settings.cluster.lost_after_ms.map(|ms| ms * 1000),
    }
}

pub(super) fn node_settings(settings: &Settings) -> NodeSettings {
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
        stream_bytes_max: 1 << 20,
        trickle_bytes_per_s: if handover.trickle { handover.trickle_bytes_per_s } else { 0 },
        drain_residuals: true,
        residual_bytes_max: handover.residual_bytes_max,
        sweep_us: 5_000_000,
        mode_us_max: settings.cluster.mode_ms_max.min(settings.state.operation_ms_max / 2) * 1000,
        frame_bytes_max: settings.cluster.frame_bytes_max as u64,
        waiting_max: settings.state.parked_operations_max,
        rest: settings.rest_upstream().map(|_| rest_settings(settings)),
    }
}

fn rest_settings(settings: &Settings) -> RestSettings {
    let rest = &settings.rest;
    RestSettings {
        high_us: rest.high_ms * 1000,
        medium_us: rest.medium_ms * 1000,
        low_us: rest.low_ms * 1000,
        in_flight_max: rest.batches_max,
        pause_us: 50_000,
        pause_us_max: 2_000_000,
        check_ins_max: rest.batches_max,
    }
}

/// What this node says of itself in the directory.
pub(super) fn member_draft(settings: &Settings, control: SocketAddr, requests: Option<SocketAddr>) -> MemberDraft {
    MemberDraft {
        name: settings.cluster.node.clone(),
        control: settings.cluster.advertise.unwrap_or(control).to_string(),
        zone: String::new(),
        app_name: settings.app.name.clone(),
        app_version: settings.app.version.clone(),
        role: Role::Owner,
        hint: settings.http.hint_of(&settings.cluster.node).unwrap_or_default(),
        requests: requests.map(|address| address.to_string()).unwrap_or_default(),
    }
}

/// The face that clients come to; with a key it forwards what the sessions of other members are asked.
pub(super) fn http_settings(settings: &Settings, forwards: Option<PassKey>) -> http::HttpFaceSettings {
    let from = &settings.http;
    let app = match &settings.app.address {
        ListenAt::Tcp(address) => http::InstanceAddress::Tcp(*address),
        ListenAt::Unix(path) => http::InstanceAddress::Unix(path.clone()),
    };
    http::HttpFaceSettings {
        close_ms_max: from.close_ms_max,
        session: from.session.clone(),
        websocket_close_ms: from.websocket_close_ms,
        connections_max: from.connections_max,
        idle_ms_max: from.idle_ms_max,
        header_ms_max: from.header_ms_max,
        header_bytes_max: from.header_bytes_max,
        stalled_ms_max: from.stalled_ms_max,
        body_bytes_per_s_min: from.body_bytes_per_s_min,
        request_ms_max: from.request_ms_max,
        connect_ms_max: from.connect_ms_max,
        trusted_proxies: from.trusted_proxies.clone(),
        proxy_protocol: from.proxy_protocol,
        tls: from.tls.clone(),
        http2: from.http2,
        access_log: from.access_log.clone(),
        app_http2: settings.app.http2,
        forwards,
        waiting_max: from.waiting_max,
        waiting_bytes_max: from.waiting_bytes_max,
        waiting_ms_max: from.waiting_ms_max,
        hints: http::HintSettings {
            cookie: from.hint_cookie.clone(),
            field: from.hint_header.clone(),
            encoding: match from.hint_encoding {
                HintEncoding::Plain => http::HintEncoding::Plain,
                HintEncoding::Envoy => http::HintEncoding::Envoy,
            },
        },
        ..http::HttpFaceSettings::new(from.listen, app)
    }
}

/// The face that members come to. What holds for a client's connection is kept where the client is; a pass needs room in the header. The line
/// in the access log is written there too.
pub(super) fn requests_settings(settings: &Settings, key: PassKey) -> http::HttpFaceSettings {
    let public = http_settings(settings, None);
    http::HttpFaceSettings {
        takes_passes: Some(key),
        header_bytes_max: public.header_bytes_max.saturating_add(PASS_ROOM_BYTES),
        request_ms_max: None,
        body_bytes_per_s_min: 0,
        proxy_protocol: false,
        tls: None,
        http2: true,
        access_log: None,
        hints: http::HintSettings { cookie: None, field: None, encoding: http::HintEncoding::Plain },
        ..public
    }
}
