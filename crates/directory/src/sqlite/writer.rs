//! The one thread of this process that writes: group commit over a bounded queue.
//!
//! It never answers before the COMMIT that the answer rests on, and never starts a job twice. `SqliteDirectory` owns the other
//! end of its queue; when that is dropped, it answers what is queued and ends.
//!
//! | what fails | every job of the batch is told | what has changed |
//! |---|---|---|
//! | the file is gone, or another | `NotAsked` | nothing |
//! | BEGIN, or anything that ends the transaction early | `NotAsked` | nothing |
//! | one job | that job `NotAsked` (or `NameTaken`), the others go on | nothing of that job |
//! | COMMIT | `Unknown` | perhaps everything |

use super::apply::{Counters, Stop, transact};
use super::lock::{Held, Locks};
use super::register::{Office, register};
use super::same_file::SameFile;
use super::sweep::{Swept, lock_files, records};
use super::watch::Watch;
use super::{Reply, SqliteOptions, failed};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use wayfarer_engine::directory::{DirectoryError, MemberDraft, Outcome, Registration, Transaction};

/// What the writer is asked to do.
pub(super) enum Job {
    Transact(Transaction, Reply<Outcome>),
    Register(MemberDraft, usize, Reply<Registration>),
    Sweep(Reply<Swept>),
}

/// A job that was performed, and waits for the commit to be answered.
enum Done {
    Transact(Result<Outcome, DirectoryError>, Reply<Outcome>),
    Register(Result<(Registration, Held), DirectoryError>, Reply<Registration>),
    Sweep(Result<Swept, DirectoryError>, Reply<Swept>),
}

