//! Records to rows and back, and the reads that several callers share.
//!
//! It never changes anything, and never stores an id of a session: the key of a location is the SHA-256 of the id. What it
//! reads comes from a file, so a code or a length that no version writes is an error, not a guess.

use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};
use wayfarer_engine::directory::{GroupRecord, Location, MemberDraft, MemberRecord, MemberState, Placement, Role, View};
use wayfarer_engine::ids::{Digest, Epoch, GroupId, HandoverId, Incarnation, SessionId};
use wayfarer_engine::mode::{Mode, Phase};

/// How many handovers a location may depend on.
pub(super) const DEPENDS_MAX: usize = 1024;
const HANDOVER_BYTES: usize = 16;

/// The key of a session's location.
pub(super) fn key_of(session: &SessionId) -> [u8; 32] {
    Digest::of(&session.0).0
}

/// The number that stands for a state.
pub(super) fn state_code(state: MemberState) -> i64 {
    match state {
        MemberState::Accepting => 0,
        MemberState::Cordoned => 1,
        MemberState::Draining => 2,
        MemberState::Fenced => 3,
    }
}

/// The number that stands for a role.
pub(super) fn role_code(role: Role) -> i64 {
    match role {
        Role::Owner => 0,
        Role::Client => 1,
    }
}

/// The bytes of a list of handovers: origin and serial of each, big-endian.
pub(super) fn depends_bytes(depends: &[HandoverId]) -> Vec<u8> {
    depends.iter().flat_map(|h| [h.origin.0.0.to_be_bytes(), h.serial.to_be_bytes()].concat()).collect()
}

fn depends_of(bytes: &[u8]) -> Option<Vec<HandoverId>> {
    let (chunks, rest) = bytes.as_chunks::<HANDOVER_BYTES>();
    if !rest.is_empty() || chunks.len() > DEPENDS_MAX {
        return None;
    }
    let one = |chunk: &[u8; HANDOVER_BYTES]| {
        let (origin, serial) = chunk.split_first_chunk::<8>()?;
        let serial: [u8; 8] = serial.try_into().ok()?;
        Some(HandoverId { origin: Incarnation(Epoch(u64::from_be_bytes(*origin))), serial: u64::from_be_bytes(serial) })
    };
    chunks.iter().map(one).collect()
}

fn strange(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, what.into())
}

fn member_of(row: &Row<'_>) -> rusqlite::Result<MemberRecord> {
    let role = match row.get::<_, i64>(6)? {
        0 => Role::Owner,
        1 => Role::Client,
        _ => return Err(strange(6, "unknown role")),
    };
    let state = match row.get::<_, i64>(7)? {
        0 => MemberState::Accepting,
        1 => MemberState::Cordoned,
        2 => MemberState::Draining,
        3 => MemberState::Fenced,
        _ => return Err(strange(7, "unknown state")),
    };
    Ok(MemberRecord {
        incarnation: Incarnation(Epoch(row.get(0)?)),
        draft: MemberDraft {
            name: row.get(1)?,
            control: row.get(2)?,
            zone: row.get(3)?,
            app_name: row.get(4)?,
            app_version: row.get(5)?,
            role,
            hint: row.get(10)?,
            requests: row.get(11)?,
        },
        state,
        renewals: row.get(8)?,
        confirmed: row.get(9)?,
    })
}

fn group_of(row: &Row<'_>) -> rusqlite::Result<GroupRecord> {
    let owner = row.get::<_, Option<u64>>(1)?.map(|owner| Incarnation(Epoch(owner)));
    Ok(GroupRecord { group: GroupId(row.get(0)?), owner, epoch: Epoch(row.get(2)?) })
}

fn location_of(row: &Row<'_>) -> rusqlite::Result<Location> {
    let last = match (row.get::<_, Option<u64>>(2)?, row.get::<_, Option<u64>>(3)?) {
        (Some(origin), Some(serial)) => Some(HandoverId { origin: Incarnation(Epoch(origin)), serial }),
        (None, None) => None,
        _ => return Err(strange(2, "half a handover")),
    };
    let depends = depends_of(row.get_ref(4)?.as_blob()?).ok_or_else(|| strange(4, "not a list of handovers"))?;
    Ok(Location { group: GroupId(row.get(0)?), epoch: Epoch(row.get(1)?), last, depends })
}

/// Location and group of a session.
pub(super) fn placement(conn: &Connection, key: &[u8; 32]) -> rusqlite::Result<Placement> {
    let mut find =
        conn.prepare_cached("SELECT grp, epoch, last_origin, last_serial, depends FROM location WHERE session = ?1")?;
    let location = find.query_row([key], location_of).optional()?;
    let group = match &location {
        Some(location) => group(conn, location.group)?,
        None => None,
    };
    Ok(Placement { location, group, mode: mode(conn)? })
}

