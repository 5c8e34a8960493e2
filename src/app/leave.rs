//! Serving until something ends it, and leaving in order.
//!
//! | what happens | exit code |
//! |---|---|
//! | told to leave (SIGTERM, SIGINT, SIGQUIT, `/drain`), everything left | that of the instance (0 if the signal ended it), else 0 |
//! | the instance ends by itself | that of the instance; if it is 0 and something could not leave, 1 |
//! | told to leave, and something could not | 1, and it is named, when no handover is under way any more |
//! | the others declared this node dead, during the drain or with sessions before | 1, and it is said, unless all was at rest |
//! | told by a second signal to leave, at any time after the first | 1, at once |
//! | a part of this sidecar breaks off (a panic) | 1, and it is said; what can still leave does |
//!
//! It never goes while others may still be sending it operations (see the farewell in `operations/forward.rs`), and never leaves the
//! directory while operations of its clients are under way to the upstream.

use super::arrivals::no_more_requests;
use super::child::{Instance, code_when_told, redis_url};
use super::probe::watch_instance;
use super::serve::{Over, broken, serve};
use super::signals::{Signals, Told};
use super::{Running, StartError, cannot};
use crate::admin::InstanceState;
use crate::admin::view::{Drained, Final, MoveStatus};
use rustix::process::Signal;
use std::ffi::OsString;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use wayfarer_engine::directory::{Directory, View};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::node::Input;
use wayfarer_engine::residence::Table;

/// Sessions that are named when they could not leave.
const NAMED_MAX: usize = 100_000;
/// So many in one line of the log.
const NAMED_IN_A_LINE: usize = 50;
/// Moves that the last words list.
const LAST_MOVES_MAX: usize = 20_000;
/// How long operations in flight at the state face may take at the end.
const LAST_REPLIES: Duration = Duration::from_secs(6);
/// Between two questions to a directory that does not answer.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long the directory may take to confirm that this node has left.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long what could not leave in time may take to go to rest.
const LAST_REST: Duration = Duration::from_secs(6);
/// Between tries of that.
const REST_AGAIN: Duration = Duration::from_millis(100);
/// Between looks whether handovers have ended.
const MOVES_AGAIN: Duration = Duration::from_millis(10);

