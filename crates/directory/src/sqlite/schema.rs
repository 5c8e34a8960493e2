//! Opens connections to the database file and brings its tables to the present schema.
//!
//! It never opens the file by itself (closing such a descriptor would drop SQLite's own locks in this process) and never
//! changes a file of somebody else or of a newer version. Called by `SqliteDirectory::open` and the watch thread.
//!
//! | table | key | columns |
//! |---|---|---|
//! | meta | one row | counter (epochs, incarnations, groups), changes (of members and groups), boot id of the last opening |
//! | member | incarnation | what it said of itself, role, state, renewals, boot id, token of its lock file, fenced when, confirmed mode, name for balancers, place for requests |
//! | made | one row | when the file was made, milliseconds since 1970: which of two directories is the later one |
//! | cluster | one row | whose directory it is; no row: nobody has said so |
//! | secret | one row | 32 random bytes that the members share: what one of them signs, the others believe |
//! | grp | id | owner (NULL: lost), epoch, lost when |
//! | mode | one row | generation, phase, note of the cluster's mode |
//! | location | SHA-256 of the session's id | grp, epoch, last handover, depends |
//!
//! The schema version of all records is `PRAGMA user_version`. A column with a default is added under the same version: rows are
//! inserted by the names of their columns.
//!
//! **Durability.** `synchronous = NORMAL` does not sync each commit: a killed process loses nothing, a machine that loses power
//! loses the last commits, and with them every process that knew of them. Their epochs may be known elsewhere (guards in an
//! upstream), so the first opening after a restart of the machine moves the counter on by [`RESTART_STEP`], and syncs that.
//! Invariant: no number of the counter is given out twice, also after a crash of the machine.

use super::busy::{pause, pauses, wait_while_busy};
use super::rows::phase_code;
use super::{SqliteOptions, failed};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::path::Path;
use wayfarer_engine::directory::DirectoryError;
use wayfarer_engine::mode::Phase;

/// The present version of the tables.
pub(super) const SCHEMA: i64 = 2;
/// Marks the file as ours: `WYFR`.
const APPLICATION_ID: i64 = 0x5759_4652;
/// More than could be lost between two syncs, and small enough for two thousand million restarts.
pub(super) const RESTART_STEP: u64 = 1 << 32;
const STATEMENTS_KEPT: usize = 64;
const PAGE_BYTES: u64 = 4096;
/// Of the secret that members share.
pub(super) const SECRET_BYTES: usize = 32;

/// In files of before it was recorded it is the first opening after that.
const MADE: &str = "
CREATE TABLE IF NOT EXISTS made (id INTEGER PRIMARY KEY CHECK (id = 1), unix_ms INTEGER NOT NULL);
INSERT OR IGNORE INTO made (id, unix_ms) VALUES (1, CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER));
CREATE TABLE IF NOT EXISTS cluster (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY CHECK (id = 1), bytes BLOB NOT NULL);
";
const TABLES: &str = "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1), counter INTEGER NOT NULL, changes INTEGER NOT NULL, boot_id TEXT NOT NULL);
CREATE TABLE member (
    incarnation INTEGER PRIMARY KEY, name TEXT NOT NULL, control TEXT NOT NULL, zone TEXT NOT NULL, app_name TEXT NOT NULL,
    app_version TEXT NOT NULL, role INTEGER NOT NULL, state INTEGER NOT NULL, renewals INTEGER NOT NULL,
    boot_id TEXT NOT NULL, token TEXT NOT NULL, fenced_unix_s INTEGER, confirmed INTEGER NOT NULL DEFAULT 0,
    hint TEXT NOT NULL DEFAULT '', requests TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX member_alive ON member (name) WHERE fenced_unix_s IS NULL;
CREATE TABLE grp (id INTEGER PRIMARY KEY, owner INTEGER, epoch INTEGER NOT NULL, lost_unix_s INTEGER);
CREATE INDEX grp_owner ON grp (owner);
CREATE TABLE location (
    session BLOB PRIMARY KEY, grp INTEGER NOT NULL, epoch INTEGER NOT NULL, last_origin INTEGER, last_serial INTEGER,
    depends BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX location_grp ON location (grp);
";

/// What version 2 added: the mode. A directory of before has sessions with owners.
const MODE: &str = "
CREATE TABLE mode (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL, phase INTEGER NOT NULL, note TEXT NOT NULL);
INSERT INTO mode (id, generation, phase, note) VALUES (1, 1, 0, '');
";

/// A connection to the file at `path`, made if it is not there.
pub(super) fn connect(path: &Path, options: &SqliteOptions) -> Result<Connection, DirectoryError> {
    if path.is_dir() {
        let path = path.display();
        return Err(DirectoryError::NotAsked(format!("{path} is a folder; [cluster] directory must name a file")));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|mut conn| {
        wait_while_busy(&mut conn, options.busy_ms)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(conn)
    });
    let conn = opened.map_err(|e| failed(path, "open", &e))?;
    // Reading the header comes first: a file of somebody else must not be turned into a WAL database.
    refuse_foreign(&conn, path)?;
    let mode = set_wal(&conn, options.busy_ms).map_err(|e| failed(path, "open", &e))?;
    if mode != "wal" {
        let path = path.display();
        return Err(DirectoryError::NotAsked(format!(
            "{path} cannot use a write-ahead log (its mode is {mode:?}); put the directory on a local disk"
        )));
    }
    let pages = options.size_bytes_max.div_ceil(PAGE_BYTES).max(1);
    conn.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL; PRAGMA max_page_count = {pages}; PRAGMA journal_size_limit = 67108864;"
    ))
    .map_err(|e| failed(path, "open", &e))?;
    Ok(conn)
}

