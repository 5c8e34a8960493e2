//! One run: two nodes, users at work, a third node and a rebalance, the drain of the first, a read back of every session.
//!
//! It judges nothing; the users and the report do. Called by the demonstration, once with the plan of the demo and once with the
//! plan for reference.
//!
//! ```text
//! start a, b │ login │ before: 25 % │ during: start c, rebalance, at 50 % drain a … a has ended │ after: to 100 % │ read back
//! ```
//! The run for reference has no `after`. Invariant: whatever ends a run (an error, a signal, a panic) ends its nodes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::balancer::Balancer;
use crate::display::{Display, Screen};
use crate::random::Draws;
use crate::stage::admin::AdminClient;
use crate::stage::board::Board;
use crate::stage::config::{Addresses, MovePlan, NodeConfig};
use crate::stage::machine::{Shares, Ticks};
use crate::stage::moves::{MoveFigures, figures};
use crate::stage::node::Node;
use crate::users::ledger::{Ledger, Phase};
use crate::users::{Crowd, Users};
use crate::world::Clock;

const POLL_US: i64 = 50_000;
const READY_DEADLINE_US: i64 = 10_000_000;
/// A drain that takes longer than its budget (30 s) by this much has failed.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// Between the last login and the phase `before`, so that it holds no login.
const SETTLE_US: i64 = 500_000;

/// What a run is.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// Length from `before` to the end of `after`, in seconds.
    pub seconds: f64,
    /// The users.
    pub crowd: Crowd,
    /// What moves with a session.
    pub moves: MovePlan,
    /// Whether there is a phase `after`.
    pub with_after: bool,
    /// The `wayfarer` binary.
    pub binary: PathBuf,
    /// How to show it.
    pub screen: Screen,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the users found.
    pub ledger: Arc<Ledger>,
    /// Moves and pauses.
    pub moves: MoveFigures,
    /// Bytes that crossed between nodes before sessions answered at their new place.
    pub bytes_eager: u64,
    /// Bytes that crossed after that.
    pub bytes_late: u64,
    /// Variables that came after their session.
    pub fetched_late: u64,
    /// Those of them that somebody read before they had come.
    pub fetched_on_access: u64,
    /// From the start of `before` to the end of the last phase, in seconds.
    pub seconds: f64,
    /// Who had the machine meanwhile, if the kernel says so.
    pub machine: Option<Shares>,
    /// What was wrong besides the users' findings.
    pub problems: Vec<String>,
}

/// What a run has found so far, for whoever wants to know when it does not come to its end.
#[derive(Debug, Default)]
pub struct SoFar(Mutex<Option<Seen>>);

/// The books that the users and the watch of the nodes write.
#[derive(Debug, Clone)]
struct Seen {
    ledger: Arc<Ledger>,
    board: Arc<Board>,
    clock: Clock,
    key: Vec<u8>,
    /// The start of `before`, once it has come.
    begin_us: Option<i64>,
}

impl SoFar {
    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured until now, and in which phase that is; nothing, if the run has not begun.
    pub fn outcome(&self) -> Option<(Outcome, Phase)> {
        let seen = self.lock().clone()?;
        let phase = seen.ledger.counts().phase;
        Some((seen.outcome(), phase))
    }
}

impl Seen {
    /// Sums up what the users found and the nodes said.
    fn outcome(&self) -> Outcome {
        let views = self.board.views().clone();
        let moves = {
            let counts = self.ledger.counts();
            let sides = views.values().flat_map(|view| &view.moves);
            figures(sides, &counts.records, &counts.sessions, &self.key, &self.clock)
        };
        let sum = |of: fn(&crate::stage::admin::Status) -> u64| views.values().map(|view| of(&view.status)).sum();
        let dropped: u64 = views.values().map(|view| view.moves_dropped).sum();
        Outcome {
            ledger: Arc::clone(&self.ledger),
            moves,
            bytes_eager: sum(|status| status.bytes.eager),
            bytes_late: sum(|status| status.bytes.late),
            fetched_late: sum(|status| status.variables_fetched_late),
            fetched_on_access: sum(|status| status.variables_fetched_on_access),
            seconds: self.begin_us.map_or(0.0, |begin_us| self.clock.now_us().saturating_sub(begin_us) as f64 / 1e6),
            machine: None,
            problems: if dropped > 0 { vec![format!("{dropped} moves were too many to keep")] } else { Vec::new() },
        }
    }
}

/// The pieces of a running stage.
struct Stage<'a> {
    plan: &'a RunPlan,
    folder: &'a Path,
    id_key: String,
    ports: BTreeSet<u16>,
    admin: AdminClient,
    board: Arc<Board>,
    balancer: Balancer,
    nodes: Vec<Node>,
    clock: Clock,
    display: Arc<Display>,
    problems: Vec<String>,
}

