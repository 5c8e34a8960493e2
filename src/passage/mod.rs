//! The way of clients' operations in the cluster's present mode, and the passes of those that are under way.
//!
//! It decides nothing: the engine says which way ([`Route`]), the driver sets it here, the state face and the operations look.
//!
//! | way | the hot path | everything else |
//! |---|---|---|
//! | owners | as ever | takes a pass, then as ever |
//! | upstream | – | takes a pass, then goes to the upstream ([`direct`]) |
//! | wait | as ever: what is open here has its owner here | waits for another way |
//! | closed | as ever | waits in vain: this node leaves |
//!
//! A pass is held from before the way is looked at until the reply has come, so that when all passes have ended while operations
//! wait, nothing of this node's clients is under way to the upstream.
//!
//! **Without a lease.** Nobody is declared dead without proof before `lost_after` has passed since its lease ended; so for that
//! long (by default for ever, for then only proof counts) operations go to the upstream even while the directory does not answer.
//! A process that is stopped between this look and its write, for longer than that, may still write once; whoever owns the session
//! by then finds and counts it as a foreign write.
//!
//! Invariant: *one owner*: no pass begins after the mode was confirmed.

pub mod direct;

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::mode::Route;
use wayfarer_engine::profile::{Profile, Seen};

const OWNERS: u8 = 0;
const UPSTREAM: u8 = 1;
const WAIT: u8 = 2;
const CLOSED: u8 = 3;

/// See the head of this file.
#[derive(Debug)]
pub struct Passage {
    way: AtomicU8,
    /// Counts the changes of the way.
    turn: AtomicU64,
    under_way: AtomicUsize,
    /// Until when operations may go to the upstream, microseconds of CLOCK_BOOTTIME.
    until_us: AtomicU64,
    /// Told of each change of the way.
    changes: watch::Sender<()>,
    /// Told when the last pass ends while operations wait. Not the same as the changes: whoever only looks whether it may begin has a
    /// pass for a moment, and must not wake itself.
    ends: watch::Sender<()>,
    /// Which sessions are used through here while nobody owns them.
    profile: Mutex<Profile>,
}

/// One operation under way.
#[derive(Debug)]
pub struct Pass(Arc<Passage>);

impl Default for Passage {
    fn default() -> Passage {
        let (way, turn, under_way, until_us) = (AtomicU8::new(OWNERS), AtomicU64::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Passage {
            way,
            turn,
            under_way,
            until_us,
            changes: watch::Sender::new(()),
            ends: watch::Sender::new(()),
            profile: Mutex::default(),
        }
    }
}

impl Passage {
    /// The way from now on.
    pub fn follow(&self, route: Route) {
        let way = match route {
            Route::Owner => OWNERS,
            Route::Upstream => UPSTREAM,
            Route::Wait { .. } => WAIT,
        };
        self.turn.fetch_add(1, Ordering::SeqCst);
        // Whoever leaves stays closed, and whatever fails to change is so already.
        let _ = self.way.try_update(Ordering::SeqCst, Ordering::SeqCst, |before| (before != CLOSED).then_some(way));
        self.changes.send_replace(());
    }

    /// This node leaves: nothing passes any more, whatever the cluster does.
    pub fn close(&self) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        self.way.store(CLOSED, Ordering::SeqCst);
    }

    /// The lease lasts until then, and without proof of its death this node is waited for so much longer; 0: its life is over.
    pub fn leased(&self, until_us: u64, lost_after_us: Option<u64>) {
        let longer = lost_after_us.map_or(u64::MAX, |after_us| until_us.saturating_add(after_us));
        self.until_us.store(if until_us == 0 { 0 } else { longer }, Ordering::Release);
    }

    /// Whether operations may go to the upstream now, as far as this node's membership is concerned.
    pub fn may_pass(&self, now_us: u64) -> bool {
        now_us < self.until_us.load(Ordering::Acquire)
    }

