//! What kind of world a seed gives: its size, its clocks, how bad its network and its directory are, what may happen.
//!
//! It never chooses a single event: `faults` and `network` do, with these odds. Times in microseconds of true time.

use crate::operation::{FIELDS, KEYS};
use crate::random::Random;
use crate::upstream::CRITICAL;
use std::sync::Arc;
use wayfarer_engine::lease::LeaseTimes;
use wayfarer_engine::node::NodeSettings;
use wayfarer_engine::plan::{Impact, OnLost, Policy, Rule, Treatment};
use wayfarer_engine::residence::AdoptionRule;
use wayfarer_engine::rest::RestSettings;
use wayfarer_engine::session::Class;

/// How long a renewal is good for.
pub const LEASE_US: u64 = 400_000;
/// What clocks may drift apart in one lease, with room to spare for [`DRIFT_PPM_MAX`].
pub const MARGIN_US: u64 = 40_000;
/// The largest rate error of a clock, in millionths.
pub const DRIFT_PPM_MAX: u64 = 20_000;
/// An answer that has not come by then counts as unknown.
pub const DIRECTORY_PATIENCE_US: u64 = 60_000;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Nodes.
    pub hosts: usize,
    /// Groups of each.
    pub groups: usize,
    /// Sessions over which all clients quarrel.
    pub sessions: usize,
    /// Keys of each.
    pub keys: usize,
    /// Keys of the upstream that have expired when a difference to them arrives, in a thousand.
    pub vanishing: u64,
    /// Clients.
    pub clients: usize,
    /// Whether nothing fails: only operators move sessions, so no client may see an error.
    pub planned: bool,
    /// How long faults happen; then everything heals.
    pub stormy_us: u64,
    /// Messages lost, in a thousand.
    pub lost: u64,
    /// Messages that are much slower than others, in a thousand.
    pub slow: u64,
    /// Answers of the directory that are much slower than others, in a thousand.
    pub slow_answers: u64,
    /// Requests to the directory that never arrive, in a thousand.
    pub unasked: u64,
    /// Answers of the directory that never arrive, in a thousand.
    pub unanswered: u64,
    /// Requests that are applied after the node was told that the outcome is unknown, in a thousand.
    pub belated: u64,
    /// The mean time between two faults or orders of an operator.
    pub trouble_us: u64,
    /// Whether processes crash.
    pub crashes: bool,
    /// Whether operators change the cluster's mode.
    pub modes: bool,
    /// Whether clients rename keys from one session to another.
    pub renames: bool,
    /// Whether members are fenced without proof of death.
    pub unproven: bool,
    /// The settings of the nodes.
    pub node: NodeSettings,
    /// When arrivals make a session move.
    pub adoption: AdoptionRule,
}

impl Profile {
    /// The profile that these numbers give.
    pub fn draw(random: &mut Random) -> Profile {
        let planned = random.chance(150);
        let unproven = !planned && random.chance(400);
        let lost: &[u64] = if planned { &[0] } else { &[0, 10, 50, 150] };
        let slow = if planned { 0 } else { random.between(0, 100) };
        let adoption =
            AdoptionRule { arrivals: random.between(1, 3) as u32, gap_us: 1_000, residence_us_min: random.between(0, 60_000) };
        let mut profile = Profile {
            hosts: random.between(2, 4) as usize,
            groups: random.between(1, 2) as usize,
            sessions: random.between(1, 3) as usize,
            keys: 1,
            vanishing: 0,
            clients: random.between(3, 6) as usize,
            planned,
            stormy_us: random.between(1_500_000, 3_500_000),
            lost: random.pick(lost).unwrap_or(0),
            slow,
            slow_answers: if planned { 0 } else { 100 + slow },
            unasked: random.pick(lost).unwrap_or(0) / 2,
            unanswered: random.pick(lost).unwrap_or(0) / 2,
            belated: random.pick(lost).unwrap_or(0),
            trouble_us: random.between(20_000, 150_000),
            crashes: !planned && random.chance(700),
            modes: false,
            renames: false,
            unproven,
            node: node_settings(unproven, random),
            adoption,
        };
        // Drawn last, so that the worlds without it are those that their seeds always gave.
        if random.chance(500) {
            profile.node.rest = Some(rest_settings(random));
            let mut policy = (*profile.node.policy).clone();
            policy.default.impact = Impact::Medium;
            let critical = Treatment { impact: Impact::Critical, ..policy.default };
            policy.rules.push(Rule { pattern: FIELDS[CRITICAL].0.into(), treatment: critical });
            profile.node.policy = Arc::new(policy);
            profile.keys = random.between(1, KEYS.len() as u64) as usize;
            profile.vanishing = random.pick(&[0, 20, 200]).unwrap_or(0);
            profile.modes = random.chance(500);
        }
        profile
    }
}

fn rest_settings(random: &mut Random) -> RestSettings {
    RestSettings {
        high_us: random.between(1_000, 50_000),
        medium_us: random.between(1_000, 300_000),
        low_us: random.between(1_000, 2_000_000),
        in_flight_max: random.between(1, 4) as usize,
        pause_us: random.between(1_000, 20_000),
        pause_us_max: random.between(20_000, 100_000),
        check_ins_max: random.between(1, 3) as usize,
    }
}

fn node_settings(unproven: bool, random: &mut Random) -> NodeSettings {
    let treat = |class| Treatment { class, impact: Impact::High, on_lost: OnLost::Error };
    let rule = |name: &str, class| Rule { pattern: name.into(), treatment: treat(class) };
    let rules = vec![rule("streamed*", Class::Streamed), rule("deferred*", Class::Deferred)];
    NodeSettings {
        lease: LeaseTimes { length_us: LEASE_US, margin_us: MARGIN_US, lost_after_us: unproven.then_some(LEASE_US / 2) },
        policy: Arc::new(Policy { rules, default: treat(Class::Carried) }),
        carried_bytes_max: random.pick(&[100, 250, 1 << 20]).unwrap_or(250),
        pause_bytes_max: random.pick(&[100, 1 << 20]).unwrap_or(100),
        at_once_max: random.between(1, 4) as usize,
        propose_us_max: random.between(10_000, 40_000),
        stage_us_max: random.between(5_000, 40_000),
        retry_us: random.between(5_000, 30_000),
        fetch_us_max: random.between(10_000, 50_000),
        stream_bytes_max: 1_000,
        trickle_bytes_per_s: random.pick(&[0, 0, 2_000]).unwrap_or(0),
        drain_residuals: true,
        residual_bytes_max: random.pick(&[500, 1 << 20]).unwrap_or(500),
        sweep_us: random.between(50_000, 300_000),
        mode_us_max: LEASE_US / 2,
        // The small one holds a manifest, and with it one value or two.
        frame_bytes_max: random.pick(&[2_600, 1 << 20]).unwrap_or(2_600),
        waiting_max: 64,
        rest: None,
    }
}
