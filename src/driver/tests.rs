//! The driver over a directory in memory: fences, broken requests, messages that no frame holds.
//!
//! It never waits a fixed time for anything to happen: each wait is for a state, with a deadline.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use std::sync::{Mutex, PoisonError};
use wayfarer_engine::directory::{
    Answer, GroupRecord, Location, MemberRecord, NextEpoch, Outcome, Placement, Registration, Transaction, Watcher, Write,
};
use wayfarer_engine::ids::{Epoch, GroupId, IdKey, SessionId};
use wayfarer_engine::lease::LeaseTimes;
use wayfarer_engine::node::message::Proposer;
use wayfarer_engine::node::{Purpose, Reason};
use wayfarer_engine::plan::Policy;
use wayfarer_engine::residence::{AdoptionRule, Gate, Resident, Table};
use wayfarer_engine::session::Session;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Records {
    last: u64,
    view: View,
    locations: HashMap<SessionId, Location>,
    /// Every state that was published, in order.
    states: watch::Sender<Vec<(Incarnation, MemberState)>>,
    watcher: Option<Watcher>,
}

/// Applies everything at once and refuses only the renewals of the fenced.
#[derive(Default)]
struct Memory {
    records: Mutex<Records>,
    reads_panic: bool,
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enlist(&self, draft: MemberDraft) -> Registration {
        let mut records = self.lock();
        records.last += 1;
        let (epoch, group) = (Epoch(records.last), GroupId(records.last));
        let incarnation = Incarnation(epoch);
        let record = MemberRecord { incarnation, draft, state: MemberState::Accepting, renewals: 0, confirmed: 0 };
        records.view.members.insert(incarnation, record);
        records.view.groups.insert(group, GroupRecord { group, owner: Some(incarnation), epoch });
        Registration { incarnation, groups: vec![(group, epoch)] }
    }

    fn show(&self) {
        let records = self.lock();
        if let Some(watcher) = &records.watcher {
            watcher(records.view.clone());
        }
    }

    fn fence(&self, who: Incarnation) {
        let mut records = self.lock();
        records.view.members.get_mut(&who).unwrap().state = MemberState::Fenced;
        records.view.groups.values_mut().filter(|g| g.owner == Some(who)).for_each(|g| g.owner = None);
        drop(records);
        self.show();
    }
}

impl Directory for Memory {
    fn register(&self, draft: MemberDraft, _groups: usize) -> Answer<'_, Registration> {
        let registration = self.enlist(draft);
        Box::pin(async move { Ok(registration) })
    }

    fn transact(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        let mut records = self.lock();
        records.last += 1;
        let fresh = Epoch(records.last);
        for write in transaction.write {
            match write {
                Write::State { incarnation, state } => {
                    records.states.send_modify(|states| states.push((incarnation, state)));
                    records.view.members.get_mut(&incarnation).unwrap().state = state;
                }
                Write::Place { session, group, epoch, last, depends } => {
                    let epoch = if let NextEpoch::Keep(epoch) = epoch { epoch } else { fresh };
                    records.locations.insert(session, Location { group, epoch, last, depends });
                }
                _ => {}
            }
        }
        Box::pin(async move { Ok(Outcome::Applied { epoch: fresh }) })
    }

    fn read(&self, session: SessionId) -> Answer<'_, Placement> {
        let records = self.lock();
        let location = records.locations.get(&session).cloned();
        let group = location.as_ref().and_then(|l| records.view.groups.get(&l.group)).copied();
        let panics = self.reads_panic;
        Box::pin(async move {
            assert!(!panics, "a deliberate panic of a read");
            Ok(Placement { location, group, ..Placement::default() })
        })
    }

    fn view(&self) -> Answer<'_, View> {
        let view = self.lock().view.clone();
        Box::pin(async move { Ok(view) })
    }

    fn watch(&self, watcher: Watcher) {
        self.lock().watcher = Some(watcher);
        self.show();
    }

    fn is_proven_dead(&self, _: Incarnation) -> Answer<'_, bool> {
        Box::pin(async { Ok(false) })
    }
}

/// Sends nothing: each message is refused.
struct NoPost;

impl Post for NoPost {
    fn send(&self, _: Incarnation, _: Message) -> bool {
        false
    }
    fn members(&self, _: &View) {}
    fn reborn(&self, _: Incarnation) {}
}

fn draft(name: &str) -> MemberDraft {
    MemberDraft { name: name.into(), ..MemberDraft::default() }
}

struct Stage {
    handle: Handle,
    directory: Arc<Memory>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    /// Ends with the test.
    _running: JoinSet<()>,
}

async fn stage(directory: Memory) -> Stage {
    let directory = Arc::new(directory);
    let rule = AdoptionRule { arrivals: 3, gap_us: 0, residence_us_min: 0 };
    let store = Arc::new(Store::new(rule));
    let journal = Arc::new(Journal::new(IdKey([0; 16])));
    let settings = NodeSettings {
        lease: LeaseTimes { length_us: 60_000_000, margin_us: 1_000_000, lost_after_us: None },
        policy: Arc::new(Policy::default()),
        carried_bytes_max: 1 << 20,
        pause_bytes_max: 1 << 20,
        at_once_max: 4,
        // An unanswered proposal would outlast the test.
        propose_us_max: 600_000_000,
        stage_us_max: 600_000_000,
        retry_us: 10_000,
        fetch_us_max: 100_000,
        stream_bytes_max: 1 << 20,
        trickle_bytes_per_s: 0,
        drain_residuals: true,
        residual_bytes_max: 1 << 30,
        sweep_us: 1_000_000,
        mode_us_max: 1_000_000,
        waiting_max: 64,
        frame_bytes_max: 1 << 20,
        rest: None,
    };
    let parts = Parts {
        directory: directory.clone(),
        store: store.clone(),
        parked: Arc::new(Parked::default()),
        post: Arc::new(NoPost),
        settings,
        directory_ms_max: 10_000,
        journal: journal.clone(),
        rest: None,
        passage: Arc::default(),
    };
    let (driver, handle) = Driver::register(parts, draft("a"), 1).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(driver.run());
    let stage = Stage { handle, directory, store, journal, _running: running };
    stage.until("it has a lease", |s| s.ready).await;
    stage
}

