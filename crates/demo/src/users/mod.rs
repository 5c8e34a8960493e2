//! Hundreds of virtual users, each with a session, several requests of it at a time, and a memory of what it must read back.
//!
//! They know one address and nothing of nodes. Called by the run and by the tests. Load is open: due times come from the
//! schedule and latency counts from them, so waiting for a slow shop is part of it. A user that is more than
//! [`BEHIND_US_MAX`] late with a visit leaves it out and counts its requests as undispatched.
//! Order within a user: visit, wait for all its answers, next visit; the requests of a visit are in flight together.
//! Invariant: what was noted before a request was sent is what its answer is judged by.

pub mod client;
pub mod ledger;
pub mod register;
pub mod schedule;
pub mod session;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::model::{Route, Sizes};
use crate::random::Draws;
use crate::users::client::{ShopClient, query};
use crate::users::ledger::{Ledger, Record};
use crate::users::schedule::{Act, Planned, REQUESTS_MAX, Schedule, VISIT_MEAN_US};
use crate::users::session::SessionCheck;
use crate::world::{Clock, spawn};

/// A visit that could not start until this long after its due time is left out, in microseconds.
pub const BEHIND_US_MAX: i64 = 4_000_000;
/// Sessions that are read back at the same time at the end.
const READ_BACK_AT_ONCE: usize = 8;

/// What the users are to do.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// How many.
    pub users: u32,
    /// Fixes sessions, sizes, visits and due times.
    pub seed: u64,
    /// No variable is larger, in bytes.
    pub variable_bytes_max: u32,
}

/// What all users of one run share.
struct Common {
    client: ShopClient,
    clock: Clock,
    ledger: Arc<Ledger>,
    read_back: Semaphore,
    crowd: Crowd,
}

/// The users at work.
pub struct Users {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// When the last of them is due to have logged in, in microseconds since the start of the run.
    pub logged_in_us: i64,
}

impl Users {
    /// Sends the users to the shop at `address`; they log in spread over the mean time between two visits.
    pub fn start(crowd: Crowd, address: SocketAddr, clock: Clock, ledger: Arc<Ledger>) -> Self {
        let begin_us = clock.now_us();
        let (stop, stopped) = watch::channel(false);
        let client = ShopClient::new(address);
        let common = Arc::new(Common { client, clock, ledger, read_back: Semaphore::new(READ_BACK_AT_ONCE), crowd });
        let apart_us = VISIT_MEAN_US.checked_div(u64::from(crowd.users)).unwrap_or(0);
        let start_of = |user: u64| begin_us.saturating_add(i64::try_from(user.saturating_mul(apart_us)).unwrap_or(i64::MAX));
        let users = 0..u64::from(crowd.users);
        let tasks = users.map(|user| spawn(User::new(user, start_of(user), &common).live(stopped.clone()))).collect();
        Self { tasks, stop, logged_in_us: start_of(u64::from(crowd.users)) }
    }

    /// No new visits; each user ends the one under way, reads its session back and logs out.
    pub async fn finish(self) -> Result<(), String> {
        // Without receivers every user has ended already.
        let _ = self.stop.send(true);
        for task in self.tasks {
            task.await.map_err(|error| format!("a virtual user failed: {error}"))?;
        }
        Ok(())
    }
}

/// A session and its number in the ledger.
struct Current {
    check: Mutex<SessionCheck>,
    number: u32,
}

struct User {
    number: u64,
    start_us: i64,
    common: Arc<Common>,
    current: Option<Current>,
}

impl User {
    fn new(number: u64, start_us: i64, common: &Arc<Common>) -> Self {
        Self { number, start_us, common: Arc::clone(common), current: None }
    }

