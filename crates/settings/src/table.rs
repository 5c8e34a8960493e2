//! The one table of all settings: key, kind with bounds, default, meaning.
//!
//! It never reads a configuration. `gather` finds unknown keys with it, `values` takes the bounds from it, `reference` prints
//! it, and the names of environment variables follow from it.
//!
//! A key ends in `[]` + name where the setting belongs to each entry of a list. Longer than 400 lines because it is one table.
//! Invariant: what is not in this table is not a setting, and every row is read by `assemble` (a test).

pub use crate::kind::{Kind, Setting, Shape, Unit};
pub use crate::later::NOT_YET;
pub(crate) use crate::lookup::field_of_one;
pub use crate::lookup::{names_in, setting};
use crate::rows::{GIB, HOUR_MS, LISTEN, LISTEN_LOOPBACK, MIB, bytes, count, joined, ms, row, text, words};
use crate::words::{BeginsAs, Codec, Forward, HintEncoding, ListenerSessions, LogFormat, LogLevel, Merge, MergeBy, Word};
use wayfarer_engine::plan::{Impact, OnLost};
use wayfarer_engine::session::{Class, Layout};

const LAYOUT: Kind = words::<Layout>();
const OPTION: Kind = text(Shape::Line, 128);
const CLASS: Kind = Kind::Choice { words: Class::names, later: &["rebuilt"] };

/// The table.
pub static TABLE: &[Setting] = &joined::<{ OWN.len() + crate::redirect::ROWS.len() }>(OWN, &crate::redirect::ROWS);

