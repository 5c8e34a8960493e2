//! The one place that maps what went wrong to RESP error lines.
//!
//! `TRYAGAIN` is what Redis itself says while slots move, and what cluster clients know to repeat. No line names an id or value.

use crate::rest::Trouble;
use wayfarer_engine::node::Reason;

/// There is no place for one more.
pub const TOO_MANY_WAIT: &[u8] = b"-TRYAGAIN wayfarer: too many operations wait already ([state] parked_operations_max)\r\n";
pub(super) const TOOK_TOO_LONG: &[u8] =
    b"-TRYAGAIN wayfarer: the operation took too long ([state] operation_ms_max); whether it ran is unknown\r\n";
pub(super) const PARKED_TOO_LONG: &[u8] =
    b"-TRYAGAIN wayfarer: the session is being handed over and the outcome is not known yet ([state] park_ms_max)\r\n";
pub(super) const TAKEN: &[u8] =
    b"-TRYAGAIN wayfarer: the session was taken from this node while the operation ran; whether it counted is unknown\r\n";
pub(super) const NO_LEASE: &[u8] = b"-TRYAGAIN wayfarer: this node has no lease in the directory and may not answer\r\n";
/// The lease ended while the operation ran.
pub const UNANSWERED: &[u8] =
    b"-TRYAGAIN wayfarer: this node lost its lease while the operation ran; whether it counted is unknown\r\n";
/// The owner's reply does not fit between nodes. Only what reads alone has such replies, for a value always fits.
pub const REPLY_TOO_LONG: &[u8] =
    b"-ERR wayfarer: the reply is longer than one message between nodes may be ([cluster] frame_bytes_max); ask for less at once\r\n";
pub(super) const OPERATION_TOO_LONG: &[u8] =
    b"-ERR wayfarer: the command is longer than one message between nodes may be ([cluster] frame_bytes_max); it did not run\r\n";
/// As Redis says it.
pub(super) const OUT_OF_MEMORY: &[u8] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
pub(super) const MODE_CHANGES: &[u8] =
    b"-TRYAGAIN wayfarer: the mode of the cluster is changing, which takes too long; the operation did not run\r\n";
pub(super) const NO_UPSTREAM: &[u8] =
    b"-ERR wayfarer: the cluster is in mode observe, and this node has no upstream for sessions ([state] upstream)\r\n";
pub(super) const STOPPING: &[u8] = b"-TRYAGAIN wayfarer: this node is stopping\r\n";
pub(super) const SILENT: &[u8] = b"-TRYAGAIN wayfarer: the owner of the session does not answer; the operation did not run\r\n";
pub(super) const UNKNOWN: &[u8] =
    b"-TRYAGAIN wayfarer: the owner of the session did not answer; whether the operation ran is unknown\r\n";
pub(super) const LOST: &[u8] =
    b"-ERR wayfarer: a variable of this session was lost with the node that held it; an overwrite cures it (policy on_lost)\r\n";

/// Sessions could not rest there.
pub(super) const NO_SUCH_DATABASE: &[u8] =
    b"-ERR wayfarer: the upstream has no such database, or does not let scripts SELECT it\r\n";

/// A change of impact `critical` has run, and the upstream has not confirmed it.
pub(super) const NOT_CONFIRMED: &[u8] =
    b"-TRYAGAIN wayfarer: the upstream did not confirm this write of impact critical; whether it lasts is unknown\r\n";
/// The same, because the upstream has answered with an error.
pub(super) const NOT_TAKEN: &[u8] =
    b"-TRYAGAIN wayfarer: the upstream answered with an error to what was written of this session; whether this write of impact critical lasts is unknown\r\n";
/// A key kept its name.
pub(super) const NOT_RENAMED: &[u8] =
    b"-TRYAGAIN wayfarer: the upstream answered with an error to the new name of the key; it has kept the old one\r\n";
pub(super) const TOO_MUCH_UNWRITTEN: &[u8] =
    b"-TRYAGAIN wayfarer: the upstream lacks too much already; the write did not run ([rest] unwritten_bytes_max)\r\n";
const UNFIT: &[u8] =
    b"-ERR wayfarer: this session is at rest with a key that cannot be served: of another type, or too large\r\n";
const TOO_MANY_KEYS: &[u8] =
    b"-ERR wayfarer: the command names more than 1024 keys of one session that it does not have; it did not run\r\n";

/// The bound that a line names, if it is one that was hit: the last word of `([section] name_max)`.
pub(super) fn bound(line: &'static [u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(line).ok()?.trim_end().strip_suffix(')')?;
    text.rsplit(' ').next().filter(|name| name.ends_with("_max"))
}

/// The line for a reason of the engine.
pub(super) fn of(reason: Reason) -> &'static [u8] {
    match reason {
        Reason::Directory => b"-TRYAGAIN wayfarer: the directory does not answer\r\n",
        Reason::Holder => b"-TRYAGAIN wayfarer: the node that holds a variable of this session does not answer\r\n",
        Reason::Upstream => of_upstream(None),
        Reason::Refused => NOT_TAKEN,
        Reason::Unfit => UNFIT,
        Reason::Keys => TOO_MANY_KEYS,
        Reason::Full => TOO_MANY_WAIT,
        Reason::NoOwner => b"-TRYAGAIN wayfarer: no node takes new sessions\r\n",
        Reason::Taken => TAKEN,
    }
}

/// The same for the upstream: what it answered, if it did.
pub(super) fn of_upstream(trouble: Option<Trouble>) -> &'static [u8] {
    match trouble {
        None | Some(Trouble::Silent) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, does not answer ([state] upstream)\r\n"
        }
        Some(Trouble::Full) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, answers OOM: it has no memory for more (its maxmemory)\r\n"
        }
        Some(Trouble::ReadOnly) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, answers READONLY: it is a replica ([state] upstream)\r\n"
        }
        Some(Trouble::Busy) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, serves nobody for now (LOADING, BUSY, MISCONF or the like)\r\n"
        }
        Some(Trouble::Closed) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, does not let this node in ([state] upstream: user, password, database)\r\n"
        }
        Some(Trouble::Forbidden) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, does not allow it (NOPERM): its user needs EVAL and EVALSHA\r\n"
        }
        Some(Trouble::NoScripts) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, does not know EVAL or EVALSHA: they must not be renamed\r\n"
        }
        Some(Trouble::Other) => {
            b"-TRYAGAIN wayfarer: the upstream, where sessions are at rest, answers with an error; its code is in the log of the node\r\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_their_bounds() {
        assert_eq!(bound(TOO_MANY_WAIT), Some("parked_operations_max"));
        assert_eq!(bound(PARKED_TOO_LONG), Some("park_ms_max"));
        assert_eq!(bound(TOO_MUCH_UNWRITTEN), Some("unwritten_bytes_max"));
        for other in [NO_LEASE, OUT_OF_MEMORY, LOST, of(Reason::Upstream)] {
            assert_eq!(bound(other), None);
        }
    }
}
