//! What goes wrong, and what operators do: crashes, pauses, partitions, cut-offs; gifts, moves, drains, cordons.
//!
//! It never touches a machine from the side: a crash ends a process, an order is an input.

use crate::host::Stimulus;
use crate::profile::LEASE_US;
use crate::world::{Event, World};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::node::Input;
use wayfarer_engine::node::message::Proposer;

impl World {
    /// One fault or order, and the time of the next.
    pub(crate) fn trouble(&mut self) {
        if self.calm {
            return;
        }
        let delay_us = self.random.between(1_000, 2 * self.profile.trouble_us);
        self.after(delay_us, Event::Trouble);
        if self.profile.modes && self.random.chance(80) {
            return self.order_mode();
        }
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let first = if self.profile.planned { 32 } else { 0 };
        match self.random.between(first, 99) {
            0..=7 if self.profile.crashes => self.crash(host),
            8..=17 => self.pause(host),
            18..=25 => self.part(host),
            26..=31 => self.cut(host),
            32..=54 => self.order_gift(host),
            55..=84 => self.order_move(host),
            85..=89 => self.order(host, Input::Drain),
            95..=99 if self.profile.node.rest.is_some() => {
                let sessions = self.sessions.clone();
                self.order(host, Input::CheckIn { sessions, batch: None });
            }
            90..=94 => {
                let on = self.random.chance(400);
                self.order(host, Input::Cordon(on));
            }
            _ => {}
        }
    }

    fn order(&mut self, host: usize, input: Input) {
        if self.hosts[host].process.is_some() {
            self.stimulate(host, Stimulus::Input(input));
        }
    }

    fn another(&mut self, host: usize) -> Option<Incarnation> {
        let other = (host + 1 + self.random.below(self.hosts.len() as u64 - 1) as usize) % self.hosts.len();
        self.hosts[other].process.as_ref().map(|p| p.me)
    }

    fn order_gift(&mut self, host: usize) {
        let count = self.random.between(1, 3);
        self.last_id += 1;
        let batch = self.last_id;
        if let Some(to) = self.another(host) {
            self.order(host, Input::Give { to, count, batch });
        }
    }

    fn order_move(&mut self, host: usize) {
        let session = self.sessions[self.random.below(self.sessions.len() as u64) as usize].clone();
        // Its owner is asked more often than a node that has nothing to move.
        let owner = self.directory.read(&session).owner().and_then(|who| self.host_of(who));
        let host = owner.filter(|_| self.random.chance(800)).unwrap_or(host);
        if let Some(to) = self.another(host) {
            self.order(host, Input::Move { session, to, proposer: Proposer::Router });
        }
    }

    pub(crate) fn crash(&mut self, host: usize) {
        let Some(me) = self.hosts[host].process.as_ref().map(|p| p.me) else { return };
        self.coverage.crashes += 1;
        self.end_process(host);
        self.hosts[host].starting = true;
        let delay_us =
            if self.random.chance(500) { self.random.between(1_000, 50_000) } else { self.random.between(50_000, 1_200_000) };
        self.after(delay_us, Event::Start(host));
        let others: Vec<Incarnation> = self.hosts.iter().filter_map(|h| h.process.as_ref()).map(|p| p.me).collect();
        for other in others {
            if self.random.chance(300) {
                let delay_us = self.random.between(100, 5_000);
                self.after(delay_us, Event::Reach(other, Stimulus::Input(Input::Unreachable(me))));
            }
        }
    }

    /// A commit is on its way: now and then one side of its handover ends meanwhile. True if so.
    pub(crate) fn crash_during_commit(&mut self, target: Incarnation, origin: Incarnation) -> bool {
        let crashes = self.profile.crashes && !self.calm && self.random.chance(30);
        if crashes {
            let who = if self.random.chance(500) { target } else { origin };
            let delay_us = self.random.between(100, 5_000);
            self.after(delay_us, Event::Crash(who));
        }
        crashes
    }

    fn pause(&mut self, host: usize) {
        let long = self.random.chance(400);
        let length_us = if long { self.random.between(LEASE_US / 2, 3 * LEASE_US) } else { self.random.between(2_000, 80_000) };
        self.pause_for(host, length_us);
    }

    /// A renewal is on its way: now and then its answer waits for its node for longer than the lease.
    pub(crate) fn pause_during_renewal(&mut self, host: usize) {
        if self.profile.unproven && !self.calm && self.random.chance(15) {
            self.pause_for(host, 2 * LEASE_US);
        }
    }

    fn pause_for(&mut self, host: usize, length_us: u64) {
        if self.hosts[host].process.is_none() || self.hosts[host].paused_until_us.is_some() {
            return;
        }
        self.coverage.pauses += 1;
        self.trace.line(self.now_us, format_args!("host {host} pauses for {length_us} us"));
        self.hosts[host].paused_until_us = Some(self.now_us + length_us);
        self.after(length_us, Event::Resume(host));
    }

    /// The end of a pause: what came meanwhile is worked off, before or after the clock is looked at.
    pub(crate) fn resume(&mut self, host: usize) {
        if self.hosts[host].paused_until_us.is_none_or(|until| until > self.now_us) {
            return;
        }
        self.trace.line(self.now_us, format_args!("host {host} goes on"));
        self.hosts[host].paused_until_us = None;
        if self.random.chance(500) {
            self.feed(host, Input::Tick);
        }
        let mut inbox = std::mem::take(&mut self.hosts[host].inbox);
        let me = self.hosts[host].process.as_ref().map(|p| p.me);
        while let Some(stimulus) = inbox.pop_front() {
            if self.hosts[host].process.as_ref().map(|p| p.me) == me {
                self.stimulate(host, stimulus);
            }
        }
    }

    fn part(&mut self, host: usize) {
        let other = (host + 1) % self.hosts.len();
        let length_us = self.random.between(5_000, 2 * LEASE_US);
        self.network.part(host, other, self.now_us + length_us);
        self.trace.line(self.now_us, format_args!("hosts {host} and {other} are parted for {length_us} us"));
    }

    fn cut(&mut self, host: usize) {
        let length_us = self.random.between(5_000, 2 * LEASE_US);
        self.hosts[host].cut_until_us = self.now_us + length_us;
        self.trace.line(self.now_us, format_args!("host {host} is cut off from the directory for {length_us} us"));
    }

    /// Everything heals, and clients stop.
    pub(crate) fn heal(&mut self) {
        self.trace.line(self.now_us, format_args!("everything heals"));
        self.calm = true;
        self.network.heal();
        self.profile.lost = 0;
        self.profile.slow = 0;
        self.profile.unasked = 0;
        self.profile.unanswered = 0;
        self.profile.belated = 0;
        for host in 0..self.hosts.len() {
            self.hosts[host].cut_until_us = 0;
            if let Some(until_us) = self.hosts[host].paused_until_us.as_mut() {
                *until_us = (*until_us).min(self.now_us);
                self.after(0, Event::Resume(host));
            }
        }
    }
}