    /// Whether operations go to the upstream. Certain only for one with a pass.
    pub fn is_upstream(&self) -> bool {
        self.way.load(Ordering::SeqCst) == UPSTREAM
    }

    /// Whether sessions have owners that are asked.
    pub fn is_owners(&self) -> bool {
        self.way.load(Ordering::SeqCst) == OWNERS
    }

    /// A number that is another one after each change of the way.
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::SeqCst)
    }

    fn is_open(&self) -> bool {
        !matches!(self.way.load(Ordering::SeqCst), WAIT | CLOSED)
    }

    /// A pass; `None`: operations wait.
    pub fn enter(self: &Arc<Self>) -> Option<Pass> {
        // Counted before the look: whoever sees none under way after the way was closed has seen all that looked before.
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(self.clone());
        self.is_open().then_some(pass)
    }

    /// A pass, when operations need not wait any more.
    pub async fn wait_enter(self: &Arc<Self>) -> Pass {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(pass) = self.enter() {
                return pass;
            }
            // The sender lives as long as `self`.
            drop(changes.changed().await);
        }
    }

    /// A client uses a session that nobody owns.
    pub fn note(&self, session: &[u8], now_us: u64) {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner).note(session, now_us);
    }

    /// What has been used so.
    pub fn seen(&self, now_us: u64) -> Seen {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner).seen(now_us)
    }

    /// Some of the sessions that have been used so.
    pub fn some(&self, count: usize) -> Vec<SessionId> {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner).some(count)
    }

    /// Waits until no pass is held, while operations wait or the way is closed.
    pub async fn ended(&self) {
        let mut ends = self.ends.subscribe();
        while self.under_way.load(Ordering::SeqCst) > 0 {
            // The sender lives as long as `self`.
            drop(ends.changed().await);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::SeqCst) == 1 && !self.0.is_open() {
            self.0.ends.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn nothing_begins_while_operations_wait_and_the_last_to_end_is_seen() {
        let passage = Arc::new(Passage::default());
        let first = passage.enter();
        assert!(first.is_some() && !passage.is_upstream());
        let turn = passage.turn();
        passage.follow(Route::Wait { generation: 2 });
        assert!(passage.turn() != turn && passage.enter().is_none());
        let mut context = Context::from_waker(Waker::noop());
        let (mut ended, mut entered) = (Box::pin(passage.ended()), Box::pin(passage.wait_enter()));
        assert_eq!(ended.as_mut().poll(&mut context), Poll::Pending);
        assert!(entered.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(ended.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(entered.as_mut().poll(&mut context).is_pending(), "whoever waits has not begun");
        passage.follow(Route::Upstream);
        assert!(entered.as_mut().poll(&mut context).is_ready() && passage.is_upstream());
    }

    #[test]
    fn whoever_leaves_stays_closed_and_waits_for_what_is_under_way() {
        let passage = Arc::new(Passage::default());
        passage.follow(Route::Upstream);
        let first = passage.enter();
        passage.close();
        passage.follow(Route::Owner);
        assert!(passage.enter().is_none() && !passage.is_owners() && !passage.is_upstream());
        let mut context = Context::from_waker(Waker::noop());
        let mut ended = Box::pin(passage.ended());
        assert_eq!(ended.as_mut().poll(&mut context), Poll::Pending);
        drop(first);
        assert_eq!(ended.as_mut().poll(&mut context), Poll::Ready(()));
    }

    #[test]
    fn a_node_that_may_be_taken_for_dead_lets_nothing_pass() {
        let passage = Passage::default();
        assert!(!passage.may_pass(0));
        passage.leased(10, Some(5));
        assert!(passage.may_pass(14) && !passage.may_pass(15));
        passage.leased(20, None);
        assert!(passage.may_pass(u64::MAX - 1), "only proof counts");
        passage.leased(0, None);
        assert!(!passage.may_pass(1));
    }
}
