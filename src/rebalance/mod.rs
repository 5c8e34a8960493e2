//! Rebalancing: asks every accepting member how many sessions it has, and tells those with too many to give.
//!
//! The arithmetic is the engine's ([`share::even`]); which sessions go is the giver's choice. It keeps nothing between two calls.
//! Called by the admin interface; answers come through the control channel.

use crate::driver::{Handle, clock};
use crate::questions::{Questions, SendTo};
use crate::store::Store;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use wayfarer_engine::directory::{Directory, DirectoryError, View};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::plan::share::{self, Gift};
use wayfarer_engine::residence::Table;
use wayfarer_engine::wire::control::ControlMessage;

/// How long a member may take to say how many sessions it has, before a rebalancing.
const LOAD_PATIENCE: Duration = Duration::from_secs(2);
/// The same for a page that shows it: without an answer it shows none.
const SHOWN_PATIENCE: Duration = Duration::from_millis(500);
/// When it is asked again: one that does not know this node yet, because it has just joined, cannot answer.
const LOAD_ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a gift may take.
const GIFT_PATIENCE: Duration = Duration::from_secs(120);
/// How long this node may be without its lease meanwhile: no handover is committed in a directory that cannot be written.
const LEASELESS_PATIENCE: Duration = Duration::from_secs(2);

/// What a rebalancing did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rebalanced {
    /// Sessions that moved.
    pub moved: u64,
    /// Sessions that were to move and did not.
    pub failed: u64,
}

/// Why nothing, or not everything, was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// This member did not say how many sessions it has; nothing was moved.
    Silent(String),
    /// The directory does not say who is there; nothing was moved.
    Directory(DirectoryError),
    /// The directory cannot be written; what was on its way moves, or stays, when it can be.
    Leaseless,
    /// This node is stopping.
    Stopping,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Silent(name) => write!(f, "member {name:?} does not answer; nothing was moved"),
            Trouble::Directory(error) => write!(f, "the directory does not say who is there: {error}; nothing was moved"),
            Trouble::Leaseless => f.write_str(
                "this node has no lease: its directory cannot be written (is its disk full?); sessions that were on their way \
                 move, or stay, when it can be; then ask again",
            ),
            Trouble::Stopping => f.write_str("this node is stopping"),
        }
    }
}

/// See the head of this file.
pub struct Rebalancer {
    driver: Handle,
    directory: Arc<dyn Directory>,
    store: Arc<Store>,
    questions: Questions<ControlMessage>,
}

impl Rebalancer {
    /// For one node.
    pub fn new(driver: Handle, directory: Arc<dyn Directory>, store: Arc<Store>, send: SendTo) -> Rebalancer {
        Rebalancer { driver, directory, store, questions: Questions::new(send) }
    }

    /// The sessions of every accepting member, by incarnation; `None`: it did not answer.
    pub async fn loads(self: &Arc<Self>) -> BTreeMap<Incarnation, (String, Option<u64>)> {
        let view = self.driver.standing().borrow().view.clone();
        self.loads_in(&view, SHOWN_PATIENCE).await
    }

    async fn loads_in(self: &Arc<Self>, view: &View, patience: Duration) -> BTreeMap<Incarnation, (String, Option<u64>)> {
        let mut asking = JoinSet::new();
        for member in view.accepting() {
            let (this, who, name) = (self.clone(), member.incarnation, member.draft.name.clone());
            asking.spawn(async move { (who, (name, this.load_of(who, patience).await)) });
        }
        asking.join_all().await.into_iter().collect()
    }

    async fn load_of(&self, who: Incarnation, patience: Duration) -> Option<u64> {
        if who == self.driver.me() {
            return Some(self.store.count() as u64);
        }
        let asking = async {
            let mut again = tokio::time::interval(LOAD_ASK_AGAIN);
            let mut wait = LOAD_ASK_AGAIN;
            loop {
                again.tick().await;
                let answer = self.ask(who, wait, |id| ControlMessage::LoadAsk { id }).await;
                if let Some(ControlMessage::Load { sessions, .. }) = answer {
                    return sessions;
                }
                wait *= 2;
            }
        };
        tokio::time::timeout(patience, asking).await.ok()
    }

