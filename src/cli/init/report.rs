//! What `init` says and writes: the configuration with its comments, the estimate of memory, the report.
//!
//! It is pure and shows no id, value or password. Called by `init`.
//!
//! Memory of a node = sessions × (bytes of values + a session's own + variables × a variable's own); a small session is packed,
//! and needs less. `make bench-compare ARGS="--only memory"` measures what is beside the values.
//! Invariant: the configuration is one that `wayfarer check` accepts (`init` looks before it writes).

use super::library::{Found, others};
use super::sample::{Sample, Seen};
use serde_json::{Value, json};
use wayfarer_engine::session::{PACKED_BYTES_MAX, PACKED_ENTRIES_MAX};
use wayfarer_settings::{Codec, Upstream, UpstreamPlace, Word};

/// What a session needs beside its variables, in bytes.
const SESSION_BYTES: u64 = 930;
/// What a variable of a packed session needs beside its value, its name included.
const PACKED_VARIABLE_BYTES: u64 = 22;
/// What a variable of any other session needs beside its value, its name included.
const VARIABLE_BYTES: u64 = 240;

/// What all sessions of `found` need in memory.
pub(super) fn memory_bytes(found: &[Found]) -> u64 {
    let of = |found: &Found| {
        let variables = found.members_each;
        let packed_bytes = found.bytes_each.saturating_add(variables.saturating_mul(PACKED_VARIABLE_BYTES));
        let is_packed = variables <= PACKED_ENTRIES_MAX as u64 && packed_bytes <= PACKED_BYTES_MAX as u64;
        let beside = variables.saturating_mul(if is_packed { PACKED_VARIABLE_BYTES } else { VARIABLE_BYTES });
        found.sessions.saturating_mul(found.bytes_each.saturating_add(SESSION_BYTES).saturating_add(beside))
    };
    found.iter().map(of).fold(0, u64::saturating_add)
}

fn mib(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes.div_ceil(1024)) } else { format!("{} MiB", bytes.div_ceil(1 << 20)) }
}

/// The first found entry decides about the cookie.
fn cookie(found: &[Found]) -> Option<(&'static str, Option<Codec>)> {
    found.iter().find_map(|found| found.preset).map(|preset| (preset.cookie, preset.codec))
}

/// The text of the configuration.
pub(super) fn configuration(found: &[Found], upstream: &Upstream) -> String {
    let is_here = match &upstream.place {
        UpstreamPlace::Server(at) => at.port == 6379 && ["127.0.0.1", "localhost", "::1"].contains(&at.host.as_str()),
        UpstreamPlace::Sentinels(_) | UpstreamPlace::Cluster(_) => false,
    };
    let port = if is_here { 6380 } else { 6379 };
    let mut out = String::from(
        "# Written by `wayfarer init` after a look at the Redis below. Every setting is explained in config/full.toml.\n\
         # Try it: wayfarer check -c THIS_FILE --key KEY --cookie COOKIE\n\n[app]\naddress = \"127.0.0.1:3000\" # where the instance answers HTTP\n",
    );
    match cookie(found) {
        Some((name, Some(codec))) => {
            out.push_str(&format!(
                "\n[http.session]\ncookie = \"{name}\" # the library's default: change it if your service has another\ncodec = \"{}\"\n",
                codec.word()
            ));
        }
        Some((name, None)) => out.push_str(&format!(
            "\n# The library's cookie is `{name}`, encrypted or inside other data: the HTTP face cannot read it. Sessions are found by their keys;\n\
             # only no fetch starts before the instance asks.\n"
        )),
        None => out.push_str("\n# [http.session]\n# cookie = \"sid\" # the cookie with the session's id\n"),
    }
    out.push_str(&format!("\n[state]\nlisten = \"127.0.0.1:{port}\" # point the Redis URL of your service here\n"));
    if upstream.password.is_some() {
        out.push_str(
            "# The password is not written here: put the whole URL into a file and name that with `upstream_file` instead.\n",
        );
    }
    out.push_str(&format!(
        "upstream = \"{}\" # where sessions are at rest, and all other keys are\nkeys = [\n",
        upstream.without_login()
    ));
    for found in found {
        for line in described(found) {
            out.push_str(&format!("    # {line}\n"));
        }
        out.push_str(&format!("    {},\n", found.entry));
    }
    out.push_str("]\n\n[cluster]\nname = \"wayfarer\" # the same on all nodes that share sessions\ndirectory = \"sqlite:wayfarer-directory.db\"\n\
         # The safe beginning: the Redis above goes on answering for sessions, members with and without sidecars may mix, and\n\
         # `wayfarer status` says what would be gained. `wayfarer mode own` changes it for all members, `wayfarer mode observe` back.\n\
         mode = \"observe\"\n");
    out
}

