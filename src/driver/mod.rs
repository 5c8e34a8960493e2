//! The event loop around the engine's node: input → engine → effects. One task, one node, one input at a time.
//!
//! It decides nothing: it reads the clock, feeds inputs, performs effects (control channel, directory, store) and feeds what they
//! bring back. It never awaits anything but its next event, so no peer and no directory can hold it up.
//!
//! ```text
//!  operations, admin ─► Told ─┐                   ┌─► control channel (never blocks)
//!  control channel ───► Told ─┼─► Node::handle ───┼─► directory (a task each, with a deadline) ─┐
//!  directory's watch ─► View ─┤                   └─► store: lease, wake                        │
//!  clock ─────────────► Tick ─┘◄──────────────────────────── Outcome, Placement, Probed ────────┘
//! ```
//! Longer than 400 lines because one loop performs every effect.
//! Invariant: every request to the directory comes back as an input, also if its task broke; and a node that was fenced has in
//! its new life the last wish of its operator (cordon, drain).

pub mod clock;
mod handle;
mod journal;
mod parked;
mod resting;
mod wish;

pub use handle::{Handle, Standing, Stopped};
pub use journal::{Journal, Move, MoveOutcome, Side};
pub use parked::Parked;

use handle::Told;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use wayfarer_engine::directory::{Directory, DirectoryError, MemberDraft, MemberState, Role, View};
use wayfarer_engine::ids::{Incarnation, Now, Ticket};
use wayfarer_engine::mode::Route;
use wayfarer_engine::node::message::Message;
use wayfarer_engine::node::{Effect, Identity, Input, Node, NodeSettings, Verdict};

use crate::passage::Passage;
use crate::rest::AtRest;
use crate::store::Store;
use wish::Wish;

/// Pauses between the looks of one probe: a process that was killed closes its connections a moment before its lock.
const PROBE_AGAIN_MS: [u64; 3] = [10, 50, 150];
/// How often the node looks at its deadlines.
const TICK_US: u64 = 5_000;
const TICK: Duration = Duration::from_micros(TICK_US);
/// Inputs that may wait for the driver; beyond it, whoever asks waits for a place.
const TOLD_MAX: usize = 8192;

/// Between tries to register, when the directory does not let a fenced node back in.
const REGISTER_AGAIN: Duration = Duration::from_millis(500);

/// After a registration the directory is asked so often who is there.
const LOOKS_MAX: u32 = 20;

/// Sends messages to other nodes; never blocks.
pub trait Post: Send + Sync + 'static {
    /// Sends it; false if it certainly will not arrive.
    fn send(&self, to: Incarnation, message: Message) -> bool;
    /// Members have changed.
    fn members(&self, view: &View);
    /// This node has a new life: what is sent from now on comes from `me`.
    fn reborn(&self, me: Incarnation);
}

/// What the driver needs.
pub struct Parts<P> {
    /// Where members, groups and locations are.
    pub directory: Arc<dyn Directory>,
    /// The sessions.
    pub store: Arc<Store>,
    /// Where operations wait for gates to open.
    pub parked: Arc<Parked>,
    /// The way to other nodes.
    pub post: Arc<P>,
    /// The engine's bounds.
    pub settings: NodeSettings,
    /// How long the directory may take for one answer.
    pub directory_ms_max: u64,
    /// What happened to which session, for operators.
    pub journal: Arc<Journal>,
    /// Where sessions are at rest; `None`: nowhere.
    pub rest: Option<Arc<AtRest>>,
    /// The way of clients' operations.
    pub passage: Arc<Passage>,
}

/// A driver before its loop runs.
pub struct Driver<P> {
    parts: Parts<P>,
    draft: MemberDraft,
    groups: usize,
    node: Node,
    told: mpsc::Receiver<Told>,
    views: watch::Receiver<View>,
    standing: watch::Sender<Standing>,
    asked: HashMap<Ticket, oneshot::Sender<Verdict>>,
    gifts: HashMap<u64, oneshot::Sender<(u64, u64)>>,
    check_ins: HashMap<u64, oneshot::Sender<(u64, u64)>>,
    under_way: JoinSet<Input>,
    /// What a task under way brings if it breaks: that nobody knows.
    unknown: HashMap<Id, Input>,
    wish: Wish,
    fenced: bool,
}