/// The thread's state.
pub(super) struct Writer {
    conn: Connection,
    path: Arc<Path>,
    file: SameFile,
    locks: Arc<Locks>,
    watch: Arc<Watch>,
    options: SqliteOptions,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        (path, file): (Arc<Path>, SameFile),
        locks: Arc<Locks>,
        watch: Arc<Watch>,
        options: SqliteOptions,
    ) -> Writer {
        Writer { conn, path, file, locks, watch, options }
    }

    /// Answers jobs until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let batch_max = self.options.batch_max.max(1);
        while let Ok(first) = jobs.recv() {
            let batch: Vec<Job> = std::iter::once(first).chain(jobs.try_iter().take(batch_max - 1)).collect();
            let sweeps = batch.iter().any(|job| !matches!(job, Job::Transact(..)));
            self.commit(batch);
            if sweeps {
                self.sweep_files();
            }
        }
    }

    /// Performs a batch in one transaction and answers all of it.
    fn commit(&mut self, batch: Vec<Job>) {
        if let Err(why) = self.file.is_there(&self.path) {
            return batch.into_iter().for_each(|job| job.fail(&why));
        }
        let begun = self.conn.execute_batch("BEGIN IMMEDIATE").and_then(|()| Counters::load(&self.conn));
        let before = match begun {
            Ok(counters) => counters,
            Err(error) => {
                self.roll_back();
                let why = failed(&self.path, "write to", &error);
                return batch.into_iter().for_each(|job| job.fail(&why));
            }
        };
        let mut counters = before;
        let done: Vec<Done> = batch.into_iter().map(|job| self.perform(&mut counters, job)).collect();
        if self.conn.is_autocommit() {
            // SQLite gave the whole transaction up in the middle: what earlier jobs did is undone too.
            return self.answer_nothing(done);
        }
        if let Err(error) = if counters == before { Ok(()) } else { counters.store(&self.conn) } {
            self.roll_back();
            let why = failed(&self.path, "write to", &error);
            return done.into_iter().for_each(|done| done.fail(&why, Held::discard));
        }
        if let Err(error) = self.conn.execute_batch("COMMIT") {
            let why = DirectoryError::Unknown(format!("committing to {}: {error}", self.path.display()));
            self.roll_back();
            return done.into_iter().for_each(|done| done.fail(&why, drop));
        }
        if counters.changes != before.changes {
            self.watch.poke();
        }
        done.into_iter().for_each(|done| self.answer(done));
    }

    fn perform(&self, counters: &mut Counters, job: Job) -> Done {
        let conn = &self.conn;
        // After SQLite has given the transaction up, nothing may run outside of one.
        let in_transaction = || if conn.is_autocommit() { Err(Stop::asked("the transaction has ended")) } else { Ok(()) };
        match job {
            Job::Transact(transaction, reply) => {
                let result = in_transaction().and_then(|()| transact(conn, counters, &transaction));
                Done::Transact(result.map_err(|stop| self.why(stop)), reply)
            }
            Job::Register(draft, groups, reply) => {
                let office = Office { locks: &self.locks, options: &self.options };
                let result = in_transaction().and_then(|()| {
                    // A loop of crashes and restarts must not fill the table before the next sweep.
                    records(conn, counters, &self.options)?;
                    register(conn, counters, &office, &draft, groups)
                });
                Done::Register(result.map_err(|stop| self.why(stop)), reply)
            }
            Job::Sweep(reply) => {
                let result = in_transaction().and_then(|()| records(conn, counters, &self.options));
                Done::Sweep(result.map_err(|stop| self.why(stop)), reply)
            }
        }
    }

    /// The caller may have gone away; that changes nothing, but for a registration: an incarnation that nobody knows of must
    /// not count as alive.
    fn answer(&self, done: Done) {
        match done {
            Done::Transact(result, reply) => drop(reply.send(result)),
            Done::Sweep(result, reply) => drop(reply.send(result)),
            Done::Register(Err(error), reply) => drop(reply.send(Err(error))),
            Done::Register(Ok((registration, held)), reply) => {
                let incarnation = registration.incarnation;
                self.locks.keep(incarnation, held);
                if reply.send(Ok(registration)).is_err() {
                    self.locks.let_go(incarnation);
                }
            }
        }
    }

    fn answer_nothing(&self, done: Vec<Done>) {
        let first = done.iter().find_map(|done| match done {
            Done::Transact(Err(error), _) | Done::Register(Err(error), _) | Done::Sweep(Err(error), _) => Some(error.clone()),
            _ => None,
        });
        let why = first.unwrap_or_else(|| {
            DirectoryError::NotAsked(format!("the transaction on {} was given up; nothing has changed", self.path.display()))
        });
        done.into_iter().for_each(|done| done.fail(&why, Held::discard));
    }

    fn sweep_files(&mut self) {
        if let Err(stop) = lock_files(&mut self.conn, &self.locks) {
            let error = self.why(stop);
            tracing::warn!(%error, "lock files without a member stay until the next sweep");
        }
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(path = %self.path.display(), %error, "the directory could not roll back");
        }
    }

    fn why(&self, stop: Stop) -> DirectoryError {
        match stop {
            Stop::Answer(error) => error,
            Stop::Sql(error) => failed(&self.path, "write to", &error),
        }
    }
}

impl Job {
    fn fail(self, why: &DirectoryError) {
        match self {
            Job::Transact(_, reply) => drop(reply.send(Err(why.clone()))),
            Job::Register(_, _, reply) => drop(reply.send(Err(why.clone()))),
            Job::Sweep(reply) => drop(reply.send(Err(why.clone()))),
        }
    }
}

impl Done {
    /// Answers `why` whatever happened before; `end` says what becomes of the lock file of a registration.
    fn fail(self, why: &DirectoryError, end: impl FnOnce(Held)) {
        match self {
            Done::Transact(_, reply) => drop(reply.send(Err(why.clone()))),
            Done::Sweep(_, reply) => drop(reply.send(Err(why.clone()))),
            Done::Register(result, reply) => {
                if let Ok((_, held)) = result {
                    end(held);
                }
                drop(reply.send(Err(why.clone())));
            }
        }
    }
}