    async fn live(mut self, mut stopped: watch::Receiver<bool>) {
        for visit in Schedule::new(self.common.crowd.seed, self.number) {
            let due_us = self.start_us.saturating_add(i64::try_from(visit.due_us).unwrap_or(i64::MAX));
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                () = self.common.clock.sleep_until_us(due_us) => {}
            }
            let behind = self.common.clock.now_us().saturating_sub(due_us) > BEHIND_US_MAX;
            match visit.act {
                // Logins and logouts are never left out: the visits between them need their session.
                Act::Login(session_seed, planned) => self.log_in(session_seed, due_us, &planned).await,
                Act::Look(requests) if behind => self.common.ledger.skip(requests.len() as u64),
                Act::Look(requests) => self.look(due_us, &requests).await,
                Act::Logout => self.log_out(due_us).await,
            }
        }
        let common = Arc::clone(&self.common);
        let _turn = common.read_back.acquire().await;
        self.read_back().await;
    }

    async fn log_in(&mut self, session_seed: u64, due_us: i64, planned: &Planned) {
        let mut draws = Draws::new(session_seed, &[self.number, 0x51D]);
        // Reproducible ids suit a demonstration on loopback; a real service draws them from the system's generator.
        let sid = format!("{:016x}{:016x}", draws.next_u64(), draws.next_u64());
        let number = self.common.ledger.open_session(&sid);
        let sizes = Sizes::new(session_seed, self.common.crowd.variable_bytes_max);
        let current = self.current.insert(Current { check: Mutex::new(SessionCheck::new(sid, sizes)), number });
        request(&self.common, self.number, current, due_us, planned).await;
    }

    async fn look(&self, due_us: i64, requests: &[Planned]) {
        let Some(current) = &self.current else { return };
        let at = |place: usize| async move {
            if let Some(planned) = requests.get(place) {
                let due_us = due_us.saturating_add(i64::try_from(planned.offset_us).unwrap_or(0));
                self.common.clock.sleep_until_us(due_us).await;
                request(&self.common, self.number, current, due_us, planned).await;
            }
        };
        const { assert!(REQUESTS_MAX == 4) };
        tokio::join!(at(0), at(1), at(2), at(3));
    }

    /// Logs out and looks whether the session is really gone.
    async fn log_out(&mut self, due_us: i64) {
        let Some(current) = self.current.take() else { return };
        let (sid, in_doubt) = {
            let check = lock(&current.check);
            (check.sid().to_owned(), check.in_doubt())
        };
        let out = self.exchange(&current, &sid, due_us, Route::Logout, "").await;
        if out.is_none() || in_doubt {
            return; // What is in doubt may lawfully come later than the end.
        }
        let due_us = self.common.clock.now_us();
        if let Some(answer) = self.exchange(&current, &sid, due_us, Route::Read, "r=*").await {
            let faults = lock(&current.check).read_after_end(&answer);
            self.common.ledger.blame(self.number, due_us, &faults);
        }
    }

    /// Reads the whole session while nothing else is under way and compares; then logs out.
    async fn read_back(&mut self) {
        let Some(current) = &self.current else { return };
        let sid = lock(&current.check).sid().to_owned();
        let due_us = self.common.clock.now_us();
        if let Some(answer) = self.exchange(current, &sid, due_us, Route::Read, "r=*").await {
            let faults = lock(&current.check).read_back(&answer);
            self.common.ledger.blame(self.number, due_us, &faults);
        }
        let due_us = self.common.clock.now_us();
        self.log_out(due_us).await;
    }

    async fn exchange(&self, current: &Current, sid: &str, due_us: i64, route: Route, query: &str) -> Option<session::Answer> {
        exchange(&self.common, current.number, sid, due_us, route, query).await
    }
}

/// One request of a session: note, send, judge.
async fn request(common: &Common, user: u64, current: &Current, due_us: i64, planned: &Planned) {
    let (sid, ticket) = {
        let mut check = lock(&current.check);
        let ticket = check.begin(planned);
        (check.sid().to_owned(), ticket)
    };
    let query = query(&planned.reads, &ticket.writes, planned.counts);
    let answer = exchange(common, current.number, &sid, due_us, planned.route, &query).await;
    let faults = lock(&current.check).end(ticket, answer.as_ref());
    if !faults.is_empty() {
        common.ledger.blame(user, due_us, &faults);
    }
}

async fn exchange(common: &Common, session: u32, sid: &str, due_us: i64, route: Route, query: &str) -> Option<session::Answer> {
    let phase = common.ledger.counts().phase;
    let sent_us = common.clock.now_us();
    let outcome = common.client.send(sid, route, query).await;
    let record = Record { session, due_us, sent_us, done_us: common.clock.now_us(), phase };
    match outcome {
        Ok(answer) => {
            common.ledger.note(record, None);
            Some(answer)
        }
        Err(reason) => {
            common.ledger.note(record, Some(reason));
            None
        }
    }
}

fn lock(check: &Mutex<SessionCheck>) -> std::sync::MutexGuard<'_, SessionCheck> {
    check.lock().unwrap_or_else(PoisonError::into_inner)
}
