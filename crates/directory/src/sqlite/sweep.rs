//! Removes what nobody can need any more, so that the file and the folder of locks do not grow for ever.
//!
//! It never removes a member that is not fenced, a group that has an owner, or a location in such a group. Called by the
//! writer after each registration and on demand.
//!
//! | what | removed when |
//! |---|---|
//! | location in a lost group | the group is lost for `keep_fenced_s` (a limited number each time) |
//! | lost group without locations | lost for `keep_fenced_s`, or among too many of them |
//! | fenced member | fenced for `keep_fenced_s`, or among more than `fenced_max` |
//! | lock file | no committed record names it, and nobody holds it |
//!
//! Invariant: no answer changes: an absent member counts as dead, an absent group or location has no owner either, and
//! numbers are never given out again. The wall clock decides only when, so a jump of it does no harm.

use super::SqliteOptions;
use super::apply::{Counters, Stop, all_or_nothing};
use super::lock::Locks;
use rusqlite::{Connection, TransactionBehavior};
use std::collections::{BTreeMap, HashSet};

const LOCATIONS_PER_SWEEP_MAX: usize = 4096;
const LOST_GROUPS_MAX: usize = 4096;

/// What a sweep removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Locations in lost groups.
    pub locations: usize,
    /// Lost groups.
    pub groups: usize,
    /// Fenced members.
    pub members: usize,
}

/// Removes old records inside the writer's commit.
pub(super) fn records(conn: &Connection, counters: &mut Counters, options: &SqliteOptions) -> Result<Swept, Stop> {
    let keep_s = i64::try_from(options.keep_fenced_s).unwrap_or(i64::MAX);
    let swept = all_or_nothing(conn, || {
        let locations = conn
            .prepare_cached(
                "DELETE FROM location WHERE session IN (SELECT l.session FROM grp g JOIN location l ON l.grp = g.id
                 WHERE g.owner IS NULL AND g.lost_unix_s <= unixepoch() - ?1 LIMIT ?2)",
            )?
            .execute((keep_s, LOCATIONS_PER_SWEEP_MAX))?;
        let groups = conn
            .prepare_cached(
                "DELETE FROM grp WHERE owner IS NULL AND NOT EXISTS (SELECT 1 FROM location WHERE location.grp = grp.id)
                 AND (lost_unix_s <= unixepoch() - ?1
                      OR id NOT IN (SELECT id FROM grp WHERE owner IS NULL ORDER BY id DESC LIMIT ?2))",
            )?
            .execute((keep_s, LOST_GROUPS_MAX))?;
        let members = conn
            .prepare_cached(
                "DELETE FROM member WHERE fenced_unix_s IS NOT NULL AND (fenced_unix_s <= unixepoch() - ?1
                 OR incarnation NOT IN
                    (SELECT incarnation FROM member WHERE fenced_unix_s IS NOT NULL ORDER BY incarnation DESC LIMIT ?2))",
            )?
            .execute((keep_s, options.fenced_max))?;
        Ok(Swept { locations, groups, members })
    })?;
    if swept.groups > 0 || swept.members > 0 {
        counters.changed();
    }
    Ok(swept)
}

/// Removes lock files without a committed record, in a transaction of its own that changes nothing but keeps others from
/// registering meanwhile.
pub(super) fn lock_files(conn: &mut Connection, locks: &Locks) -> Result<usize, Stop> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let named: BTreeMap<u64, String> = tx
        .prepare_cached("SELECT incarnation, token FROM member")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let tokens: HashSet<&str> = named.values().map(String::as_str).collect();
    locks.keep_only(|incarnation| named.contains_key(&incarnation.0.0));
    let removed = locks.remove_orphans(|token| tokens.contains(token));
    tx.rollback()?;
    removed.map_err(|error| Stop::asked(format!("lock files could not be swept: {error}")))
}