fn described(found: &Found) -> Vec<String> {
    let library = found.preset.map_or("keys of no known library", |preset| preset.library);
    let mut lines = vec![format!(
        "{library}: about {} sessions of {} B and {} variables each; {} looked at, {} of them expire",
        found.sessions, found.bytes_each, found.members_each, found.sampled, found.expiring
    )];
    if found.beside > 0 {
        lines.push(format!("{} lock or shadow keys looked at: they travel with their sessions", found.beside));
    }
    if !found.or_else.is_empty() {
        lines.push(format!("the same keys: {}", found.or_else.join(", ")));
    }
    lines.extend(found.preset.map(|preset| preset.notes).filter(|notes| !notes.is_empty()).map(str::to_owned));
    for ((shape, look), count) in &found.wrong {
        lines
            .push(format!("WRONGLY TAKEN: {count} keys such as {shape} look like {look:?}, which is no session of this library"));
    }
    if let Some(narrower) = &found.narrower {
        lines.push(format!("the pattern {narrower:?} would leave those alone"));
    }
    lines
}

/// The report for people, line by line.
pub(super) fn lines(seen: &Seen, found: &[Found], rest: &[&Sample]) -> Vec<String> {
    let keys: u64 = seen.databases.iter().map(|database| database.keys).sum();
    let names: usize = seen.databases.iter().map(|database| database.names.len()).sum();
    let mut lines = vec![format!(
        "{keys} keys in {} databases; {names} names and {} keys looked at, {} read",
        seen.databases.len(),
        seen.samples.len(),
        mib(seen.bytes)
    )];
    lines.extend(seen.cut_short.map(|bound| format!("ended before the last key by its bound on {bound}: figures are estimates")));
    for found in found {
        lines.push(String::new());
        lines.push(format!("database {}: {}", found.database, found.entry));
        lines.extend(described(found).into_iter().map(|line| format!("  {line}")));
    }
    if !rest.is_empty() {
        lines.push(String::new());
        lines.push("no session's keys, which go to the upstream:".to_owned());
        lines.extend(others(rest).into_iter().map(|(front, count)| format!("  {count:>6} looked at  {front}")));
    }
    if !found.is_empty() {
        let bytes = memory_bytes(found);
        lines.push(String::new());
        lines.push(format!("memory for all sessions: {} on one node, {} on each of 3", mib(bytes), mib(bytes.div_ceil(3))));
    }
    lines
}

/// The report for programs.
pub(super) fn as_json(seen: &Seen, found: &[Found], rest: &[&Sample]) -> Value {
    let one = |found: &Found| {
        let wrong = found
            .wrong
            .iter()
            .map(|((shape, look), count)| json!({ "shape": shape, "look": format!("{look:?}"), "looked_at": count }));
        json!({
            "entry": found.entry, "preset": found.preset.map(|preset| preset.name), "database": found.database,
            "same_keys": found.or_else, "looked_at": found.sampled, "expiring": found.expiring, "beside": found.beside,
            "sessions": found.sessions, "bytes_each": found.bytes_each, "variables_each": found.members_each,
            "wrongly_taken": wrong.collect::<Vec<_>>(), "narrower_pattern": found.narrower,
        })
    };
    let databases = seen.databases.iter().map(|d| json!({ "database": d.number, "keys": d.keys, "names_read": d.names.len() }));
    json!({
        "databases": databases.collect::<Vec<_>>(), "looked_at": seen.samples.len(), "bytes_read": seen.bytes, "cut_short": seen.cut_short,
        "found": found.iter().map(one).collect::<Vec<_>>(),
        "others": others(rest).into_iter().map(|(front, count)| json!({ "keys": front, "looked_at": count })).collect::<Vec<_>>(),
        "memory_bytes": memory_bytes(found),
    })
}