impl<P: Post> Driver<P> {
    /// Registers a new incarnation and makes the driver of its node.
    pub async fn register(parts: Parts<P>, draft: MemberDraft, groups: usize) -> Result<(Driver<P>, Handle), DirectoryError> {
        let groups = if draft.role == Role::Owner { groups } else { 0 };
        let (identity, view) = enrol(&parts, draft.clone(), groups).await?;
        let (views_in, views) = watch::channel(view.clone());
        parts.directory.watch(Box::new(move |view| {
            views_in.send_replace(view);
        }));
        let me = identity.incarnation;
        let node = Node::new(identity, parts.settings.clone(), view.clone(), clock::now());
        parts.post.members(&view);
        let (told_in, told) = mpsc::channel(TOLD_MAX);
        let (standing, watcher) =
            watch::channel(Standing { me, view: Arc::new(view), ready: false, drained: false, lives_lost: 0 });
        let handle = Handle { told: told_in, tickets: Arc::new(AtomicU64::new(1)), standing: watcher };
        let mut driver = Driver {
            parts,
            draft,
            groups,
            node,
            told,
            views,
            standing,
            asked: HashMap::new(),
            gifts: HashMap::new(),
            check_ins: HashMap::new(),
            under_way: JoinSet::new(),
            unknown: HashMap::new(),
            wish: Wish::default(),
            fenced: false,
        };
        driver.follow(driver.node.route());
        Ok((driver, handle))
    }

