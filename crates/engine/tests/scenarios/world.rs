//! The world of a scenario: nodes, their tables, letters under way, requests to the directory, and one session.
//!
//! It never does anything that the script does not say, but renewals of leases (unless `renew_by_hand`). A letter is delivered by
//! [`World::deliver`] or held back by [`World::take`]. Requests are in `requests`, clients in `clients`.
//!
//! Invariant, checked after each step: *one owner*: at most one node would answer for the session, and it is the one that the
//! directory names, under the epoch of the record.

use crate::book::Book;
use crate::requests::{Ask, Request, Requests};
use crate::upstream::{Question, Upstream};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use wayfarer_engine::directory::{Location, Role};
use wayfarer_engine::ids::{HandoverId, Incarnation, Now, RequestId, SessionId, Ticket};
use wayfarer_engine::lease::LeaseTimes;
use wayfarer_engine::node::message::{Message, Proposer};
use wayfarer_engine::node::{Effect, Identity, Input, Node, NodeSettings, Note, Verdict};
use wayfarer_engine::plan::{Impact, OnLost, Policy, Rule, Treatment};
use wayfarer_engine::residence::{Resident, Table};
use wayfarer_engine::rest::change::Swap;
use wayfarer_engine::session::Class;

pub const PROPOSE_US: u64 = 20_000;
/// Longer than a target waits for its stage, so that either side can be the first to give up.
pub const STAGE_US: u64 = 200_000;
pub const RETRY_US: u64 = 30_000;
pub const FETCH_US: u64 = 100_000;
pub const SWEEP_US: u64 = 60_000_000;
pub const LEASE: LeaseTimes = LeaseTimes { length_us: 2_000_000, margin_us: 200_000, lost_after_us: None };
/// Time passes in steps of so long.
const TICK_US: u64 = 5_000;

/// A message under way.
pub struct Letter {
    pub from: Incarnation,
    pub to: Incarnation,
    pub message: Message,
}

/// The table of a node.
#[derive(Default)]
pub struct Sessions {
    slots: RefCell<BTreeMap<SessionId, Option<Resident>>>,
    /// How often somebody has looked at all of them.
    pub looks: Cell<usize>,
    /// Those of which something is unwritten, as the node has not heard yet.
    pub unwritten: RefCell<Vec<SessionId>>,
}

impl Table for Sessions {
    fn with<R>(&self, id: &SessionId, f: impl FnOnce(&mut Option<Resident>) -> R) -> R {
        let mut slots = self.slots.borrow_mut();
        let result = f(slots.entry(id.clone()).or_default());
        slots.retain(|_, slot| slot.is_some());
        result
    }

    fn ids(&self) -> Vec<SessionId> {
        self.looks.set(self.looks.get() + 1);
        self.slots.borrow().keys().cloned().collect()
    }

    fn count(&self) -> usize {
        self.slots.borrow().len()
    }

    fn take_unwritten(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.unwritten.borrow_mut())
    }
}

/// One life of a node.
pub struct Life {
    pub node: Node,
    pub table: Sessions,
    pub lease_until_us: u64,
    pub notes: Vec<Note>,
    /// How often operations on the session were told to try again.
    pub wakes: usize,
    pub fenced: bool,
    pub drained: bool,
    /// Probes that it has asked for.
    pub probes: usize,
}

/// See the head of this file.
pub struct World {
    pub now: Now,
    pub book: Book,
    pub upstream: Upstream,
    /// The session that all is about.
    pub session: SessionId,
    pub renew_by_hand: bool,
    pub settings: NodeSettings,
    lives: BTreeMap<Incarnation, Life>,
    post: Vec<Letter>,
    pub requests: Requests,
    pub verdicts: BTreeMap<Ticket, Verdict>,
    pub last_ticket: u64,
    /// Stores of two sessions in one step that were sent and not answered, in order.
    pub swaps: Vec<(Incarnation, RequestId, Swap)>,
}

/// A variable's class is the beginning of its name.
pub fn settings() -> NodeSettings {
    let treatment = |class| Treatment { class, impact: Impact::High, on_lost: OnLost::Error };
    let rule = |pattern: &str, class| Rule { pattern: pattern.into(), treatment: treatment(class) };
    let rules = vec![
        rule("carried*", Class::Carried),
        rule("streamed*", Class::Streamed),
        rule("deferred*", Class::Deferred),
        rule("dropped*", Class::Dropped),
    ];
    NodeSettings {
        lease: LEASE,
        policy: Arc::new(Policy { rules, default: treatment(Class::Carried) }),
        carried_bytes_max: 1 << 20,
        pause_bytes_max: 1 << 20,
        at_once_max: 4,
        propose_us_max: PROPOSE_US,
        stage_us_max: STAGE_US,
        retry_us: RETRY_US,
        fetch_us_max: FETCH_US,
        stream_bytes_max: 1 << 20,
        trickle_bytes_per_s: 0,
        drain_residuals: true,
        residual_bytes_max: 1 << 30,
        sweep_us: SWEEP_US,
        mode_us_max: 1_000_000,
        frame_bytes_max: 1 << 20,
        waiting_max: 8,
        rest: None,
    }
}

