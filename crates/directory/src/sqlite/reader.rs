//! The thread that reads: locations, views, and proofs of death.
//!
//! It never writes, and never waits for a writer (a write-ahead log lets both go on). `SqliteDirectory` owns the other end of
//! its queue. All questions that wait are answered from one snapshot.
//!
//! Invariant: the snapshot begins after the last of these questions was taken from the queue, so it holds everything that was
//! committed before any of them was asked.

use super::lock::Locks;
use super::{Reply, failed, rows};
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use wayfarer_engine::directory::{DirectoryError, Placement, View};
use wayfarer_engine::ids::Incarnation;

/// What the reader is asked.
pub(super) enum Job {
    Read([u8; 32], Reply<Placement>),
    View(Reply<View>),
    Proof(Incarnation, Reply<bool>),
}

/// The thread's state.
pub(super) struct Reader {
    conn: Connection,
    path: Arc<Path>,
    locks: Arc<Locks>,
    batch_max: usize,
}

impl Reader {
    pub(super) fn new(conn: Connection, path: Arc<Path>, locks: Arc<Locks>, batch_max: usize) -> Reader {
        Reader { conn, path, locks, batch_max }
    }

    /// Answers questions until nobody can ask any more.
    pub(super) fn run(self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let batch: Vec<Job> = std::iter::once(first).chain(jobs.try_iter().take(self.batch_max - 1)).collect();
            // Dropping a transaction that only read ends it; there is nothing that could be lost.
            let snapshot = self.conn.unchecked_transaction();
            for job in batch {
                match &snapshot {
                    Ok(tx) => self.answer(tx, job),
                    Err(error) => job.fail(self.failed(error)),
                }
            }
        }
    }

    fn answer(&self, conn: &Connection, job: Job) {
        match job {
            Job::Read(key, reply) => drop(reply.send(rows::placement(conn, &key).map_err(|e| self.failed(&e)))),
            Job::View(reply) => drop(reply.send(rows::view(conn).map_err(|e| self.failed(&e)))),
            Job::Proof(incarnation, reply) => {
                let found = self.life_of(conn, incarnation).map_err(|e| self.failed(&e));
                // Without a record nothing is known: what is absent is dead, but that is no proof of ours.
                let proven = found.map(|life| life.is_some_and(|(boot_id, token)| self.locks.is_proven_dead(&boot_id, &token)));
                drop(reply.send(proven));
            }
        }
    }

    fn life_of(&self, conn: &Connection, incarnation: Incarnation) -> rusqlite::Result<Option<(String, String)>> {
        conn.prepare_cached("SELECT boot_id, token FROM member WHERE incarnation = ?1")?
            .query_row([incarnation.0.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn failed(&self, error: &rusqlite::Error) -> DirectoryError {
        failed(&self.path, "read", error)
    }
}

impl Job {
    fn fail(self, why: DirectoryError) {
        match self {
            Job::Read(_, reply) => drop(reply.send(Err(why))),
            Job::View(reply) => drop(reply.send(Err(why))),
            Job::Proof(_, reply) => drop(reply.send(Err(why))),
        }
    }
}
