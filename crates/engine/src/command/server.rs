//! What a server says about itself: `INFO`, `CONFIG GET`, `COMMAND`, `HELP` of some commands.
//!
//! It never says more than clients need before they trust a server; [`super::connection`] calls it.
//! Invariant: nothing of a session and no setting of Wayfarer appears here.

use super::connection::{REDIS_VERSION, ServerFacts};
use super::{errors, table};
use crate::wire::resp::Reply;
use bytes::Bytes;

/// The parameter whose value is the cluster's.
const EVENTS: &str = "notify-keyspace-events";

/// What `CONFIG GET` knows: what clients ask for when they connect. Redis answers other parameters with nothing.
const PARAMETERS: [(&str, &str); 6] =
    [("appendonly", "no"), ("databases", "16"), ("maxmemory", "0"), (EVENTS, ""), ("save", ""), ("timeout", "0")];

/// `CONFIG GET`: a parameter by its whole name, or all for `*`.
pub(super) fn config_get(patterns: &[Bytes], facts: ServerFacts<'_>, reply: &mut Reply<'_>) {
    if patterns.is_empty() {
        return reply.error(errors::arity("config|get"));
    }
    let asked = |name: &str| patterns.iter().any(|p| p.as_ref() == b"*" || p.eq_ignore_ascii_case(name.as_bytes()));
    let found: Vec<_> = PARAMETERS.iter().filter(|(name, _)| asked(name)).collect();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        match *name {
            EVENTS => reply.bulk(facts.events.text().as_bytes()),
            "databases" => reply.bulk(facts.databases.to_string().as_bytes()),
            _ => reply.bulk(value.as_bytes()),
        }
    }
}

/// What `HELP` says of a command: Redis's lines, of the subcommands that are served.
const HELP: [(&str, &[&str]); 3] = [
    (
        "client",
        &[
            "GETNAME",
            "    Return the name of the current connection.",
            "ID",
            "    Return the ID of the current connection.",
            "INFO",
            "    Return information about the current client connection.",
            "REPLY (ON|OFF|SKIP)",
            "    Control the replies sent to the current connection.",
            "SETNAME <name>",
            "    Assign the name <name> to the current connection.",
            "NO-EVICT (ON|OFF)",
            "    Protect current client connection from eviction.",
        ],
    ),
    (
        "config",
        &[
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
        ],
    ),
    (
        "object",
        &[
            "ENCODING <key>",
            "    Return the kind of internal representation used in order to store the value",
            "    associated with a <key>.",
            "FREQ <key>",
            "    Return the access frequency index of the <key>. The returned integer is",
            "    proportional to the logarithm of the recent access frequency of the key.",
            "IDLETIME <key>",
            "    Return the idle time of the <key>, that is the approximated number of",
            "    seconds elapsed since the last access to the key.",
            "REFCOUNT <key>",
            "    Return the number of references of the value associated with the specified",
            "    <key>.",
        ],
    ),
];

/// `CLIENT HELP` and the like; `name` is lower case.
pub(super) fn help(name: &str, reply: &mut Reply<'_>) {
    let lines = HELP.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, lines)| lines);
    reply.array(lines.len() + 3);
    reply.simple(&format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name.to_ascii_uppercase()));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}

/// `INFO` with the sections that clients read before they trust a server.
pub(super) fn info(sections: &[Bytes], facts: ServerFacts<'_>) -> String {
    const ALL: [&str; 4] = ["default", "all", "everything", "*"];
    let wanted = |name: &str| {
        let named =
            |s: &Bytes| s.eq_ignore_ascii_case(name.as_bytes()) || ALL.iter().any(|a| s.eq_ignore_ascii_case(a.as_bytes()));
        sections.is_empty() || sections.iter().any(named)
    };
    let ServerFacts { port, uptime_s, clients, .. } = facts;
    let texts = [
        (
            "server",
            format!(
                "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\ntcp_port:{port}\r\nuptime_in_seconds:{uptime_s}\r\n"
            ),
        ),
        ("clients", format!("# Clients\r\nconnected_clients:{clients}\r\n")),
        ("persistence", "# Persistence\r\nloading:0\r\nasync_loading:0\r\n".to_string()),
        ("replication", "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_repl_offset:0\r\n".to_string()),
        ("cluster", "# Cluster\r\ncluster_enabled:0\r\n".to_string()),
        ("keyspace", "# Keyspace\r\n".to_string()),
    ];
    texts.into_iter().filter(|(name, _)| wanted(name)).map(|(_, text)| text).collect::<Vec<_>>().join("\r\n")
}

/// `COMMAND [COUNT|INFO|LIST|DOCS …]`, of the commands that are executed on sessions.
pub(super) fn listing(rest: &[Bytes], reply: &mut Reply<'_>) {
    let Some((subcommand, names)) = rest.split_first() else {
        reply.array(table::ROWS.len());
        return table::ROWS.iter().for_each(|row| describe(row, reply));
    };
    match subcommand.to_ascii_lowercase().as_slice() {
        b"count" if names.is_empty() => reply.count(table::ROWS.len()),
        b"count" => reply.error(errors::arity("command|count")),
        b"list" if names.is_empty() => {
            reply.array(table::ROWS.len());
            table::ROWS.iter().for_each(|row| reply.bulk(row.name.as_bytes()));
        }
        b"info" if names.is_empty() => {
            reply.array(table::ROWS.len());
            table::ROWS.iter().for_each(|row| describe(row, reply));
        }
        b"info" => {
            reply.array(names.len());
            for name in names {
                match table::row(name) {
                    Some(row) => describe(row, reply),
                    None => reply.null_array(),
                }
            }
        }
        // Documentation is not kept here; a client that asks (redis-cli) goes on without.
        b"docs" => reply.map(0),
        _ => reply.error(errors::unknown_subcommand(subcommand, "COMMAND")),
    }
}

/// One command as Redis 7 lists it: name, arity, flags, first key, last key, step, categories, tips, key specs, subcommands.
fn describe(row: &table::Row, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.integer(i64::from(row.arity));
    reply.set(1);
    reply.simple(if row.write { "write" } else { "readonly" });
    row.keys.as_redis_lists_them().into_iter().for_each(|number| reply.integer(number));
    reply.set(0);
    reply.array(0);
    reply.array(0);
    reply.array(0);
}