/// What is not said in the file of its section.
const OWN: &[Setting] = &[
    row("app.name", text(Shape::Name, 64), Some("app"), "Name of the service that this sidecar stands beside."),
    row("app.version", text(Shape::Name, 64), Some("0"), "Its version, for the directory."),
    row("app.address", Kind::Instance, Some("127.0.0.1:3000"), "Where the instance answers HTTP: IP:PORT, or unix:PATH."),
    row(
        "app.http2",
        Kind::Flag,
        Some("false"),
        "Whether the instance is spoken to in HTTP/2 without TLS (h2c), as gRPC needs it. It takes no WebSockets then.",
    ),
    row("app.probe_ms", ms(0, HOUR_MS), Some("1000"), "Between looks whether the instance accepts connections. 0: never."),
    row("http.enabled", Kind::Flag, Some("true"), "Whether there is an HTTP face."),
    row("http.listen", LISTEN, Some("127.0.0.1:8080"), "Where the HTTP face listens."),
    row(
        "http.close_ms_max",
        ms(0, HOUR_MS),
        Some("5000"),
        "How long requests in flight and WebSockets may go on after a drain; then they are cut.",
    ),
    row(
        "http.websocket_close_ms",
        ms(0, HOUR_MS),
        Some("3000"),
        "In a drain WebSockets are closed with 1012 within so much time, each at a time of its own. Less than http.close_ms_max.",
    ),
    row("http.connections_max", count(1, 1_000_000), Some("10000"), "Clients' connections at once; more are answered 503."),
    row(
        "http.idle_ms_max",
        ms(1, HOUR_MS),
        Some("60000"),
        "Longest silence of a connection on which no request is under way. Longer than that of the balancer in front.",
    ),
    row("http.header_ms_max", ms(1, HOUR_MS), Some("10000"), "Longest wait for a whole request header, from its first byte on."),
    row("http.header_bytes_max", bytes(1024, MIB), Some("65536"), "Longest request header; beyond it the answer is 431."),
    row(
        "http.stalled_ms_max",
        ms(1, HOUR_MS),
        Some("60000"),
        "Longest pause of a client within a request body, or in taking an answer. WebSockets may be silent for ever.",
    ),
    row(
        "http.body_bytes_per_s_min",
        Kind::Number { unit: Unit::BytesPerSecond, min: 0, max: GIB },
        Some("50"),
        "How fast a request body must come on average, once half a minute has passed; else 408. 0: as slow as it likes.",
    ),
    row(
        "http.request_ms_max",
        ms(1, 24 * HOUR_MS),
        None,
        "Longest time from a whole header to the end of the answer (not of WebSockets). Not set: as long as it takes.",
    ),
    row("http.connect_ms_max", ms(1, 60_000), Some("2000"), "Longest wait for a connection to the instance."),
    row(
        "http.trusted_proxies",
        Kind::Networks,
        Some("127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"),
        "Networks of the balancers in front: what they say in Forwarded, X-Forwarded-…, X-Request-Id and PROXY headers is believed.",
    ),
    row(
        "http.proxy_protocol",
        Kind::Flag,
        Some("false"),
        "Whether each connection begins with a PROXY header (version 2) of a trusted proxy; others are closed.",
    ),
    row(
        "http.tls_certificate_file",
        text(Shape::Line, 1024),
        None,
        "The server's certificate chain (PEM), with which clients are spoken to over TLS; with its key. Loaded anew when it changes. \
         Not set: without TLS.",
    ),
    row("http.tls_key_file", text(Shape::Line, 1024), None, "The private key of http.tls_certificate_file (PEM, not encrypted)."),
    row(
        "http.http2",
        Kind::Flag,
        Some("true"),
        "Whether clients may speak HTTP/2 too: over TLS if they ask for it (ALPN), without TLS if they begin with it (h2c).",
    ),
    row(
        "http.access_log",
        text(Shape::Line, 1024),
        None,
        "The file to which a JSON line for each request is appended, - for standard output. Not set: none.",
    ),
    row("http.hint_cookie", text(Shape::Cookie, 128), None, "A cookie that tells balancers which node has the session."),
    row("http.hint_header", text(Shape::Header, 128), None, "A header of answers that tells it."),
    row(
        "http.hint",
        text(Shape::Place, 127),
        None,
        "The name by which the balancer knows this node. Not set: cluster.node; IP:PORT of http.listen for Envoy.",
    ),
    row(
        "http.hint_encoding",
        words::<HintEncoding>(),
        Some("plain"),
        "How the cookie says it: plain, the name itself; envoy, as Envoy's stateful sessions.",
    ),
    row(
        "http.forward",
        words::<Forward>(),
        Some("never"),
        "Where requests run whose session is at another member: never, here; owner, there, if app.name and app.version are the same.",
    ),
    row("http.forward_listen", LISTEN_LOOPBACK, Some("127.0.0.1:0"), "Where members send those of sessions here. Port 0: any."),
    row("http.waiting_max", count(1, 1_000_000), Some("1024"), "Requests that wait until it is known where to; else 503."),
    row("http.waiting_bytes_max", bytes(1024, GIB), Some("8388608"), "Bytes of their headers, all together; beyond it 503."),
    row("http.waiting_ms_max", ms(1, 60_000), Some("2500"), "How long each may wait; then it is answered 503."),
    row(
        "http.session",
        Kind::Sources,
        Some("[]"),
        "Where a request names its session: one table, or several that are asked in their order; the first with a session decides. \
         Without one the HTTP face only proxies, and starts no fetch early.",
    ),
    row("http.session[].cookie", text(Shape::Cookie, 128), None, "In the cookie of this name."),
    row("http.session[].header", text(Shape::Header, 128), None, "Or in this header."),
    row("http.session[].query", text(Shape::Cookie, 128), None, "Or in this parameter of the query."),
    row(
        "http.session[].path",
        Kind::Pattern,
        None,
        "Or in the path: /shop/{session}, {any} for a segment to skip; or ;jsessionid={session}.",
    ),
    row("http.session[].bearer", text(Shape::Line, 128), None, "Or in this claim of a bearer token (JWT)."),
    row("http.session[].codec", words::<Codec>(), None, "How the framework writes the id there. Not set: plain, the id itself."),
    row(
        "http.session[].secret",
        Kind::Secrets,
        None,
        "What signs it (express, fastify; tokens with HS256, HS384, HS512), or a list of those that are accepted: what none of them has \
         signed names no session. Not set: the instance alone checks.",
    ),
    row("http.session[].secret_file", Kind::SecretFile, None, "A file that holds http.session[].secret, one a line."),
    row("state.enabled", Kind::Flag, Some("true"), "Whether there is a state face."),
    row(
        "state.listen",
        Kind::ListenAt,
        Some("127.0.0.1:6379"),
        "Where the state face (Redis protocol) listens: an address, or a Unix socket.",
    ),
    row(
        "state.socket_mode",
        Kind::Mode,
        Some("0600"),
        "The mode of the face's Unix sockets: who may write to one may connect. 0660 lets its group in.",
    ),
    row(
        "state.upstream",
        Kind::Upstream,
        None,
        "The Redis or Valkey for all keys that are no session's and, with rest.enabled, for sessions at rest: \
         redis://[user:password@]host:port[/database]; rediss:// for TLS; redis-sentinel://host:port,host:port/MASTER[/database] (or \
         rediss-sentinel://) for the master that these sentinels name; redis+cluster://host:port,host:port (or rediss+cluster://) for \
         the Redis Cluster that these are nodes of.",
    ),
    row("state.upstream_file", Kind::SecretFile, None, "A file that holds state.upstream."),
    row(
        "state.upstream_ca_file",
        Kind::File,
        None,
        "With TLS to the upstream: PEM certificates of those who may have signed the server's. Not set: whom this machine believes.",
    ),
    row(
        "state.upstream_server_name",
        text(Shape::Name, 253),
        None,
        "With TLS to the upstream: the name that the server's certificate must have. Not set: the host.",
    ),
    row("state.upstream_cert_file", Kind::File, None, "With TLS to the upstream: the client certificate that it is shown, PEM."),
    row("state.upstream_key_file", Kind::File, None, "The private key of state.upstream_cert_file, PEM."),
    row("state.sentinel_password", Kind::Secret, None, "What the sentinels of state.upstream want to hear. Not set: nothing."),
    row("state.sentinel_password_file", Kind::SecretFile, None, "A file that holds state.sentinel_password."),
    row(
        "state.password",
        Kind::Secret,
        None,
        "What clients of the state face must send with AUTH. Without it everybody is served.",
    ),
    row(
        "state.open",
        Kind::Flag,
        Some("false"),
        "Whether a listener beyond loopback serves everybody who reaches it, without a password.",
    ),
    row("state.password_file", Kind::SecretFile, None, "A file that holds state.password."),
    row(
        "state.keys",
        Kind::List,
        Some(r#"[{ preset = "connect-redis" }, { preset = "flask-session" }]"#),
        "Which keys belong to sessions; the more specific pattern wins. Each entry has a preset, or a pattern and its layout.",
    ),
    row(
        "state.keys[].preset",
        Kind::Choice { words: crate::presets::preset_names, later: &[] },
        None,
        "The keys of a library that is known.",
    ),
    row(
        "state.keys[].pattern",
        Kind::Pattern,
        None,
        "A key with {session} where the id stands, perhaps with its shape ({session:uuid}, {session:hex:32}), {any} for parts to \
         skip, and for layout = \"key\" perhaps {variable}; {{ is a brace of the key.",
    ),
    row("state.keys[].layout", LAYOUT, None, "What the variables of such a key are."),
    row(
        "state.keys[].variable",
        text(Shape::Line, crate::keys::VARIABLE_BYTES_MAX),
        None,
        "The name of the variable that the key is (layouts key and opaque).",
    ),
    row("state.keys[].merge", words::<Merge>(), None, "members: writes at a time of different members both survive."),
    row("state.keys[].database", count(0, 15), None, "The only database in which these are sessions' keys. Not set: all."),
    row("state.keys[].prefix", OPTION, None, "Option of a preset: what stands before the id."),
    row("state.keys[].namespace", OPTION, None, "Option of the presets for Spring: its namespace."),
    row("state.keys[].instance_name", OPTION, None, "Option of the preset aspnetcore: its InstanceName."),
    row("state.keys[].table", OPTION, None, "Option of the preset axum-session: its table."),
    row("state.keys[].version", OPTION, None, "Option of the presets for Django: VERSION of the cache."),
    row(
        "state.merge_by",
        words::<MergeBy>(),
        None,
        "With merge: what tells whose read a write rests on. connection: each connection of the instance serves one request at a \
         time. request: the HTTP face sees all requests, and each writes its session before its answer ends.",
    ),
    row("state.listener", Kind::List, Some("[]"), "More listeners of the state face."),
    row("state.listener[].listen", Kind::ListenAt, None, "Where it listens, as state.listen."),
    row(
        "state.listener[].sessions",
        words::<ListenerSessions>(),
        None,
        "Which keys of its clients are sessions': those of state.keys, or all (of what state.keys does not take, the whole key is the \
         id). Not set: keys.",
    ),
    row(
        "state.listener[].layout",
        LAYOUT,
        None,
        "With sessions = \"all\": what the variables of a string are; those of a hash are its fields. Not set: opaque.",
    ),
    row("state.connections_max", count(1, 1_000_000), Some("10000"), "Connections at once; more are refused with an error."),
    row(
        "state.pipeline_depth_max",
        count(1, 1_000_000),
        Some("1024"),
        "Commands of one connection without a reply yet; then reading pauses.",
    ),
    row("state.frame_bytes_max", bytes(1024, 512 * MIB), Some("67108864"), "Largest command."),
    row("state.value_bytes_max", bytes(1, 512 * MIB), Some("8388608"), "Largest value of one variable of a session."),
    row(
        "state.output_bytes_max",
        bytes(1024, GIB),
        Some("67108864"),
        "Replies waiting for one connection that does not read; then it is closed.",
    ),
    row(
        "state.output_total_bytes_max",
        bytes(1024, 1024 * GIB),
        Some("268435456"),
        "Replies waiting for all connections of a listener; beyond it no more commands are read from those that have some.",
    ),
    row(
        "state.parked_operations_max",
        count(1, 10_000_000),
        Some("65536"),
        "Operations of this node that wait for a move or a fetch; more get an error.",
    ),
    row("state.park_ms_max", ms(1, 60_000), Some("2500"), "Longest wait of an operation for a move."),
    row(
        "state.fetch_ms_max",
        ms(1, 1000),
        Some("100"),
        "Longest wait of an operation for the value of a variable that is elsewhere.",
    ),
    row(
        "state.operation_ms_max",
        ms(1, 600_000),
        Some("5000"),
        "Longest time from a command on a session to its reply, all waits together.",
    ),
    row(
        "state.flush",
        Kind::Flag,
        Some("false"),
        "Whether FLUSHDB and FLUSHALL end the service's sessions and are passed on to the upstream. Without it they are refused.",
    ),
    row(
        "state.notify_keyspace_events",
        Kind::Events,
        None,
        "Which events of session keys subscribers are told until a client says otherwise (CONFIG SET): the letters of Redis's setting, \
         such as Egx. Not set: none. An upstream that says what it tells is followed.",
    ),
    row(
        "state.max_memory",
        bytes(MIB, 1 << 50),
        None,
        "Memory of all sessions here, about. Near it unused sessions go to rest; at it births and growing writes get Redis's OOM error. \
         Not set: no limit.",
    ),
    row("state.script_ms_max", ms(1, 60_000), Some("200"), "Longest run of a Lua script on a session; then it is undone."),
    row(
        "state.script_memory_bytes_max",
        bytes(MIB, GIB),
        Some("16777216"),
        "Memory of a Lua script on a session; beyond it the script is undone.",
    ),
    row(
        "cluster.name",
        text(Shape::Name, 64),
        Some("wayfarer"),
        "Name of the cluster: only nodes of the same name share sessions.",
    ),
    row("cluster.node", text(Shape::Name, 253), None, "Name of this node, unique among the living. Not set: the host name."),
    row(
        "cluster.control",
        LISTEN_LOOPBACK,
        Some("127.0.0.1:7300"),
        "Where other nodes reach this one. Loopback only in this version.",
    ),
    row(
        "cluster.advertise",
        LISTEN_LOOPBACK,
        None,
        "What other nodes are told instead, where something stands before control that passes connections on.",
    ),
    row(
        "cluster.directory",
        Kind::Directory,
        Some("sqlite:wayfarer-directory.db"),
        "Where members and the owners of sessions are recorded.",
    ),
    row("cluster.groups", count(1, 64), Some("4"), "Groups that this node opens."),
    row("cluster.lease_ms", ms(200, 600_000), Some("2000"), "How long a node may answer after its last renewal."),
    row(
        "cluster.lease_margin_ms",
        ms(1, 60_000),
        Some("250"),
        "What is taken off the lease for clocks that run unevenly; at most half of it.",
    ),
    row(
        "cluster.lost_after_ms",
        ms(1, 720 * HOUR_MS),
        None,
        "When the sessions of a node that is gone are declared lost. Not set: when it is proved dead.",
    ),
    row("cluster.mode", words::<BeginsAs>(), Some("own"), "Mode of a new cluster; `wayfarer mode` changes it for all nodes."),
    row("cluster.mode_ms_max", ms(50, 60_000), Some("1000"), "Longest wait for all nodes to confirm own, then it is taken back."),
    row("cluster.frame_bytes_max", bytes(65_536, GIB), Some("16777216"), "Largest message between nodes."),
    row(
        "handover.at_once_max",
        count(1, 4096),
        Some("64"),
        "Sessions that this node moves at the same time; fewer while few are to be moved.",
    ),
    row(
        "handover.carried_bytes_max",
        bytes(0, GIB),
        Some("262144"),
        "What may be carried of one session while it is paused; what is beyond becomes deferred.",
    ),
    row("handover.propose_ms_max", ms(1, 60_000), Some("500"), "Longest wait for the answer to a proposal."),
    row("handover.stage_ms_max", ms(1, 60_000), Some("1000"), "Longest wait until the target has staged what it was sent."),
    row(
        "handover.commit_ms_max",
        ms(1, 60_000),
        Some("1000"),
        "Longest wait for news of the commit; then the origin fences the handover.",
    ),
    row(
        "handover.arrivals_to_adopt",
        count(1, 1000),
        Some("3"),
        "Arrivals at one node, none elsewhere, after which a session moves there; doubled when moving was in vain.",
    ),
    row("handover.arrival_gap_ms", ms(0, 60_000), Some("20"), "Arrivals closer together than this count as one."),
    row(
        "handover.residence_ms_min",
        ms(0, HOUR_MS),
        Some("1000"),
        "How long a session stays at least where it came to (not in a drain).",
    ),
    row("handover.trickle", Kind::Flag, Some("true"), "Whether deferred variables follow by and by even if nobody reads them."),
    row(
        "handover.trickle_bytes_per_s",
        Kind::Number { unit: Unit::BytesPerSecond, min: 1, max: 10 * GIB },
        Some("1048576"),
        "How fast they follow, for all sessions of this node together.",
    ),
    row(
        "handover.residual_bytes_max",
        bytes(1, 1024 * GIB),
        Some("268435456"),
        "What this node keeps for sessions that moved on; beyond it moves carry everything.",
    ),
    row(
        "rest.enabled",
        Kind::Flag,
        Some("true"),
        "Whether sessions are at rest in state.upstream, if that is set. Without: they live in memory only.",
    ),
    row(
        "rest.after_ms",
        ms(100, 720 * HOUR_MS),
        Some("600000"),
        "A session that nobody has used for so long goes to rest: it leaves this node's memory.",
    ),
    row("rest.high_ms", ms(1, HOUR_MS), Some("50"), "How far the upstream may be behind variables of impact high."),
    row("rest.medium_ms", ms(1, HOUR_MS), Some("1000"), "How far behind those of impact medium."),
    row("rest.low_ms", ms(1, HOUR_MS), Some("30000"), "How far behind those of impact low, and behind a changed expiry alone."),
    row("rest.upstream_ms_max", ms(1, 60_000), Some("1000"), "Longest wait for one answer of the upstream."),
    row("rest.batches_max", count(1, 65_536), Some("256"), "Sessions that are written to the upstream at the same time."),
    row(
        "rest.unwritten_bytes_max",
        bytes(65_536, 1024 * GIB),
        Some("67108864"),
        "What the upstream may lack while it does not answer; beyond it writes to sessions get an error.",
    ),
    row(
        "drain.budget_ms",
        ms(0, HOUR_MS),
        Some("30000"),
        "How long a drain may take; what has not left then goes to rest in the upstream, or is named.",
    ),
    row("drain.settle_ms", ms(0, 600_000), Some("1000"), "How long readiness must have failed before listeners close."),
    row("child.stop_ms_max", ms(0, 600_000), Some("10000"), "How long the instance may take to stop; then it is killed."),
    row("policy.class", CLASS, Some("streamed"), "Class of the variables that no rule names."),
    row("policy.impact", words::<Impact>(), Some("high"), "Impact of the variables that no rule names (with rest.enabled)."),
    row(
        "policy.on_lost",
        words::<OnLost>(),
        Some("error"),
        "What a read answers once a variable is lost, where no rule says it.",
    ),
    row(
        "policy.variable",
        Kind::List,
        Some("[]"),
        "Rules; the first whose name matches decides, and what it leaves out is as above.",
    ),
    row("policy.variable[].name", Kind::Glob, None, "Which variables: * is any text, ? one byte."),
    row("policy.variable[].class", CLASS, None, "How they move: with the session, behind it, on first access, or not at all."),
    row(
        "policy.variable[].impact",
        words::<Impact>(),
        None,
        "How much an old copy in the upstream hurts (with rest.enabled): behind by 0, 50 ms, 1 s, 30 s at most.",
    ),
    row("policy.variable[].on_lost", words::<OnLost>(), None, "What a read answers once they are lost."),
    row("admin.enabled", Kind::Flag, Some("true"), "Whether there is an admin interface (status, sessions, drain, metrics)."),
    row("admin.listen", LISTEN_LOOPBACK, Some("127.0.0.1:7301"), "Where it listens. Loopback only."),
    row(
        "admin.id_key",
        Kind::IdKey,
        None,
        "Key of the hashes by which session ids are shown, the same on all nodes. Not set: a random one for each process.",
    ),
    row("admin.id_key_file", Kind::SecretFile, None, "A file that holds admin.id_key."),
    row(
        "probe.listen",
        LISTEN,
        None,
        "Where /livez, /readyz and /metrics alone are answered, for other machines. Not set: nowhere.",
    ),
    row(
        "runtime.workers",
        count(1, 256),
        None,
        "Threads that serve. Not set: half of the CPUs, for the instance needs the others, but at least two.",
    ),
    row("log.format", words::<LogFormat>(), Some("text"), "How log lines are written."),
    row("log.level", words::<LogLevel>(), Some("info"), "The least important lines that are logged."),
];
