//! Where the keys are in the commands of Redis 7 that are not executed here, so that no session's key reaches the upstream.
//!
//! It never executes or refuses: the state face decides with the keys in hand, and finds Redis's error here. Commands whose keys move with their arguments
//! (`EVAL`, `SORT`, `XREAD` …) and names that Redis 7 does not know have *every* argument taken for a possible key.
//!
//! Positions as Redis's `COMMAND` gives them: first, last (negative: from the end), step.
//! Invariant: a key is never overlooked; an argument that is none may be taken for one only where no position is known.

use super::{Foreign, errors};
use bytes::Bytes;

/// Commands with keys at fixed places: first, last, step, names.
const FIXED: &[(usize, isize, usize, &[&str])] = &[
    (1, -2, 1, &["blpop", "brpop", "bzpopmax", "bzpopmin"]),
    (1, -1, 1, &["pfcount", "pfmerge", "sdiffstore", "sinterstore", "sunionstore", "watch"]),
    (
        1,
        1,
        1,
        &[
            "bitfield",
            "bitfield_ro",
            "bitpos",
            "dump",
            "geoadd",
            "geodist",
            "geohash",
            "geopos",
            "georadius_ro",
            "georadiusbymember_ro",
            "geosearch",
            "move",
            "pfadd",
            "restore",
            "restore-asking",
            "xack",
            "xadd",
            "xautoclaim",
            "xclaim",
            "xdel",
            "xlen",
            "xpending",
            "xrange",
            "xrevrange",
            "xsetid",
            "xtrim",
            "zrandmember",
        ],
    ),
    (1, 2, 1, &["blmove", "brpoplpush", "geosearchstore", "lcs", "zrangestore"]),
    (2, -1, 1, &["bitop"]),
    (2, 2, 1, &["pfdebug"]),
];

/// Commands without keys. Channels are not keys.
const NONE: &[&str] = &[
    "acl",
    "asking",
    "bgrewriteaof",
    "bgsave",
    "cluster",
    "config",
    "dbsize",
    "discard",
    "exec",
    "failover",
    "flushall",
    "flushdb",
    "function",
    "keys",
    "lastsave",
    "latency",
    "lolwut",
    "module",
    "monitor",
    "multi",
    "pfselftest",
    "psubscribe",
    "psync",
    "publish",
    "pubsub",
    "punsubscribe",
    "randomkey",
    "readonly",
    "readwrite",
    "replconf",
    "replicaof",
    "role",
    "save",
    "scan",
    "script",
    "shutdown",
    "slaveof",
    "slowlog",
    "spublish",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "swapdb",
    "sync",
    "time",
    "unsubscribe",
    "unwatch",
    "wait",
];

/// Commands whose keys depend on their other arguments.
const MOVING: &[&str] = &[
    "blmpop",
    "bzmpop",
    "debug",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "fcall",
    "fcall_ro",
    "georadius",
    "georadiusbymember",
    "lmpop",
    "memory",
    "migrate",
    "sintercard",
    "sort",
    "sort_ro",
    "xgroup",
    "xinfo",
    "xread",
    "xreadgroup",
    "zdiff",
    "zdiffstore",
    "zinter",
    "zintercard",
    "zinterstore",
    "zmpop",
    "zunion",
    "zunionstore",
];

/// Redis's name of the command, if it has one, and what may be a key among `args`, whose first is the name.
pub(super) fn keys(name: &[u8], args: &[Bytes]) -> (Option<&'static str>, Vec<Bytes>) {
    let find = |names: &[&'static str]| names.iter().copied().find(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    if let Some(known) = find(NONE) {
        return (Some(known), Vec::new());
    }
    for (first, last, step, names) in FIXED {
        if let Some(known) = find(names) {
            let last = if *last < 0 { args.len().saturating_sub(last.unsigned_abs()) } else { last.unsigned_abs() };
            let places = (*first..=last).step_by((*step).max(1));
            return (Some(known), places.filter_map(|at| args.get(at).cloned()).collect());
        }
    }
    (find(MOVING), args.iter().skip(1).cloned().collect())
}

impl Foreign {
    /// Redis's error where the command is not served.
    pub fn error(&self) -> Bytes {
        match (self.name, self.args.get(1)) {
            (Some("debug"), None) => errors::arity("debug"),
            (Some("debug"), Some(_)) => errors::NO_DEBUG.into(),
            (Some("config"), Some(sub)) if sub.eq_ignore_ascii_case(b"rewrite") => errors::NO_CONFIG_FILE.into(),
            (Some("config"), Some(sub)) => errors::unknown_subcommand(sub, "CONFIG"),
            _ => errors::unknown_command(&self.args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expected: &str) {
        let args: Vec<Bytes> = command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        let (_, keys) = keys(args.first().map(|n| n.as_ref()).unwrap_or_default(), &args);
        let keys: Vec<_> = keys.iter().map(|k| String::from_utf8_lossy(k).into_owned()).collect();
        assert_eq!(keys.join(" "), expected, "{command}");
    }

    #[test]
    fn no_command_is_both_served_and_foreign() {
        let fixed = FIXED.iter().flat_map(|(.., names)| names.iter());
        for name in fixed.chain(NONE).chain(MOVING) {
            assert!(super::super::table::row(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn keys_are_where_redis_says() {
        check("geoadd a b c", "a");
        check("GEOSEARCHSTORE a b", "a b");
        check("BITOP AND d a b", "d a b");
        check("BLPOP a b 0", "a b");
        check("DBSIZE", "");
        check("PUBLISH a b", "");
        check("EVAL s 1 a", "s 1 a");
        check("MEMORY USAGE a", "USAGE a");
        check("NEWCOMMAND a b", "a b");
        check("LCS", "");
    }
}
