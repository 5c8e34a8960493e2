//! Registers an incarnation: lock file first, then its record and groups, after fencing a dead one of the same name.
//!
//! It never takes a name from a process that may be alive. Called by the writer inside its commit.
//!
//! | step | so that |
//! |---|---|
//! | the writer holds the database's write lock | no sweep takes the new lock file for an orphan |
//! | the earlier one of this name: fenced, or proven dead? | else `NameTaken`, and nothing has changed |
//! | create the lock file under a random token and lock it | the record never exists without a held lock |
//! | fence the earlier one, insert member and groups | all in the writer's commit |
//! | commit, then keep the lock | if the commit fails the lock is let go: nobody was told of this incarnation |

use super::SqliteOptions;
use super::apply::{Counters, Stop, all_or_nothing, fence};
use super::lock::{HELD_MAX, Held, Locks};
use super::rows::{role_code, state_code};
use rusqlite::{Connection, OptionalExtension};
use wayfarer_engine::directory::{DirectoryError, MemberDraft, MemberState, Registration};
use wayfarer_engine::ids::{Epoch, GroupId, Incarnation};

/// How many groups one member may open.
pub const GROUPS_MAX: usize = 1024;
/// The longest name, address, zone or version of a member, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// What a registration needs besides the connection.
pub(super) struct Office<'a> {
    pub(super) locks: &'a Locks,
    pub(super) options: &'a SqliteOptions,
}

/// Registers `draft`. The lock must be kept once the commit has succeeded.
pub(super) fn register(
    conn: &Connection,
    counters: &mut Counters,
    office: &Office<'_>,
    draft: &MemberDraft,
    groups: usize,
) -> Result<(Registration, Held), Stop> {
    refuse_malformed(draft, groups)?;
    let earlier = earlier_of(conn, &draft.name)?;
    if let Some((_, boot_id, token)) = &earlier
        && !office.locks.is_proven_dead(boot_id, token)
    {
        return Err(Stop::Answer(DirectoryError::NameTaken(draft.name.clone())));
    }
    let members: usize = conn.prepare_cached("SELECT count(*) FROM member")?.query_row([], |row| row.get(0))?;
    if members >= office.options.members_max {
        return Err(Stop::asked(format!(
            "the directory has {members} members; fence or sweep some, or raise its limit of members"
        )));
    }
    if !office.locks.has_room() {
        return Err(Stop::asked(format!("this process has registered {HELD_MAX} incarnations; restart it")));
    }
    let token: String = conn.prepare_cached("SELECT lower(hex(randomblob(16)))")?.query_row([], |row| row.get(0))?;
    let held = office.locks.create(&token).map_err(|error| Stop::asked(format!("no lock file could be made: {error}")))?;
    let inserted = all_or_nothing(conn, || {
        if let Some((earlier, ..)) = earlier {
            fence(conn, earlier)?;
        }
        insert(conn, counters, draft, groups, &office.locks.boot_id, &token)
    });
    match inserted {
        Ok(registration) => {
            counters.changed();
            Ok((registration, held))
        }
        Err(stop) => {
            held.discard();
            Err(stop)
        }
    }
}

fn refuse_malformed(draft: &MemberDraft, groups: usize) -> Result<(), Stop> {
    let texts = [&draft.name, &draft.control, &draft.zone, &draft.app_name, &draft.app_version, &draft.hint, &draft.requests];
    if let Some(text) = texts.iter().find(|text| text.len() > TEXT_BYTES_MAX) {
        let len = text.len();
        return Err(Stop::asked(format!(
            "a name, address, zone or version has {len} bytes, at most {TEXT_BYTES_MAX} are possible"
        )));
    }
    if draft.name.is_empty() {
        return Err(Stop::asked("a member needs a name; set [cluster] node"));
    }
    if groups > GROUPS_MAX {
        return Err(Stop::asked(format!("a member asks for {groups} groups, at most {GROUPS_MAX} are possible")));
    }
    Ok(())
}

/// Incarnation, boot id and token of the member of this name that is not fenced.
fn earlier_of(conn: &Connection, name: &str) -> rusqlite::Result<Option<(Incarnation, String, String)>> {
    conn.prepare_cached("SELECT incarnation, boot_id, token FROM member WHERE name = ?1 AND fenced_unix_s IS NULL")?
        .query_row([name], |row| Ok((Incarnation(Epoch(row.get(0)?)), row.get(1)?, row.get(2)?)))
        .optional()
}

fn insert(
    conn: &Connection,
    counters: &mut Counters,
    draft: &MemberDraft,
    groups: usize,
    boot_id: &str,
    token: &str,
) -> Result<Registration, Stop> {
    let epoch = counters.next()?;
    // By their names, so that a later version may add columns with defaults while members of this one live.
    const INSERT: &str = "INSERT INTO member (incarnation, name, control, zone, app_name, app_version, role, state, renewals, boot_id, \
                          token, hint, requests) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12)";
    conn.prepare_cached(INSERT)?.execute((
        epoch.0,
        &draft.name,
        &draft.control,
        &draft.zone,
        &draft.app_name,
        &draft.app_version,
        role_code(draft.role),
        state_code(MemberState::Accepting),
        boot_id,
        token,
        &draft.hint,
        &draft.requests,
    ))?;
    let mut opened = Vec::with_capacity(groups);
    for _ in 0..groups {
        let group = GroupId(counters.next()?.0);
        conn.prepare_cached("INSERT INTO grp (id, owner, epoch) VALUES (?1, ?2, ?2)")?.execute((group.0, epoch.0))?;
        opened.push((group, epoch));
    }
    Ok(Registration { incarnation: Incarnation(epoch), groups: opened })
}