impl Stage {
    async fn until(&self, what: &str, mut holds: impl FnMut(&Standing) -> bool) -> Standing {
        let mut standing = self.handle.standing();
        let found = tokio::time::timeout(DEADLINE, standing.wait_for(|s| holds(s))).await;
        found.unwrap_or_else(|_| panic!("never: {what}")).unwrap().clone()
    }

    async fn until_published(&self, who: Incarnation, state: MemberState) {
        let mut states = self.directory.lock().states.subscribe();
        let published = tokio::time::timeout(DEADLINE, states.wait_for(|states| states.contains(&(who, state)))).await;
        drop(published.unwrap_or_else(|_| panic!("never published: {state:?}")).unwrap());
    }

    async fn fenced(&self) -> Standing {
        let before = self.handle.me();
        self.directory.fence(before);
        self.until("a new life", |s| s.me != before && s.ready).await
    }
}

#[tokio::test]
async fn a_cordoned_node_that_was_fenced_is_cordoned_in_its_new_life() {
    let stage = stage(Memory::default()).await;
    stage.handle.tell(Input::Cordon(true)).await.unwrap();
    stage.until_published(stage.handle.me(), MemberState::Cordoned).await;
    let standing = stage.fenced().await;
    stage.until_published(standing.me, MemberState::Cordoned).await;
    assert_eq!(stage.handle.status().await.unwrap().state, MemberState::Cordoned);
    stage.handle.tell(Input::Cordon(false)).await.unwrap();
    stage.fenced().await;
    assert_eq!(stage.handle.status().await.unwrap().state, MemberState::Accepting, "the last wish counts");
}

#[tokio::test]
async fn a_drain_that_was_cut_by_a_fence_goes_on_and_tells_that_a_life_was_lost() {
    let stage = stage(Memory::default()).await;
    let id = SessionId::copy_of(b"1");
    let location = Location { group: GroupId(1), epoch: Epoch(1), last: None, depends: Vec::new() };
    let mut session = Session::default();
    session.write_field(b"sess:1", b"f", bytes::Bytes::from_static(b"v"), 0);
    stage.store.with(&id, |slot| *slot = Some(Resident::new(session, location, 0)));
    stage.handle.tell(Input::Drain).await.unwrap();
    stage.until_published(stage.handle.me(), MemberState::Draining).await;
    assert!(!stage.handle.standing().borrow().drained);
    let standing = stage.fenced().await;
    assert_eq!(standing.lives_lost, 1);
    stage.until_published(standing.me, MemberState::Draining).await;
    stage.until("the new life has nothing to give", |s| s.drained).await;
    assert_eq!(stage.fenced().await.lives_lost, 1, "all had left by then");
}

#[tokio::test]
async fn a_request_that_panics_leaves_nobody_waiting() {
    let stage = stage(Memory { reads_panic: true, ..Memory::default() }).await;
    let answer = tokio::time::timeout(DEADLINE, stage.handle.locate(SessionId::copy_of(b"1"), Purpose::Read)).await;
    assert_eq!(answer.unwrap().unwrap(), Verdict::TryAgain(Reason::Directory));
}

#[tokio::test]
async fn a_proposal_that_cannot_be_sent_is_cancelled_at_once() {
    let stage = stage(Memory::default()).await;
    let other = stage.directory.enlist(draft("b")).incarnation;
    stage.directory.show();
    stage.until("the other member is seen", |s| s.view.members.contains_key(&other)).await;
    let id = SessionId::copy_of(b"1");
    assert_eq!(stage.handle.locate(id.clone(), Purpose::Create).await.unwrap(), Verdict::Here);
    stage.store.with(&id, |slot| {
        slot.as_mut().unwrap().session.write_field(b"sess:1", b"f", bytes::Bytes::from_static(b"v"), 0);
    });
    stage.handle.tell(Input::Move { session: id.clone(), to: other, proposer: Proposer::Router }).await.unwrap();
    assert_eq!(stage.handle.status().await.unwrap().handovers_out, 0, "it would wait for its answer for ten minutes");
    let totals = &stage.journal.totals;
    let counts = [&totals.unsendable, &totals.aborted].map(|n| n.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(counts, [1, 1]);
    assert_eq!(stage.store.with(&id, |slot| slot.as_ref().map(|r| r.gate)), Some(Gate::Open));
}

#[tokio::test]
async fn a_fence_leaves_no_frozen_handover_in_the_journal() {
    let journal = Journal::new(IdKey([0; 16]));
    let handover = wayfarer_engine::ids::HandoverId::LEAST;
    let id = SessionId::copy_of(b"1");
    journal.note(wayfarer_engine::node::Note::Froze(handover, id.clone()));
    journal.forget_frozen();
    journal.note(wayfarer_engine::node::Note::Left(handover, id));
    assert_eq!(journal.moves_after(0, 10), (Vec::new(), 0), "it is not known when it froze");
}
