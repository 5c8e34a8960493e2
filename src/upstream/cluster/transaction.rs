//! MULTI, EXEC, DISCARD, WATCH and UNWATCH of one front: at the one node that has all the keys.
//!
//! It never runs a part of a transaction. [`super::front`] hands these commands in, every command between MULTI and EXEC, and their
//! replies.
//!
//! | command | |
//! |---|---|
//! | WATCH | to the node of its slot, which the front is bound to from then on |
//! | MULTI | answered here; the node gets it with the first command |
//! | a command on the slot of the others, or without keys | to their node |
//! | the first with a key, where those before had none and went to another node | all of them go to its node |
//! | a command on another slot | QUEUED; EXEC says CROSSSLOT, as a node does |
//! | about all keys or all nodes | refused; EXEC aborts |
//! | EXEC | to the node, when all before it are answered |
//!
//! When the slot moves (MOVED, to a queued command or to EXEC) the whole transaction begins again where it is now, unless keys are watched:
//! then the connection breaks, and whoever uses it takes what was watched for changed. A node answers ASK or TRYAGAIN while keys of
//! the slot move: the transaction begins again after a pause, up to [`TRIES_MAX`] times, for ASKING has no meaning within one.
//! Bounds: whoever uses the front bounds the commands of a transaction.
//! Invariant: a transaction runs whole or not at all; what was watched is watched by the node that runs it.

use super::again::pause_before;
use super::front::{Front, OK, Whom};
use super::node::{Sent, Target};
use super::route::Route;
use super::slots::{Redirect, slot_of};
use crate::replies::Unit;
use bytes::Bytes;
use std::pin::Pin;
use std::task::Context;
use tokio::time::Sleep;
use wayfarer_settings::HostPort;

/// A transaction begins again so often.
const TRIES_MAX: u32 = 12;
const CROSSED: &str = "CROSSSLOT Keys in request don't hash to the same slot";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const EVERYWHERE: &str =
    "ERR wayfarer: the upstream is a Redis Cluster: this command concerns all of its nodes, so no transaction can have it";
const MOVING: &[u8] = b"-TRYAGAIN wayfarer: the slot of this transaction is being moved to another node\r\n";

/// See the head of this file.
#[derive(Default)]
pub(super) struct Transaction {
    /// The node that has MULTI or watches keys.
    place: Option<HostPort>,
    /// The slot of its keys, or of those that are watched.
    slot: Option<u16>,
    watches: bool,
    /// Between MULTI and EXEC.
    queue: Option<Queue>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Vec<Bytes>>,
    /// The node has MULTI.
    sent: bool,
    crossed: bool,
    failed: bool,
    tries: u32,
    moving: Option<Moving>,
}

/// It begins again.
struct Moving {
    /// These are still to be answered; by their places among the commands.
    due: Vec<(usize, Unit)>,
    exec: Option<Unit>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Transaction {
    /// Whether it is between MULTI and EXEC.
    pub(super) fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether it must begin again before anything else can.
    pub(super) fn is_moving(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.moving.is_some())
    }

    /// Whether a node knows something of it that only it can know.
    pub(super) fn is_at(&self, place: &HostPort) -> bool {
        self.place.as_ref() == Some(place)
    }

    /// Whether a command of this slot changes where it is.
    pub(super) fn must_move_for(&self, slot: Option<u16>) -> bool {
        self.is_open() && (self.place.is_none() || (slot.is_some() && slot != self.slot))
    }
}