impl World {
    /// So many members that know one another and hold their leases.
    pub fn start<const N: usize>() -> (World, [Incarnation; N]) {
        World::start_with(settings())
    }

    pub fn start_with<const N: usize>(settings: NodeSettings) -> (World, [Incarnation; N]) {
        let mut world = World {
            now: Now { boot_us: 10_000_000, unix_ms: 1_000_000 },
            book: Book::default(),
            upstream: Upstream::default(),
            session: SessionId::copy_of(b"1"),
            renew_by_hand: false,
            settings,
            lives: BTreeMap::new(),
            post: Vec::new(),
            requests: Requests::default(),
            verdicts: BTreeMap::new(),
            last_ticket: 0,
            swaps: Vec::new(),
        };
        let all = std::array::from_fn(|n| world.join(format!("n{n}")));
        world.show_all();
        world.pass(TICK_US);
        (world, all)
    }

    fn join(&mut self, name: String) -> Incarnation {
        let registration = self.book.register(name);
        let me = registration.incarnation;
        let identity = Identity { incarnation: me, groups: registration.groups, role: Role::Owner };
        let node = Node::new(identity, self.settings.clone(), self.book.view.clone(), self.now);
        let table = Sessions::default();
        self.lives.insert(
            me,
            Life { node, table, lease_until_us: 0, notes: Vec::new(), wakes: 0, fenced: false, drained: false, probes: 0 },
        );
        me
    }

    pub fn life(&self, who: Incarnation) -> &Life {
        &self.lives[&who]
    }

    /// The process is gone; what it has sent is still under way.
    pub fn kill(&mut self, who: Incarnation) {
        self.lives.remove(&who).unwrap();
    }

    /// Time passes, and all nodes tick.
    pub fn pass(&mut self, us: u64) {
        let until = self.now.boot_us + us;
        while self.now.boot_us < until {
            self.wait(TICK_US.min(until - self.now.boot_us));
            for who in self.lives.keys().copied().collect::<Vec<_>>() {
                self.feed(who, Input::Tick);
            }
        }
    }

    /// Time passes, and no node notices.
    pub fn wait(&mut self, us: u64) {
        self.now = Now { boot_us: self.now.boot_us + us, unix_ms: self.now.unix_ms + us / 1000 };
        self.judge();
    }

    /// The watch shows a node the members and groups.
    pub fn show(&mut self, who: Incarnation) {
        let view = self.book.view.clone();
        self.feed(who, Input::View(view));
    }

    pub fn show_all(&mut self) {
        self.lives.keys().copied().collect::<Vec<_>>().into_iter().for_each(|who| self.show(who));
    }

    /// Gives an input to a node and takes note of its effects.
    pub fn feed(&mut self, who: Incarnation, input: Input) {
        let Some(life) = self.lives.get_mut(&who) else { return };
        let mut effects = Vec::new();
        life.node.handle(self.now, input, &life.table, &mut effects);
        for effect in effects {
            self.perform(who, effect);
        }
        self.judge();
    }

    fn perform(&mut self, who: Incarnation, effect: Effect) {
        let life = self.lives.get_mut(&who).unwrap();
        match effect {
            Effect::Send { to, message } => self.post.push(Letter { from: who, to, message }),
            Effect::Transact { request, transaction } => self.ask_transaction((who, request), transaction),
            Effect::Read { request, session } => self.ask_read((who, request), session),
            Effect::Answer { ticket, verdict } => {
                assert_eq!(self.verdicts.insert(ticket, verdict), None, "a second verdict for one operation");
            }
            Effect::Wake(_) => life.wakes += 1,
            Effect::LeaseUntil(us) => life.lease_until_us = us,
            Effect::Fenced => life.fenced = true,
            Effect::Drained => life.drained = true,
            Effect::Note(note) => life.notes.push(note),
            Effect::Probe(_) => life.probes += 1,
            Effect::Gave { .. } => {}
            Effect::Look { request, session } => self.ask_upstream((who, request), Question::Look(session)),
            Effect::Load { request, session, epoch, .. } => self.ask_upstream((who, request), Question::Load(session, epoch)),
            Effect::Store { request, session, batch } => self.ask_upstream((who, request), Question::Store(session, batch)),
            Effect::StoreBoth { request, swap } => self.swaps.push((who, request, *swap)),
            Effect::CheckedIn { .. } | Effect::Expired(_) | Effect::Route(_) => {}
        }
    }