/// Plays `plan` in `folder`. The error says why the run could not be played to its end; what it found until then is in `so_far`.
pub async fn play(plan: &RunPlan, folder: &Path, so_far: &SoFar) -> Result<Outcome, String> {
    let (clock, ticks) = (Clock::start(), Ticks::now());
    // Synthetic sessions on loopback: a key from the seed shows the same ids whenever the seed is run again.
    let mut draws = Draws::new(plan.crowd.seed, &[0x1D]);
    let key: Vec<u8> = [draws.next_u64(), draws.next_u64()].iter().flat_map(|word| word.to_be_bytes()).collect();
    let id_key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let balancer = Balancer::start().await.map_err(|error| format!("no balancer: {error}"))?;
    let (admin, board, ledger) = (AdminClient::default(), Arc::new(Board::default()), Arc::new(Ledger::default()));
    let mut seen = Seen { ledger: Arc::clone(&ledger), board: Arc::clone(&board), clock, key, begin_us: None };
    so_far.lock().replace(seen.clone());
    let (ports, nodes, problems) = (BTreeSet::new(), Vec::new(), Vec::new());
    let display = Arc::new(Display::new(plan.screen));
    let mut stage = Stage { plan, folder, id_key, ports, admin, board, balancer, nodes, clock, display, problems };
    stage.add_node("a").await?;
    stage.add_node("b").await?;
    let _watch = stage.board.watch(stage.admin.clone());
    let shown = stage.display.follow(Arc::clone(&ledger), Arc::clone(&stage.board), clock);

    let users = Users::start(plan.crowd, stage.balancer.address, clock, Arc::clone(&ledger));
    stage.hold_until(users.logged_in_us.saturating_add(SETTLE_US)).await?;
    let begin_us = clock.now_us();
    seen.begin_us = Some(begin_us);
    so_far.lock().replace(seen.clone());
    let at = |part: f64| begin_us.saturating_add((plan.seconds * part * 1e6) as i64);
    ledger.enter(Phase::Before);
    stage.hold_until(at(0.25)).await?;
    ledger.enter(Phase::During);
    stage.grow().await?;
    stage.hold_until(at(0.5)).await?;
    stage.shrink().await?;
    if plan.with_after {
        ledger.enter(Phase::After);
        // A drain that took long leaves a shorter, but not an empty, phase.
        stage.hold_until(at(1.0).max(clock.now_us().saturating_add((plan.seconds * 0.2 * 1e6) as i64))).await?;
    }
    let seconds = clock.now_us().saturating_sub(begin_us) as f64 / 1e6;
    ledger.enter(Phase::ReadBack);
    users.finish().await?;
    stage.check_nodes()?;
    stage.board.refresh(&stage.admin).await;
    drop(shown);
    let mut outcome = stage.end(&seen).await;
    outcome.seconds = seconds;
    outcome.machine = Ticks::now().zip(ticks).and_then(|(now, then)| now.since(&then));
    Ok(outcome)
}

impl Stage<'_> {
    async fn add_node(&mut self, name: &str) -> Result<(), String> {
        let addresses = Addresses::free(&mut self.ports).map_err(|error| error.to_string())?;
        let config = NodeConfig { name, addresses, folder: self.folder, id_key: &self.id_key, plan: self.plan.moves };
        let node = Node::start(&self.plan.binary, &config, &self.admin).await?;
        self.board.add(name, addresses.admin);
        self.balancer.add(name, addresses.http, addresses.admin);
        self.nodes.push(node);
        let deadline_us = self.clock.now_us().saturating_add(READY_DEADLINE_US);
        while !self.balancer.ready().iter().any(|ready| ready == name) {
            if self.clock.now_us() > deadline_us {
                return Err(format!("the balancer does not see node {name}"));
            }
            self.hold_until(self.clock.now_us().saturating_add(POLL_US)).await?;
        }
        Ok(())
    }

    /// A third node joins and takes its share.
    async fn grow(&mut self) -> Result<(), String> {
        self.event("node c starts");
        self.add_node("c").await?;
        let Some(target) = self.nodes.last().map(|node| node.addresses.admin) else { return Ok(()) };
        let done = self.admin.rebalance(target).await?;
        self.event(&format!("rebalanced: {} sessions moved, {} did not", done.moved, done.failed));
        if done.failed > 0 {
            self.problems.push(format!("{} sessions did not move in the rebalance", done.failed));
        }
        Ok(())
    }

    /// The first node gives its sessions away and ends.
    async fn shrink(&mut self) -> Result<(), String> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        let node = self.nodes.remove(0);
        let name = node.name.clone();
        self.event(&format!("node {name} drains"));
        self.admin.drain(node.addresses.admin).await?;
        let (status, words) = node.ended(DRAIN_DEADLINE).await?;
        self.event(&format!("node {name} has ended ({status})"));
        if !status.success() {
            self.problems.push(format!("node {name} left sessions behind ({status})"));
        }
        if words.is_none() {
            self.problems.push(format!("node {name} ended without its final status, so its bytes may be counted too low"));
        }
        self.board.gone(&name, words);
        self.check_nodes()
    }

    fn event(&self, text: &str) {
        self.display.keep(&format!("{:>5} s   -- {text}", self.clock.now_us() / 1_000_000));
    }

    /// Waits until `at_us`; fails as soon as a node has ended.
    async fn hold_until(&mut self, at_us: i64) -> Result<(), String> {
        loop {
            self.check_nodes()?;
            let now_us = self.clock.now_us();
            if now_us >= at_us {
                return Ok(());
            }
            self.clock.sleep_until_us(at_us.min(now_us.saturating_add(POLL_US))).await;
        }
    }

    fn check_nodes(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Node::check)
    }

    /// Sums up what the nodes said and stops them.
    async fn end(self, seen: &Seen) -> Outcome {
        let mut outcome = seen.outcome();
        outcome.problems.splice(..0, self.problems);
        // Both at once: each would else take over what the other gives away.
        let mut stopping = tokio::task::JoinSet::new();
        for node in self.nodes {
            stopping.spawn(node.stop(STOP_DEADLINE));
        }
        while stopping.join_next().await.is_some() {}
        outcome
    }
}