fn word(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

impl Front {
    /// One of the five.
    pub(super) fn transactional(&mut self, args: Vec<Bytes>) {
        let is = |name: &str| args.first().is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
        let (opens, open) = (is("multi"), self.transaction.is_open());
        if opens && !open {
            self.transaction.queue = Some(Queue::default());
            self.replies.push(Bytes::from_static(OK));
        } else if is("exec") && open {
            self.exec();
        } else if (is("discard") && open) || (is("unwatch") && !open) {
            self.forget();
            self.replies.push(Bytes::from_static(OK));
        } else if is("watch") && !open && args.len() > 1 {
            self.watch(args);
        } else {
            // What has no meaning now any node says as the one does that has the transaction.
            let target = self.transaction.place.clone().map_or(Target::Any, Target::Place);
            let unit = self.replies.due();
            self.send_new(args, target, Whom::Client(unit));
        }
    }

    /// Forgets all of it, here and at its node.
    fn forget(&mut self) {
        let transaction = std::mem::take(&mut self.transaction);
        let Some(place) = transaction.place else { return };
        let has_multi = transaction.queue.is_some_and(|queue| queue.sent);
        let end = if has_multi { "DISCARD" } else { "UNWATCH" };
        let sent = Sent::new(word(end), Target::Place(place), Whom::Ours, self.next_order());
        self.send(sent, None);
    }

    fn watch(&mut self, args: Vec<Bytes>) {
        let slot = args.get(1).map(|key| slot_of(key));
        let map = self.cluster.map();
        let place = slot.and_then(|slot| map.owner(slot)).cloned();
        if self.transaction.watches && self.transaction.slot != slot {
            return self.replies.write(Default::default(), |reply| reply.error(CROSSED));
        }
        let target = slot.map_or(Target::Any, Target::Slot);
        let unit = self.replies.due();
        (self.transaction.place, self.transaction.slot) = (place, slot);
        self.send_new(args, target, Whom::Exec(unit));
    }

    /// A command between MULTI and EXEC.
    pub(super) fn queue(&mut self, route: &Route, args: Vec<Bytes>) {
        let slot = match route {
            Route::Slot(slot) => Some(*slot),
            // Its node says CROSSSLOT.
            Route::Parts(op) => op.targets().first().map(|target| slot_of(&target.key)),
            // What has keys that only Redis can tell goes where the others are: if its slot is another, the node says so.
            Route::Any | Route::AskKeys => None,
            Route::Refused(error) => return self.refuse(error.as_bytes()),
            Route::Wrong(error) => return self.refuse(error),
            _ => return self.refuse(EVERYWHERE.as_bytes()),
        };
        let map = self.cluster.map();
        let transaction = &mut self.transaction;
        let Some(queue) = &mut transaction.queue else { return };
        if slot.is_some() && transaction.slot.is_some() && slot != transaction.slot {
            queue.crossed = true;
            return self.replies.push(Bytes::from_static(b"+QUEUED\r\n"));
        }
        let owner = match slot.or(transaction.slot) {
            Some(slot) => map.owner(slot),
            None => transaction.place.as_ref().or(map.masters().first()),
        };
        let Some(owner) = owner.cloned() else {
            self.renew();
            return self.refuse(b"CLUSTERDOWN Hash slot not served");
        };
        transaction.slot = transaction.slot.or(slot);
        let unit = self.replies.due();
        queue.commands.push(args);
        let at = queue.commands.len() - 1;
        if transaction.place.as_ref() == Some(&owner) && queue.sent {
            let command = queue.commands.last().cloned().unwrap_or_default();
            return self.send_new(command, Target::Place(owner), Whom::Queued(at, Some(unit)));
        }
        if transaction.watches && transaction.place.as_ref() != Some(&owner) {
            self.broken = true;
            return;
        }
        self.under_way += 1;
        self.begin_at(owner, vec![(at, unit)], None);
    }

    fn refuse(&mut self, error: &[u8]) {
        self.transaction.queue.iter_mut().for_each(|queue| queue.failed = true);
        self.replies.write(Default::default(), |reply| reply.error(error));
    }

    /// Sends all of it to a node; these of its commands are due, and counted.
    fn begin_at(&mut self, place: HostPort, due: Vec<(usize, Unit)>, exec: Option<Unit>) {
        let Some(queue) = &mut self.transaction.queue else { return };
        let (commands, had) = (queue.commands.clone(), std::mem::replace(&mut queue.sent, true));
        let before = self.transaction.place.replace(place.clone());
        if had && let Some(before) = before {
            let sent = Sent::new(word("DISCARD"), Target::Place(before), Whom::Nobody, self.next_order());
            self.send(sent, None);
        }
        let sent = Sent::new(word("MULTI"), Target::Place(place.clone()), Whom::Ours, self.next_order());
        self.send(sent, None);
        for (at, command) in commands.into_iter().enumerate() {
            let unit = due.iter().find(|(of, _)| *of == at).map(|(_, unit)| *unit);
            let sent = Sent::new(command, Target::Place(place.clone()), Whom::Queued(at, unit), self.next_order());
            self.send(sent, None);
        }
        if let Some(unit) = exec {
            let sent = Sent::new(word("EXEC"), Target::Place(place), Whom::Exec(unit), self.next_order());
            self.send(sent, None);
        }
    }

    fn exec(&mut self) {
        let Some(queue) = &mut self.transaction.queue else { return };
        if queue.crossed || queue.failed {
            let error = if queue.failed { ABORTED } else { CROSSED };
            self.forget();
            return self.replies.write(Default::default(), |reply| reply.error(error));
        }
        let unit = self.replies.due();
        match (self.transaction.place.clone(), queue.sent) {
            (None, _) => {
                self.transaction = Transaction::default();
                self.replies.fill(unit, Bytes::from_static(b"*0\r\n"));
            }
            (Some(place), true) => self.send_new(word("EXEC"), Target::Place(place), Whom::Exec(unit)),
            (Some(place), false) => {
                self.under_way += 1;
                self.begin_at(place, Vec::new(), Some(unit));
            }
        }
    }

    /// A node has answered WATCH, a command of a transaction, or EXEC.
    pub(super) fn in_transaction(&mut self, from: &HostPort, sent: Sent, reply: Bytes) {
        let Some(redirect) = Redirect::read(&reply, from) else { return self.answered(&sent, reply) };
        let Some(queue) = &mut self.transaction.queue else { return self.watch_elsewhere(sent, redirect, reply) };
        if self.transaction.watches {
            // What is watched here cannot be watched there.
            self.broken = true;
            return;
        }
        if let Redirect::Moved(slot, place) = &redirect {
            self.cluster.moved(*slot, place);
            if *self.transaction.slot.get_or_insert(*slot) != *slot {
                queue.crossed = true;
                return self.finish(&sent, Bytes::from_static(b"+QUEUED\r\n"));
            }
        }
        if queue.moving.is_none() {
            queue.tries += 1;
        }
        if queue.tries > TRIES_MAX {
            queue.failed = true;
            return self.answered(&sent, Bytes::from_static(MOVING));
        }
        let pause = !matches!(redirect, Redirect::Moved(..));
        let tries = queue.tries;
        let moving = queue.moving.get_or_insert_with(|| Moving { due: Vec::new(), exec: None, pause: None });
        if pause {
            moving.pause = Some(pause_before(tries));
        }
        match sent.whom {
            Whom::Queued(at, Some(unit)) => moving.due.push((at, unit)),
            Whom::Exec(unit) => moving.exec = Some(unit),
            _ => {}
        }
        self.renew();
    }

    fn watch_elsewhere(&mut self, sent: Sent, redirect: Redirect, reply: Bytes) {
        match &redirect {
            // The first of this slot: nothing is watched yet.
            Redirect::Moved(_, place) if sent.tries < TRIES_MAX => self.transaction.place = Some(place.clone()),
            _ => {
                self.transaction = Transaction::default();
                return self.finish(&sent, if redirect == Redirect::Later { reply } else { Bytes::from_static(MOVING) });
            }
        }
        self.redirected(sent, redirect, reply);
    }

    fn answered(&mut self, sent: &Sent, reply: Bytes) {
        let is_watch = sent.args.first().is_some_and(|word| word.eq_ignore_ascii_case(b"watch"));
        if is_watch && reply.first() != Some(&b'-') {
            self.transaction.watches = true;
        } else if matches!(sent.whom, Whom::Exec(_)) && !(is_watch && self.transaction.watches) {
            self.transaction = Transaction::default();
        }
        self.finish(sent, reply);
    }

    /// Nothing is under way: a transaction that must begin again does.
    pub(super) fn go_on_with_transaction(&mut self) {
        let Some(queue) = &mut self.transaction.queue else { return };
        let Some(moving) = queue.moving.take_if(|moving| moving.pause.is_none()) else { return };
        let map = self.cluster.map();
        let owner = self.transaction.slot.and_then(|slot| map.owner(slot)).or(self.transaction.place.as_ref());
        match owner.cloned() {
            Some(owner) => self.begin_at(owner, moving.due, moving.exec),
            None => self.broken = true,
        }
    }

    /// Drives its pause. True: something has happened.
    pub(super) fn poll_transaction(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(moving) = self.transaction.queue.as_mut().and_then(|queue| queue.moving.as_mut()) else { return false };
        let over = moving.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready());
        if over {
            moving.pause = None;
        }
        over
    }
}
