//! Performs one transaction inside the writer's commit: all comparisons, then all writes.
//!
//! It never begins or ends the commit itself, and leaves nothing behind when it refuses. Called by the writer for each queued
//! transaction. Besides what the transaction compares, a member that is renewed, or whose state is changed, must be alive: so
//! the renewals of a fenced incarnation are refused for ever.
//!
//! Invariant: numbers come from [`Counters`] only, which are stored in the same commit as the records that use them.

use super::rows::{
    DEPENDS_MAX, all_confirmed, depends_bytes, group, is_alive, key_of, location_key, mode, phase_code, placement, stands_still,
    state_code,
};
use rusqlite::Connection;
use wayfarer_engine::directory::{
    Compare, DirectoryError, GroupRecord, MemberState, NextEpoch, Outcome, Placement, Transaction, Write,
};
use wayfarer_engine::ids::{Epoch, Incarnation, SessionId};
use wayfarer_engine::mode::NOTE_BYTES_MAX;

/// How many comparisons and writes one transaction may have together.
pub const PARTS_MAX: usize = 16_384;

/// The one counter, and how often members or groups have changed: read at the beginning of a commit, stored at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// The last number that was given out.
    pub(super) counter: u64,
    /// Grows with each change of a member or a group.
    pub(super) changes: u64,
}

impl Counters {
    /// As they were last committed.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Counters> {
        conn.prepare_cached("SELECT counter, changes FROM meta")?
            .query_row([], |row| Ok(Counters { counter: row.get(0)?, changes: row.get(1)? }))
    }

    /// Stores them.
    pub(super) fn store(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.prepare_cached("UPDATE meta SET counter = ?1, changes = ?2")?.execute((self.counter, self.changes))?;
        Ok(())
    }

    /// The next number, never given out before.
    pub(super) fn next(&mut self) -> Result<Epoch, Stop> {
        let next = self.counter.checked_add(1).filter(|n| i64::try_from(*n).is_ok());
        self.counter = next.ok_or_else(|| Stop::asked("the counter has reached its end"))?;
        Ok(Epoch(self.counter))
    }

    /// Notes that members or groups change in this commit.
    pub(super) fn changed(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }
}