    /// Gives every accepting member its share. Returns when all have moved that could.
    pub async fn rebalance(self: &Arc<Self>) -> Result<Rebalanced, Trouble> {
        // Read again: whoever has just joined may not be in the view that this node has.
        let view = self.directory.view().await.map_err(Trouble::Directory)?;
        let mut counts = Vec::new();
        for (who, (name, sessions)) in self.loads_in(&view, LOAD_PATIENCE).await {
            counts.push((who, sessions.ok_or(Trouble::Silent(name))?));
        }
        let mut giving = JoinSet::new();
        for gift in share::even(&counts) {
            let this = self.clone();
            giving.spawn(async move { this.have_given(gift).await });
        }
        let mut sum = Rebalanced::default();
        let given = tokio::select! {
            given = giving.join_all() => given,
            () = self.leaseless() => return Err(Trouble::Leaseless),
        };
        for given in given {
            let (moved, failed) = given?;
            sum.moved += moved;
            sum.failed += failed;
        }
        Ok(sum)
    }

    /// Ends when this node has been without its lease for a while.
    async fn leaseless(&self) {
        loop {
            let ends_us = self.store.lease_until_us().saturating_add(LEASELESS_PATIENCE.as_micros() as u64);
            let left_us = ends_us.saturating_sub(clock::now().boot_us);
            if left_us == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_micros(left_us)).await;
        }
    }

    async fn have_given(&self, gift: Gift) -> Result<(u64, u64), Trouble> {
        if gift.from == self.driver.me() {
            return self.give_away(gift.to, gift.count).await;
        }
        let ask = |id| ControlMessage::Give { id, to: gift.to, count: gift.count };
        match self.ask(gift.from, GIFT_PATIENCE, ask).await {
            Some(ControlMessage::Given { moved, failed, .. }) => Ok((moved, failed)),
            // Whether some have moved is unknown; the next rebalancing counts again.
            _ => Ok((0, gift.count)),
        }
    }

    /// Gives to a member that may have just joined, and not be in the view here yet.
    async fn give_away(&self, to: Incarnation, count: u64) -> Result<(u64, u64), Trouble> {
        let mut standing = self.driver.standing();
        let known = standing.wait_for(|now| now.view.members.contains_key(&to));
        if tokio::time::timeout(LOAD_PATIENCE, known).await.is_err() {
            tracing::debug!("asked to give sessions to a member that is not in the directory");
        }
        self.driver.give(to, count).await.map_err(|_| Trouble::Stopping)
    }

    async fn ask(
        &self,
        to: Incarnation,
        patience: Duration,
        message: impl FnOnce(u64) -> ControlMessage,
    ) -> Option<ControlMessage> {
        self.questions.ask(to, message).ok()?.answer(patience).await.ok()
    }

    /// How many sessions this member has.
    pub fn load(&self, from: Incarnation, id: u64) {
        self.answer(from, ControlMessage::Load { id, sessions: self.store.count() as u64 });
    }

    /// Another member asks this one to give sessions away.
    pub async fn give(&self, from: Incarnation, id: u64, to: Incarnation, count: u64) {
        let (moved, failed) = self.give_away(to, count).await.unwrap_or((0, count));
        self.answer(from, ControlMessage::Given { id, moved, failed });
    }

    /// Nothing was given: too many ask at once.
    pub fn refuse(&self, from: Incarnation, id: u64, count: u64) {
        self.answer(from, ControlMessage::Given { id, moved: 0, failed: count });
    }

    fn answer(&self, to: Incarnation, answer: ControlMessage) {
        if let Err(unsent) = self.questions.tell(to, answer) {
            tracing::debug!(?unsent, "an answer about load could not be sent; whoever asked will find out");
        }
    }

    /// An answer of another member.
    pub fn answered(&self, from: Incarnation, message: ControlMessage) {
        let (ControlMessage::Load { id, .. } | ControlMessage::Given { id, .. }) = &message else { return };
        self.questions.answered(from, *id, message);
    }

    /// The connection to a member broke.
    pub fn unreachable(&self, peer: Incarnation) {
        self.questions.unreachable(peer);
    }
}