    /// Who would answer an operation on the session now.
    pub fn answerers(&self) -> Vec<Incarnation> {
        let now_us = self.now.boot_us;
        let open = |life: &Life| life.table.with(&self.session, |slot| slot.as_ref().is_some_and(Resident::is_open));
        self.lives.iter().filter(|(_, l)| now_us < l.lease_until_us && open(l)).map(|(who, _)| *who).collect()
    }

    /// Checks the invariant above.
    pub fn judge(&self) {
        let answerers = self.answerers();
        assert!(answerers.len() <= 1, "two nodes would answer");
        for who in answerers {
            let placement = self.book.read(&self.session);
            assert_eq!(placement.owner(), Some(who), "a node would answer that is not the owner");
            let epoch = self.lives[&who].table.with(&self.session, |slot| slot.as_ref().map(|r| r.location.epoch));
            assert_eq!(placement.location.map(|l| l.epoch), epoch, "the owner answers under another epoch");
        }
    }

    /// The record of the session.
    pub fn record(&self) -> Location {
        self.book.read(&self.session).location.expect("a record")
    }

    pub fn owner(&self) -> Option<Incarnation> {
        self.book.read(&self.session).owner()
    }

    pub fn propose(&mut self, from: Incarnation, to: Incarnation) {
        self.feed(from, Input::Move { session: self.session.clone(), to, proposer: Proposer::Origin });
    }

    /// Goes on until the origin has frozen the session.
    pub fn freeze(&mut self, from: Incarnation, to: Incarnation) {
        self.propose(from, to);
        self.deliver(from, to, "Propose");
        self.deliver(to, from, "Accept");
        if self.has_letter(from, to, "PreCopy") {
            self.deliver(from, to, "PreCopy");
            self.deliver(to, from, "PreCopied");
        }
    }

    /// Goes on until the target has sent its commit.
    pub fn stage(&mut self, from: Incarnation, to: Incarnation) -> Request {
        self.freeze(from, to);
        self.deliver(from, to, "Stage");
        assert!(self.answerers().is_empty());
        self.asked(to, Ask::Commit)
    }

    /// A whole handover up to its finish.
    pub fn hand_over(&mut self, from: Incarnation, to: Incarnation) -> HandoverId {
        let commit = self.stage(from, to);
        self.answer(commit);
        self.deliver(to, from, "Committed");
        assert_eq!(self.answerers(), [to]);
        self.record().last.unwrap()
    }

    /// The oldest letter of this kind, taken out of the post.
    pub fn take(&mut self, from: Incarnation, to: Incarnation, kind: &str) -> Letter {
        let at = self.post.iter().position(|l| l.from == from && l.to == to && name(&l.message) == kind);
        let under_way: Vec<_> = self.post.iter().map(|l| (l.from, l.to, name(&l.message))).collect();
        self.post.remove(at.unwrap_or_else(|| panic!("no {kind} from {from:?} to {to:?} under way: {under_way:?}")))
    }

    pub fn hand(&mut self, letter: Letter) {
        self.feed(letter.to, Input::Message { from: letter.from, message: letter.message });
    }

    pub fn deliver(&mut self, from: Incarnation, to: Incarnation, kind: &str) {
        let letter = self.take(from, to, kind);
        self.hand(letter);
    }

    pub fn has_letter(&self, from: Incarnation, to: Incarnation, kind: &str) -> bool {
        self.post.iter().any(|l| l.from == from && l.to == to && name(&l.message) == kind)
    }

    /// How many letters are under way.
    pub fn letters(&self) -> usize {
        self.post.len()
    }
}

/// The name of a message.
pub fn name(message: &Message) -> &'static str {
    match message {
        Message::Propose { .. } => "Propose",
        Message::Accept { .. } => "Accept",
        Message::Reject { .. } => "Reject",
        Message::PreCopy { .. } => "PreCopy",
        Message::PreCopied { .. } => "PreCopied",
        Message::Stage { .. } => "Stage",
        Message::Committed { .. } => "Committed",
        Message::Promised { .. } => "Promised",
        Message::Abort { .. } => "Abort",
        Message::Fetch { .. } => "Fetch",
        Message::Fetched { .. } => "Fetched",
        Message::Confirm { .. } => "Confirm",
        Message::Arrival { .. } => "Arrival",
    }
}