/// Why a job has no outcome: it changed nothing.
pub(super) enum Stop {
    /// The job itself cannot be done.
    Answer(DirectoryError),
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl Stop {
    /// An impossible question.
    pub(super) fn asked(why: impl Into<String>) -> Stop {
        Stop::Answer(DirectoryError::NotAsked(why.into()))
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        Stop::Sql(error)
    }
}

/// Runs `change` so that all of it happens, or nothing.
pub(super) fn all_or_nothing<T>(conn: &Connection, change: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    let run = |sql: &str| conn.prepare_cached(sql)?.execute([]);
    run("SAVEPOINT job")?;
    let done = change();
    // Some failures (a full disk) end the whole transaction by themselves; the writer finds that out.
    if done.is_err() && !conn.is_autocommit() {
        run("ROLLBACK TO job")?;
    }
    if !conn.is_autocommit() {
        run("RELEASE job")?;
    }
    done
}

/// Performs `transaction`.
pub(super) fn transact(conn: &Connection, counters: &mut Counters, transaction: &Transaction) -> Result<Outcome, Stop> {
    refuse_malformed(transaction)?;
    if !all_hold(conn, transaction)? {
        let found = match first_session(transaction) {
            Some(session) => placement(conn, &key_of(session))?,
            None => Placement { mode: mode(conn)?, ..Placement::default() },
        };
        return Ok(Outcome::Refused { found });
    }
    let is_fresh = |write: &Write| matches!(write, Write::Place { epoch: NextEpoch::Fresh, .. });
    let epoch = if transaction.write.iter().any(is_fresh) { counters.next()? } else { Epoch(counters.counter) };
    all_or_nothing(conn, || transaction.write.iter().try_for_each(|write| apply(conn, counters, epoch, write)))?;
    Ok(Outcome::Applied { epoch })
}

fn refuse_malformed(transaction: &Transaction) -> Result<(), Stop> {
    let parts = transaction.compare.len().saturating_add(transaction.write.len());
    if parts > PARTS_MAX {
        return Err(Stop::asked(format!(
            "a transaction has {parts} parts, at most {PARTS_MAX} are possible; make several of it"
        )));
    }
    for write in &transaction.write {
        if let Write::Mode { note, .. } = write
            && note.len() > NOTE_BYTES_MAX
        {
            let len = note.len();
            return Err(Stop::asked(format!("the note of a mode has {len} bytes, at most {NOTE_BYTES_MAX} are possible")));
        }
        if let Write::Place { depends, .. } = write
            && depends.len() > DEPENDS_MAX
        {
            let len = depends.len();
            return Err(Stop::asked(format!("a location depends on {len} handovers, at most {DEPENDS_MAX} are possible")));
        }
    }
    Ok(())
}

fn all_hold(conn: &Connection, transaction: &Transaction) -> rusqlite::Result<bool> {
    for compare in &transaction.compare {
        let holds = match compare {
            Compare::Location { session, is } => location_key(conn, &key_of(session))? == *is,
            Compare::Group { group: id, owner, epoch } => {
                group(conn, *id)? == Some(GroupRecord { group: *id, owner: Some(*owner), epoch: *epoch })
            }
            Compare::Alive { incarnation } => is_alive(conn, *incarnation)?,
            Compare::StandsStill { incarnation, renewals } => stands_still(conn, *incarnation, *renewals)?,
            Compare::Mode { generation } => mode(conn)?.generation == *generation,
            Compare::Confirmed { generation } => all_confirmed(conn, *generation)?,
        };
        if !holds {
            return Ok(false);
        }
    }
    for write in &transaction.write {
        if let Write::Renew { incarnation } | Write::State { incarnation, .. } = write
            && !is_alive(conn, *incarnation)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn first_session(transaction: &Transaction) -> Option<&SessionId> {
    let compared = transaction.compare.iter().find_map(|compare| match compare {
        Compare::Location { session, .. } => Some(session),
        _ => None,
    });
    compared.or_else(|| {
        transaction.write.iter().find_map(|write| match write {
            Write::Place { session, .. } | Write::Forget { session } => Some(session),
            _ => None,
        })
    })
}

fn apply(conn: &Connection, counters: &mut Counters, fresh: Epoch, write: &Write) -> Result<(), Stop> {
    match write {
        Write::Place { session, group, epoch, last, depends } => {
            let epoch = match epoch {
                NextEpoch::Fresh => fresh,
                NextEpoch::Keep(epoch) => *epoch,
            };
            let (origin, serial) = (last.map(|h| h.origin.0.0), last.map(|h| h.serial));
            conn.prepare_cached("INSERT OR REPLACE INTO location VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute((
                key_of(session),
                group.0,
                epoch.0,
                origin,
                serial,
                depends_bytes(depends),
            ))?;
            return Ok(());
        }
        Write::Forget { session } => {
            conn.prepare_cached("DELETE FROM location WHERE session = ?1")?.execute([key_of(session)])?;
            return Ok(());
        }
        Write::Renew { incarnation } => {
            conn.prepare_cached("UPDATE member SET renewals = renewals + 1 WHERE incarnation = ?1 AND fenced_unix_s IS NULL")?
                .execute([incarnation.0.0])?;
        }
        Write::State { incarnation, state: MemberState::Fenced } | Write::Fence { incarnation } => fence(conn, *incarnation)?,
        Write::State { incarnation, state } => {
            conn.prepare_cached("UPDATE member SET state = ?2 WHERE incarnation = ?1 AND fenced_unix_s IS NULL")?
                .execute((incarnation.0.0, state_code(*state)))?;
        }
        Write::Leave { incarnation } => {
            conn.prepare_cached("DELETE FROM member WHERE incarnation = ?1")?.execute([incarnation.0.0])?;
            lose_groups(conn, *incarnation)?;
        }
        Write::Confirm { incarnation, generation } => {
            conn.prepare_cached("UPDATE member SET confirmed = ?2 WHERE incarnation = ?1")?
                .execute((incarnation.0.0, generation))?;
        }
        Write::Disown { incarnation } => {
            conn.prepare_cached("DELETE FROM location WHERE grp IN (SELECT id FROM grp WHERE owner = ?1)")?
                .execute([incarnation.0.0])?;
            return Ok(());
        }
        Write::Mode { phase, note } => {
            conn.prepare_cached("UPDATE mode SET generation = generation + 1, phase = ?1, note = ?2")?
                .execute((phase_code(*phase), note))?;
        }
    }
    counters.changed();
    Ok(())
}

/// Declares a member dead and its groups lost.
pub(super) fn fence(conn: &Connection, incarnation: Incarnation) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE member SET state = ?2, fenced_unix_s = unixepoch() WHERE incarnation = ?1 AND fenced_unix_s IS NULL",
    )?
    .execute((incarnation.0.0, state_code(MemberState::Fenced)))?;
    lose_groups(conn, incarnation)
}

fn lose_groups(conn: &Connection, owner: Incarnation) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE grp SET owner = NULL, lost_unix_s = unixepoch() WHERE owner = ?1")?.execute([owner.0.0])?;
    Ok(())
}