/// Group and epoch of a session's location.
pub(super) fn location_key(conn: &Connection, key: &[u8; 32]) -> rusqlite::Result<Option<(GroupId, Epoch)>> {
    let mut find = conn.prepare_cached("SELECT grp, epoch FROM location WHERE session = ?1")?;
    find.query_row([key], |row| Ok((GroupId(row.get(0)?), Epoch(row.get(1)?)))).optional()
}

/// The record of a group.
pub(super) fn group(conn: &Connection, group: GroupId) -> rusqlite::Result<Option<GroupRecord>> {
    conn.prepare_cached("SELECT id, owner, epoch FROM grp WHERE id = ?1")?.query_row([group.0], group_of).optional()
}

/// Whether the incarnation is registered and not fenced.
pub(super) fn is_alive(conn: &Connection, incarnation: Incarnation) -> rusqlite::Result<bool> {
    let mut find = conn.prepare_cached("SELECT 1 FROM member WHERE incarnation = ?1 AND fenced_unix_s IS NULL")?;
    find.exists([incarnation.0.0])
}

/// Whether it is alive and has not renewed since `renewals` were counted.
pub(super) fn stands_still(conn: &Connection, incarnation: Incarnation, renewals: u64) -> rusqlite::Result<bool> {
    let mut find =
        conn.prepare_cached("SELECT 1 FROM member WHERE incarnation = ?1 AND fenced_unix_s IS NULL AND renewals = ?2")?;
    find.exists([incarnation.0.0, renewals])
}

/// All members and groups. The caller's read transaction makes it one snapshot.
pub(super) fn view(conn: &Connection) -> rusqlite::Result<View> {
    let members = "SELECT incarnation, name, control, zone, app_name, app_version, role, state, renewals, confirmed, hint, \
                   requests FROM member";
    let members = all(conn.prepare_cached(members)?, member_of, |m| m.incarnation)?;
    let groups = all(conn.prepare_cached("SELECT id, owner, epoch FROM grp")?, group_of, |g| g.group)?;
    let mode_note = conn.prepare_cached("SELECT note FROM mode")?.query_row([], |row| row.get(0))?;
    Ok(View { members, groups, mode: mode(conn)?, mode_note })
}

/// The number that stands for a phase of the mode.
pub(super) fn phase_code(phase: Phase) -> i64 {
    match phase {
        Phase::Own => 0,
        Phase::Settling => 1,
        Phase::Observe => 2,
        Phase::Parking { observed: false } => 3,
        Phase::Parking { observed: true } => 4,
    }
}

fn phase_of(code: i64) -> rusqlite::Result<Phase> {
    Ok(match code {
        0 => Phase::Own,
        1 => Phase::Settling,
        2 => Phase::Observe,
        3 => Phase::Parking { observed: false },
        4 => Phase::Parking { observed: true },
        _ => return Err(strange(1, "unknown mode")),
    })
}

/// The cluster's mode.
pub(super) fn mode(conn: &Connection) -> rusqlite::Result<Mode> {
    let mut find = conn.prepare_cached("SELECT generation, phase FROM mode")?;
    find.query_row([], |row| Ok(Mode { generation: row.get(0)?, phase: phase_of(row.get(1)?)? }))
}

/// Whether all members that are not fenced have confirmed this generation.
pub(super) fn all_confirmed(conn: &Connection, generation: u64) -> rusqlite::Result<bool> {
    let mut find = conn.prepare_cached("SELECT 1 FROM member WHERE fenced_unix_s IS NULL AND confirmed <> ?1 LIMIT 1")?;
    Ok(!find.exists([generation])?)
}

fn all<K: Ord, T>(
    mut statement: CachedStatement<'_>,
    record: fn(&Row<'_>) -> rusqlite::Result<T>,
    key: fn(&T) -> K,
) -> rusqlite::Result<std::collections::BTreeMap<K, T>> {
    let rows = statement.query_map([], record)?;
    rows.map(|row| row.map(|record| (key(&record), record))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_handovers_comes_back_and_a_torn_one_is_refused() {
        let depends: Vec<_> = (0..5u64).map(|n| HandoverId { origin: Incarnation(Epoch(u64::MAX - n)), serial: n }).collect();
        let bytes = depends_bytes(&depends);
        assert_eq!(depends_of(&bytes).unwrap(), depends);
        assert_eq!(depends_of(&[]), Some(Vec::new()));
        assert_eq!(depends_of(bytes.split_last().unwrap().1), None);
        assert_eq!(depends_of(&vec![0; HANDOVER_BYTES * (DEPENDS_MAX + 1)]), None);
    }
}
