//! Between the nodes and the directory: transactions and reads on their way, the watch, and registrations.
//!
//! It never changes a record itself: the model does, at the instant at which a request arrives. An answer that does not come is
//! reported as unknown; the transaction may still be applied after that.

use crate::host::{MemoryTable, Process, Stimulus};
use crate::names::{commit_of, describe, is_fence};
use crate::network::{Fate, fate};
use crate::profile::DIRECTORY_PATIENCE_US;
use crate::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet};
use wayfarer_engine::directory::{MemberDraft, Outcome, Role, Transaction, Write};
use wayfarer_engine::ids::{Incarnation, RequestId, SessionId};
use wayfarer_engine::node::{Identity, Input, Node};

impl World {
    /// A node asks where a session is.
    pub(crate) fn send_read(&mut self, host: usize, me: Incarnation, request: RequestId, session: SessionId) {
        let cut = self.hosts[host].cut_until_us > self.now_us;
        let fate = fate(&self.profile, &mut self.random);
        match (fate.applied_us, fate.answered_us) {
            (Some(at), Some(answered)) if !cut => {
                self.after(at, Event::Read { from: me, request, session, answer_us: answered - at });
            }
            _ => {
                let none = Stimulus::Input(Input::Placement { request, placement: None });
                self.after(DIRECTORY_PATIENCE_US, Event::Reach(me, none));
            }
        }
    }

    pub(crate) fn send_transaction(&mut self, host: usize, me: Incarnation, request: RequestId, transaction: Transaction) {
        let renewal = transaction.write.iter().any(|w| matches!(w, Write::Renew { .. }));
        let mut fate = fate(&self.profile, &mut self.random);
        if let Some(handover) = commit_of(&transaction)
            && self.crash_during_commit(me, handover.origin)
        {
            fate = Fate { applied_us: Some(self.random.between(20_000, 300_000)), answered_us: None };
        }
        if self.hosts[host].cut_until_us > self.now_us {
            fate.applied_us = None;
            fate.answered_us = None;
        }
        if !renewal {
            self.trace.line(self.now_us, format_args!("{} sends {}: {}, {fate:?}", me.0.0, request.0, describe(&transaction)));
        }
        if fate.answered_us.is_none() {
            let unknown = Stimulus::Input(Input::Outcome { request, outcome: None });
            self.after(DIRECTORY_PATIENCE_US, Event::Reach(me, unknown));
        }
        if let Some(at) = fate.applied_us {
            let answer_us = fate.answered_us.map(|answered| answered - at);
            self.after(at, Event::Transact { from: me, request, transaction, answer_us });
        }
        if renewal {
            self.pause_during_renewal(host);
        }
    }

    pub(crate) fn transact(&mut self, from: Incarnation, request: RequestId, transaction: &Transaction, answer_us: Option<u64>) {
        let (owners, leftover) = (self.owners(), self.leftovers(transaction));
        let outcome = self.directory.transact(transaction);
        let applied = matches!(outcome, Outcome::Applied { .. });
        let renewal = transaction.write.iter().any(|w| matches!(w, Write::Renew { .. }));
        if !renewal {
            let how = if applied { "applied" } else { "refused" };
            self.trace.line(self.now_us, format_args!("directory: {} of {} {how}", request.0, from.0.0));
            self.coverage.applied_late += u64::from(applied && answer_us.is_none());
        }
        if is_fence(transaction) {
            let count = if applied { &mut self.coverage.fences_won } else { &mut self.coverage.fences_lost };
            *count += 1;
        }
        if applied {
            self.judge_writes(transaction);
            self.judge_mode(transaction, &leftover);
            self.judge_owners(&owners);
            if transaction.write.iter().any(|w| !matches!(w, Write::Place { .. } | Write::Forget { .. })) {
                self.show_all();
            }
        }
        if let Some(answer_us) = answer_us {
            self.after(answer_us, Event::Reach(from, Stimulus::Input(Input::Outcome { request, outcome: Some(outcome) })));
        }
    }

    /// Members or groups have changed: the watch will show them.
    pub(crate) fn show_all(&mut self) {
        for host in 0..self.hosts.len() {
            if !std::mem::replace(&mut self.hosts[host].view_under_way, true) {
                let delay_us =
                    if self.random.chance(30) { self.random.between(20_000, 100_000) } else { self.random.between(500, 10_000) };
                self.after(delay_us, Event::Show(host));
            }
        }
    }

    pub(crate) fn show(&mut self, host: usize) {
        if self.hosts[host].cut_until_us > self.now_us {
            return self.after(10_000, Event::Show(host));
        }
        self.hosts[host].view_under_way = false;
        if self.hosts[host].process.is_some() {
            let view = self.directory.view().clone();
            self.stimulate(host, Stimulus::Input(Input::View(view)));
        }
    }

    pub(crate) fn start(&mut self, host: usize) {
        let draft = MemberDraft { name: format!("n{host}"), ..MemberDraft::default() };
        let owners = self.owners();
        let running: BTreeSet<Incarnation> = self.hosts.iter().filter_map(|h| h.process.as_ref()).map(|p| p.me).collect();
        let Some(registration) = self.directory.register(draft, self.profile.groups, |who| !running.contains(&who)) else {
            return self.after(50_000, Event::Start(host));
        };
        let me = registration.incarnation;
        self.judge_owners(&owners);
        self.renewed_us.insert(me, self.now_us);
        self.homes.insert(me, host);
        let identity = Identity { incarnation: me, groups: registration.groups, role: Role::Owner };
        let now = self.hosts[host].clock.now(self.now_us);
        let node = Node::new(identity, self.profile.node.clone(), self.directory.view().clone(), now);
        self.hosts[host].starting = false;
        self.hosts[host].process = Some(Process {
            me,
            table: MemoryTable::default(),
            lease_until_us: 0,
            tickets: BTreeMap::new(),
            parked: Vec::new(),
            sent_on: BTreeMap::new(),
            route: node.route(),
            direct_until_us: 0,
            passes: BTreeSet::new(),
            holding: Vec::new(),
            direct: BTreeMap::new(),
            node,
            last_ticket: 0,
            leaving: false,
        });
        self.trace.line(self.now_us, format_args!("host {host} starts as {}", me.0.0));
        self.after(0, Event::Tick(host, me));
        self.tell_held(host);
        self.show_all();
    }
}