    /// Runs until nobody holds a handle any more.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    let begun_us = clock::now().boot_us;
                    self.feed(Input::Tick);
                    // A tick that took long must not be followed by the next one at once: what is to be heard in between may be
                    // the lease. Not after each one, for every change of a timer wakes this thread once more.
                    if clock::now().boot_us.saturating_sub(begun_us) > TICK_US / 2 {
                        tick.reset();
                    }
                }
                Some(done) = self.under_way.join_next_with_id() => self.came_back(done),
                // Before what is told: there is always more of that under load.
                changed = self.views.changed() => match changed {
                    Ok(()) => self.view_changed(),
                    Err(_) => break,
                },
                told = self.told.recv() => match told {
                    Some(told) => self.take(told),
                    None => break,
                },
            }
            if self.fenced {
                self.live_again().await;
            }
        }
        self.parts.store.clear();
        self.parts.parked.wake_all();
    }

    /// Others have declared this life over: start a new one, with nothing.
    async fn live_again(&mut self) {
        let lost_before = self.parts.store.lost_with_lives();
        self.parts.store.clear();
        // What is at rest as it was here is not lost; what was kept for others is, wherever their sessions rest.
        let lost = self.parts.store.lost_with_lives() > lost_before || self.node.status().residuals > 0;
        let loses = self.parts.rest.is_none() || lost;
        self.parts.parked.wake_all();
        // Answers to questions of the old life mean nothing to the new one; who waits is told that nobody answers.
        self.under_way = JoinSet::new();
        self.unknown.clear();
        self.asked.clear();
        self.gifts.clear();
        // No note will tell how those handovers ended.
        self.parts.journal.forget_frozen();
        self.check_ins.clear();
        self.standing.send_modify(|s| {
            s.ready = false;
            s.lives_lost += u64::from(!s.drained && loses);
            s.drained = false;
        });
        loop {
            match self.enrol_again().await {
                None => return,
                Some(Ok((identity, view))) => {
                    let me = identity.incarnation;
                    self.parts.post.reborn(me);
                    self.parts.post.members(&view);
                    self.node = Node::new(identity, self.parts.settings.clone(), view.clone(), clock::now());
                    self.standing.send_modify(|s| {
                        s.me = me;
                        s.view = Arc::new(view);
                    });
                    self.fenced = false;
                    self.follow(self.node.route());
                    if let Some(wish) = self.wish.input() {
                        self.feed(wish);
                    }
                    return;
                }
                Some(Err(error)) => tracing::error!(%error, "this node cannot register again yet"),
            }
        }
    }

    /// Tries to register, and pauses if that failed; `None`: nobody holds a handle any more. Meanwhile there is no node: who asks
    /// for something is told so, what the node is to do once it lives is remembered, and a drain has nothing to move.
    async fn enrol_again(&mut self) -> Option<Result<(Identity, View), DirectoryError>> {
        let mut attempt = std::pin::pin!(async {
            let enrolled = enrol(&self.parts, self.draft.clone(), self.groups).await;
            if enrolled.is_err() {
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
            enrolled
        });
        loop {
            tokio::select! {
                enrolled = &mut attempt => return Some(enrolled),
                told = self.told.recv() => match told? {
                    Told::Input(input) => {
                        self.wish.hear(&input);
                        if self.wish.drains {
                            self.standing.send_modify(|s| s.drained = true);
                        }
                    }
                    Told::Status(answer) => drop(answer.send(self.node.status())),
                    // Their askers hear that nobody answers.
                    Told::Ask(..) | Told::Give(..) | Told::CheckIn(..) => {}
                },
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Input(input) => {
                self.wish.hear(&input);
                self.feed(input);
            }
            Told::Ask(ticket, input, answer) => {
                self.asked.insert(ticket, answer);
                self.feed(input);
            }
            Told::Give(input, batch, answer) => {
                self.gifts.insert(batch, answer);
                self.feed(input);
            }
            Told::CheckIn(input, batch, answer) => {
                self.check_ins.insert(batch, answer);
                self.feed(input);
            }
            // Whoever asked may have gone meanwhile; then nobody needs the answer.
            Told::Status(answer) => drop(answer.send(self.node.status())),
        }
    }

    /// A request to the directory has ended. What a panic says is not logged: it may hold anything.
    fn came_back(&mut self, done: Result<(Id, Input), JoinError>) {
        match done {
            Ok((id, input)) => {
                self.unknown.remove(&id);
                self.feed(input);
            }
            Err(error) => {
                tracing::error!("a request to the directory broke: its outcome is unknown");
                metrics::counter!(crate::telemetry::names::DIRECTORY_ERRORS).increment(1);
                if let Some(input) = self.unknown.remove(&error.id()) {
                    self.feed(input);
                }
            }
        }
    }

    fn view_changed(&mut self) {
        let view = self.views.borrow_and_update().clone();
        self.parts.post.members(&view);
        self.standing.send_modify(|s| s.view = Arc::new(view.clone()));
        self.feed(Input::View(view));
    }

    fn feed(&mut self, input: Input) {
        let now = clock::now();
        let mut inputs = VecDeque::from([input]);
        // At most one more for each message that was sent for the first: what a cancelled handover says is told nobody again.
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.node.handle(now, input, self.parts.store.as_ref(), &mut effects);
            for effect in effects {
                inputs.extend(self.perform(now, effect));
            }
        }
    }

    /// Performs one effect; what the node must be told of it at once.
    fn perform(&mut self, now: Now, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send { to, message } => {
                let failed = Input::not_sent(&message);
                if !self.parts.post.send(to, message) {
                    metrics::counter!(crate::telemetry::names::MESSAGES_NOT_SENT).increment(1);
                    return failed;
                }
            }
            Effect::Transact { request, transaction } => {
                let directory = self.parts.directory.clone();
                self.ask(async move { directory.transact(transaction).await }, move |answer| Input::Outcome {
                    request,
                    outcome: answer,
                });
            }
            Effect::Read { request, session } => {
                let directory = self.parts.directory.clone();
                let read = async move { directory.read(session).await };
                self.ask(read, move |placement| Input::Placement { request, placement });
            }
            Effect::Probe(incarnation) => {
                let directory = self.parts.directory.clone();
                let probe = async move {
                    for pause_ms in PROBE_AGAIN_MS {
                        if directory.is_proven_dead(incarnation).await? {
                            return Ok(true);
                        }
                        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    }
                    directory.is_proven_dead(incarnation).await
                };
                self.ask(probe, move |dead| Input::Probed { incarnation, dead: dead.unwrap_or(false) });
            }
            Effect::Answer { ticket, verdict } => {
                if let Some(answer) = self.asked.remove(&ticket) {
                    // An operation that has given up meanwhile does not need it.
                    let _ = answer.send(verdict);
                }
            }
            Effect::Wake(session) => self.parts.parked.wake(&session),
            Effect::LeaseUntil(at) => {
                self.parts.store.set_lease_until_us(at);
                self.parts.passage.leased(at, self.parts.settings.lease.lost_after_us);
                if at > now.boot_us && !self.standing.borrow().ready {
                    self.standing.send_modify(|s| s.ready = true);
                }
            }
            Effect::Fenced => {
                tracing::error!("this node was declared dead by the others and starts again with nothing");
                self.fenced = true;
            }
            Effect::Drained => self.standing.send_modify(|s| s.drained = true),
            Effect::Route(route) => self.follow(route),
            Effect::Gave { batch, moved, failed } => {
                if let Some(answer) = self.gifts.remove(&batch) {
                    let _ = answer.send((moved, failed));
                }
            }
            Effect::CheckedIn { batch, done, failed } => {
                if let Some(answer) = self.check_ins.remove(&batch) {
                    let _ = answer.send((done, failed));
                }
            }
            effect @ (Effect::Look { .. } | Effect::Load { .. } | Effect::Store { .. } | Effect::StoreBoth { .. }) => {
                self.at_rest(effect);
            }
            Effect::Expired(keys) => {
                let store = &self.parts.store;
                store.tell_expired(keys, store.life(), now.boot_us);
            }
            Effect::Note(note) => self.parts.journal.note(note),
        }
        None
    }

    /// Operations go this way. If they wait, the node is told when those under way have ended.
    fn follow(&mut self, route: Route) {
        self.parts.passage.follow(route);
        if let Route::Wait { generation } = route {
            let passage = self.parts.passage.clone();
            let task = self.under_way.spawn(async move {
                passage.ended().await;
                Input::Held { generation }
            });
            self.unknown.insert(task.id(), Input::Tick);
        }
    }

    /// Asks the directory with a deadline; what brings no answer is an unknown outcome.
    fn ask<T: Send + 'static>(
        &mut self,
        question: impl Future<Output = Result<T, DirectoryError>> + Send + 'static,
        input: impl Fn(Option<T>) -> Input + Send + 'static,
    ) {
        let deadline = Duration::from_millis(self.parts.directory_ms_max);
        let unknown = input(None);
        let task = self.under_way.spawn(async move {
            match tokio::time::timeout(deadline, question).await {
                Ok(Ok(answer)) => input(Some(answer)),
                Ok(Err(error)) => {
                    metrics::counter!(crate::telemetry::names::DIRECTORY_ERRORS).increment(1);
                    tracing::warn!(%error, "the directory gave no answer");
                    input(None)
                }
                Err(_) => {
                    metrics::counter!(crate::telemetry::names::DIRECTORY_ERRORS).increment(1);
                    tracing::warn!(deadline_ms = deadline.as_millis() as u64, "the directory took too long");
                    input(None)
                }
            }
        });
        self.unknown.insert(task.id(), unknown);
    }
}

/// Registers and takes the first look around.
async fn enrol<P>(parts: &Parts<P>, draft: MemberDraft, groups: usize) -> Result<(Identity, View), DirectoryError> {
    let role = draft.role;
    let registration = parts.directory.register(draft, groups).await?;
    // Registered once, this process holds the name: giving up here would keep it from ever registering again.
    let mut looks = 0;
    let view = loop {
        match parts.directory.view().await {
            Ok(view) => break view,
            Err(error) if looks == LOOKS_MAX => return Err(error),
            Err(error) => tracing::warn!(%error, "registered, but the directory does not say who is there; asking again"),
        }
        looks += 1;
        tokio::time::sleep(REGISTER_AGAIN).await;
    };
    Ok((Identity { incarnation: registration.incarnation, groups: registration.groups, role }, view))
}

/// The word for a member's state on status pages.
pub fn state_word(state: MemberState) -> &'static str {
    match state {
        MemberState::Accepting => "accepting",
        MemberState::Cordoned => "cordoned",
        MemberState::Draining => "draining",
        MemberState::Fenced => "fenced",
    }
}

#[cfg(test)]
mod tests;