/// Makes or checks the tables, and moves the counter on if the machine was restarted.
pub(super) fn prepare(conn: &mut Connection, path: &Path, boot_id: &str, begins: Phase) -> Result<(), DirectoryError> {
    let found = install(conn, boot_id, begins).map_err(|e| failed(path, "prepare", &e))?;
    if found > SCHEMA {
        return Err(newer(path, found));
    }
    for table in ["meta", "member", "grp"] {
        let verdict: String = conn
            .query_row(&format!("PRAGMA quick_check({table})"), [], |row| row.get(0))
            .map_err(|e| failed(path, "check", &e))?;
        if verdict != "ok" {
            let path = path.display();
            return Err(DirectoryError::NotAsked(format!(
                "the database {path} is damaged ({verdict}); stop all nodes, move it and its .locks folder away, and start again"
            )));
        }
    }
    Ok(())
}

/// Writes down whose directory it is, or compares.
pub(super) fn claim(conn: &Connection, path: &Path, cluster: &str) -> Result<(), DirectoryError> {
    if cluster.is_empty() {
        return Ok(());
    }
    let claimed = conn
        .execute("INSERT OR IGNORE INTO cluster (id, name) VALUES (1, ?1)", [cluster])
        .and_then(|_| conn.query_row("SELECT name FROM cluster", [], |row| row.get::<_, String>(0)));
    let whose = claimed.map_err(|e| failed(path, "claim", &e))?;
    if whose == cluster {
        return Ok(());
    }
    let path = path.display();
    Err(DirectoryError::NotAsked(format!(
        "{path} is the directory of cluster {whose:?}, and this node is of {cluster:?}; name another file in [cluster] directory, or \
         the same [cluster] name on all nodes"
    )))
}

/// When the file was made, in milliseconds since 1970.
pub(super) fn made_unix_ms(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT unix_ms FROM made", [], |row| row.get(0))
}

/// What the members share; made by whoever opens the file first.
pub(super) fn secret(conn: &Connection, path: &Path) -> Result<[u8; SECRET_BYTES], DirectoryError> {
    let mut made = [0; SECRET_BYTES];
    getrandom::fill(&mut made).map_err(|error| DirectoryError::NotAsked(format!("the system gives no random bytes: {error}")))?;
    conn.execute("INSERT OR IGNORE INTO secret (id, bytes) VALUES (1, ?1)", [made])
        .and_then(|_| conn.query_row("SELECT bytes FROM secret", [], |row| row.get(0)))
        .map_err(|e| failed(path, "read the secret of", &e))
}

fn refuse_foreign(conn: &Connection, path: &Path) -> Result<(), DirectoryError> {
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        // One snapshot: another process may be making the tables just now.
        let tx = conn.unchecked_transaction()?;
        let tables = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let application = tx.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let version = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok((application, version, tables))
    };
    let (application, version, tables) = read().map_err(|e| failed(path, "read", &e))?;
    if tables > 0 && application != APPLICATION_ID {
        let path = path.display();
        return Err(DirectoryError::NotAsked(format!("{path} is a database of another program; name another file")));
    }
    if version > SCHEMA { Err(newer(path, version)) } else { Ok(()) }
}

fn newer(path: &Path, found: i64) -> DirectoryError {
    let path = path.display();
    DirectoryError::NotAsked(format!(
        "{path} has schema version {found}, this program knows versions up to {SCHEMA}; use the newer program for all nodes"
    ))
}

/// Turning a new file into a WAL database needs it alone, and SQLite asks no busy handler then.
fn set_wal(conn: &Connection, busy_ms: u64) -> rusqlite::Result<String> {
    let mut left = pauses(busy_ms);
    loop {
        match conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)) {
            Err(e) if left > 0 && matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
                left -= 1;
                pause();
            }
            other => return other,
        }
    }
}

/// Returns the schema version that it found, after having brought older ones to the present one.
fn install(conn: &mut Connection, boot_id: &str, begins: Phase) -> rusqlite::Result<i64> {
    conn.execute_batch("PRAGMA synchronous = FULL")?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(MADE)?;
    let found: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found == 0 {
        tx.execute_batch(TABLES)?;
        tx.execute_batch(MODE)?;
        tx.execute("UPDATE mode SET phase = ?1", [phase_code(begins)])?;
        tx.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};"))?;
        tx.execute("INSERT INTO meta (id, counter, changes, boot_id) VALUES (1, 0, 0, ?1)", [boot_id])?;
    } else if found <= SCHEMA {
        for column in ["hint", "requests"] {
            let columns = "SELECT count(*) FROM pragma_table_info('member') WHERE name = ?1";
            if tx.query_row(columns, [column], |row| row.get::<_, i64>(0))? == 0 {
                tx.execute_batch(&format!("ALTER TABLE member ADD COLUMN {column} TEXT NOT NULL DEFAULT '';"))?;
            }
        }
        if found == 1 {
            tx.execute_batch("ALTER TABLE member ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;")?;
            tx.execute_batch(MODE)?;
            tx.execute_batch(&format!("PRAGMA user_version = {SCHEMA};"))?;
        }
        let other_boot: Option<i64> =
            tx.query_row("SELECT 1 FROM meta WHERE boot_id <> ?1", [boot_id], |row| row.get(0)).optional()?;
        if other_boot.is_some() {
            tx.execute("UPDATE meta SET counter = counter + ?1, boot_id = ?2", (RESTART_STEP, boot_id))?;
        }
    }
    tx.commit()?;
    conn.execute_batch("PRAGMA synchronous = NORMAL")?;
    Ok(found)
}