pub(super) async fn serve_and_leave(
    mut running: Running,
    signals: Signals,
    mut drain_asked: watch::Receiver<bool>,
    command: Vec<OsString>,
    state: watch::Sender<InstanceState>,
) -> Result<u8, StartError> {
    let mut instance = None;
    if !command.is_empty() {
        let password = running.settings.state.password.as_ref().map(|password| password.expose());
        let redis = running.state_place.as_ref().map(|listens| redis_url(listens, password));
        let started = Instance::start(&command, running.settings.app.address.tcp().map(|address| address.port()), redis);
        instance = Some(started.map_err(cannot("the instance cannot be started"))?);
    }
    let period = Some(running.settings.app.probe_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
    let is_waited_for = *state.borrow() == InstanceState::Starting;
    if running.settings.http.enabled && (is_waited_for || period.is_some()) {
        running.tasks.spawn(watch_instance(running.settings.app.address.clone(), period, state));
    }
    let mut told = Told { signals, by: None };
    let over = serve(&mut told, &mut drain_asked, &mut instance, broken(&mut running)).await;
    let own_code = if let Over::Instance(code) = over { code } else { 0 };
    let drained = told.unless_again(instance.as_ref(), drain(&running)).await;
    let left_behind = running.store.count() as u64;
    let all_left = drained.unwrap_or(false);
    running.admin.drained.send_replace(Some(Drained { all_left, left_behind }));
    if drained.is_none() {
        tracing::error!(sessions = left_behind, "left behind, for this node was told to leave at once");
        return Ok(1);
    }
    let end_by = told.by.unwrap_or(Signal::TERM);
    let code = told.unless_again(None, close(running, instance, end_by, own_code, all_left)).await;
    // How the instance failed is what its supervisor must know; what could not leave has been named.
    Ok(if over != Over::Broken && (all_left || own_code != 0) { code.unwrap_or(1) } else { 1 })
}

/// The faces that clients come through, the instance, and all else; the exit code of the instance.
async fn close(mut running: Running, instance: Option<Instance>, end_by: Signal, mut code: u8, all_left: bool) -> u8 {
    no_more_requests(&running).await;
    running.stop_http.send_replace(true);
    while running.http_tasks.join_next().await.is_some() {}
    if let Some(instance) = instance {
        let patience = Duration::from_millis(running.settings.child.stop_ms_max);
        match instance.stop(end_by, patience).await {
            Ok(done) => code = code_when_told(done, end_by),
            Err(error) => tracing::error!(%error, "the instance could not be ended"),
        }
    }
    finish(running, all_left).await;
    code
}

/// The other members that live, and how many of them take sessions. Read again: whoever has just joined may not be in the view
/// that this node has.
async fn others(running: &Running) -> (usize, usize) {
    let me = running.driver.me();
    let count = |view: &View| (view.others(me).count(), view.accepting().filter(|m| m.incarnation != me).count());
    match running.directory.view().await {
        Ok(view) => count(&view),
        Err(error) => {
            tracing::warn!(%error, "the directory does not say who is there; taking what was seen last");
            count(&running.driver.standing().borrow().view)
        }
    }
}

/// What a drain waits for.
enum Ended {
    /// Everything has left.
    Drained,
    /// Nobody is left who could take anything.
    Alone,
}

/// Others may go during a drain: then there is nobody to wait for. The view here may also be older than others are, so it is the
/// directory that says so.
async fn drained_or_alone(running: &Running) -> Ended {
    let rests = running.settings.rest_upstream().is_some();
    let mut standing = running.driver.standing();
    loop {
        let seen = standing.wait_for(|s| s.drained || (!rests && is_alone(&s.view, s.me))).await;
        // A closed channel means that the driver is gone; what is left is counted.
        let Some((drained, me)) = seen.ok().map(|s| (s.drained, s.me)) else { return Ended::Drained };
        if drained {
            return Ended::Drained;
        }
        match running.directory.view().await {
            Ok(view) if is_alone(&view, me) => return Ended::Alone,
            Ok(_) => drop(standing.wait_for(|s| s.drained || !is_alone(&s.view, s.me)).await),
            Err(error) => {
                tracing::warn!(%error, "the directory does not say whether another member is there; asking again");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// Whether no other member lives.
fn is_alone(view: &View, me: Incarnation) -> bool {
    view.others(me).next().is_none()
}

/// Names the sessions that are still here, by their keyed hashes.
fn name_those_left(running: &Running) {
    let names = running.store.list(NAMED_MAX, |id, _| running.admin.journal.show(id));
    for some in names.chunks(NAMED_IN_A_LINE) {
        tracing::error!(sessions = some.join(" "), "left behind");
    }
    let more = running.store.count().saturating_sub(names.len());
    if more > 0 {
        tracing::error!(more, "and more are left behind");
    }
}

/// Readiness fails, then every session leaves; false if not all did within the budget, or if some had been lost before.
async fn drain(running: &Running) -> bool {
    running.draining.store(true, Ordering::Release);
    for http in &running.http_draining {
        http.begin();
    }
    let lives_before = running.driver.standing().borrow().lives_lost;
    let all_left = give_all_away(running).await;
    let lives_lost = running.driver.standing().borrow().lives_lost.saturating_sub(lives_before);
    let sessions = running.store.lost_with_lives();
    let what = if running.settings.rest_upstream().is_some() { "what the upstream lacked of these" } else { "what it had" };
    if lives_lost > 0 {
        tracing::error!(sessions, "this node was declared dead by the others during the drain: {what} is lost");
    } else if sessions > 0 {
        tracing::error!(sessions, "this node was declared dead by the others before: {what} is lost");
    }
    all_left && lives_lost == 0 && sessions == 0
}

async fn give_all_away(running: &Running) -> bool {
    let budget = Duration::from_millis(running.settings.drain.budget_ms);
    let settle = tokio::time::sleep(Duration::from_millis(running.settings.drain.settle_ms));
    let (alive, accepting) = others(running).await;
    let count = running.store.count();
    tracing::info!(sessions = count, accepting, budget_ms = running.settings.drain.budget_ms, "draining");
    if alive == 0 && running.settings.rest_upstream().is_none() {
        return last_one_leaves(running, settle).await;
    }
    if running.settings.rest_upstream().is_some() && accepting == 0 {
        tracing::info!(sessions = count, "no other member takes sessions: they go to rest in the upstream");
    } else if accepting == 0 && count > 0 {
        tracing::warn!(members = alive, "no other member takes sessions now (cordoned or draining); waiting for one");
    }
    if running.driver.tell(Input::Drain).await.is_err() {
        return false;
    }
    let mut settle = std::pin::pin!(settle);
    let (ended, ()) = tokio::join!(tokio::time::timeout(budget, drained_or_alone(running)), settle.as_mut());
    match ended {
        Err(_) => over_budget(running).await,
        Ok(Ended::Drained) => running.store.count() == 0,
        Ok(Ended::Alone) => last_one_leaves(running, settle).await,
    }
}

/// The budget is over: what can still go to rest does, nothing more is offered to anybody, and when no handover is under way any
/// more the rest is named: it stays. True if nothing is left and nothing is lost.
async fn over_budget(running: &Running) -> bool {
    let rests = running.settings.rest_upstream().is_some();
    if rests && running.store.count() > 0 {
        let ids = running.store.ids();
        tracing::warn!(sessions = ids.len(), "these could not leave within the budget ([drain] budget_ms) and go to rest");
        let all = async {
            // Those on their way to another member cannot go to rest before that has ended.
            while running.store.count() > 0 {
                if let Ok((done, failed)) = running.driver.check_in(running.store.ids()).await {
                    tracing::info!(done, not_yet = failed, "went to rest; others leave for a member, or are tried again");
                }
                tokio::time::sleep(REST_AGAIN).await;
            }
        };
        if tokio::time::timeout(LAST_REST, all).await.is_err() {
            tracing::warn!("not all could go to rest in time");
        }
    }
    let residuals = nothing_moves(running).await;
    let left = running.store.count();
    if left > 0 && rests {
        let unwritten = running.store.count_unwritten();
        tracing::error!(sessions = left, unwritten, "these stay behind: what the upstream lacks of the unwritten ones is lost");
        name_those_left(running);
    } else if left > 0 {
        tracing::error!(sessions = left, "these could not leave within the budget ([drain] budget_ms) and are lost");
        name_those_left(running);
    }
    if residuals > 0 {
        tracing::error!(
            handovers = residuals,
            "sessions that have left were not fetched whole within the budget ([drain] budget_ms): variables of them are lost"
        );
    }
    left == 0 && residuals == 0
}

/// Offers no session to anybody any more, and waits until each handover under way has ended: as long as those may take by
/// themselves, and no longer. How many residuals are still kept for others then.
async fn nothing_moves(running: &Running) -> usize {
    let limits = &running.settings.handover;
    // The proposal, the pre-copy, the stage, the news of the commit, and a fence where that did not come.
    let longest_ms = 2 * limits.propose_ms_max + limits.stage_ms_max + 3 * limits.commit_ms_max;
    let mut residuals = 0;
    let all = async {
        if running.driver.tell(Input::DrainOver).await.is_err() {
            return;
        }
        while let Ok(status) = running.driver.status().await {
            residuals = status.residuals;
            // What has just left may still be on its way to be fetched.
            if status.handovers_out == 0 && status.handovers_in == 0 && residuals == 0 {
                return;
            }
            tokio::time::sleep(MOVES_AGAIN).await;
        }
    };
    if tokio::time::timeout(Duration::from_millis(longest_ms), all).await.is_err() {
        let moving = running.driver.status().await.map_or(0, |s| s.handovers_out + s.handovers_in);
        if moving > 0 {
            tracing::error!(handovers = moving, "it is not known of these whether their sessions have left");
        }
    }
    residuals
}

/// There is nobody to take sessions: none is born any more, and those that are here are lost.
async fn last_one_leaves(running: &Running, settle: impl Future<Output = ()>) -> bool {
    running.operations.leave();
    // A member that joins in these last moments is given what there is, and whoever looks sees why this one takes nothing.
    if running.driver.tell(Input::Drain).await.is_err() {
        return false;
    }
    settle.await;
    let count = running.store.count();
    if count > 0 {
        tracing::error!(
            sessions = count,
            "THE LAST MEMBER LEAVES: its sessions are lost, for there is no other member, and they are not at rest in an upstream ([rest] enabled)"
        );
        name_those_left(running);
    }
    count == 0
}

/// Tells the other members to forward nothing to here any more, answers what they have forwarded, and sees to it that the answers
/// have arrived: a connection that ends with an operation under way would leave its client without knowing whether it ran.
async fn say_farewell(running: &Running) {
    running.operations.leave();
    let me = running.driver.me();
    let view = running.driver.standing().borrow().view.clone();
    let others: Vec<_> = view.others(me).map(|m| m.incarnation).collect();
    let unheard = running.operations.forwards().say_farewell(&others).await;
    if tokio::time::timeout(LAST_REPLIES, running.operations.foreign_ended()).await.is_err() {
        tracing::warn!("operations of other nodes were cut off");
    }
    // Those who answer this have all answers before it.
    let unheard = unheard.max(running.operations.forwards().say_farewell(&others).await);
    if unheard > 0 {
        tracing::info!(members = unheard, "some members have not heard that this one leaves");
    }
}

/// Whoever has left is not asked any more whether something of it is under way to the upstream, so it leaves without. False: it stays
/// in the directory until its death is proved.
async fn nothing_passes(running: &Running) -> bool {
    let passage = running.operations.passage();
    passage.close();
    let none_passes = tokio::time::timeout(LAST_REPLIES, passage.ended()).await.is_ok();
    if !none_passes {
        tracing::warn!("the upstream has not answered all operations; the directory keeps this node until its death is proved");
    }
    none_passes
}

/// The last words, the end of all tasks, and the departure from the directory.
async fn finish(mut running: Running, all_left: bool) {
    let status = running.admin.status().await;
    // Before the others see this node gone: operations in flight, also those that run at other nodes, are still answered.
    running.stop_state.send_replace(true);
    let finished = async { while running.state_tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_REPLIES, finished).await.is_err() {
        tracing::warn!("clients of the state face were cut off with operations in flight");
    }
    say_farewell(&running).await;
    if running.store.count() == 0 && !all_left {
        tracing::warn!(
            "in the end nothing is left behind; the drain ends with 1, for it took longer than its budget or lost something"
        );
    }
    let none_passes = nothing_passes(&running).await;
    if all_left && none_passes && running.driver.tell(Input::Leave).await.is_ok() {
        let me = running.driver.me();
        let mut standing = running.driver.standing();
        let gone = standing.wait_for(|s| !s.view.members.contains_key(&me));
        if !matches!(tokio::time::timeout(LAST_WORDS, gone).await, Ok(Ok(_))) {
            tracing::warn!("the directory did not confirm that this node has left; its lease will end");
        }
    }
    if let Some(status) = status {
        let (moves, _) = running.admin.journal.moves_after(0, LAST_MOVES_MAX);
        let moves = moves.into_iter().map(MoveStatus::from).collect();
        match serde_json::to_string(&Final { status, moves }) {
            // Who reads it may be gone; everything has left all the same.
            Ok(line) => drop(writeln!(std::io::stdout(), "final {line}")),
            Err(error) => tracing::error!(%error, "the last status cannot be written"),
        }
    }
    running.stop_all.send_replace(true);
    let all = async { while running.tasks.join_next().await.is_some() {} };
    // Not all of them end by themselves.
    drop(tokio::time::timeout(Duration::from_millis(200), all).await);
    running.tasks.shutdown().await;
    running.directory.release();
}
