//! What has to be sent again, and when the map is asked for anew.
//!
//! It never sends a command again of which a byte may have reached a node, unless that node has said that it did not run.
//! [`super::front`] calls it for every redirection and every connection that is lost.
//!
//! | what has happened | the command | the map |
//! |---|---|---|
//! | MOVED | goes where it says | corrected at once, and asked for |
//! | ASK | goes where it says, behind ASKING | stays |
//! | TRYAGAIN | goes where it went, after a pause | stays |
//! | the connection was lost before it was sent | goes where the new map says; to a server that did not take the connection only if that was another | asked for first |
//! | the connection was lost after that | fails: nobody knows whether it has run | asked for |
//! | a node says nothing for [`SILENCE`] | waits on; fails when the map says that this is no master | asked for, once in [`RENEWED_MIN`] at most |
//!
//! All that must be sent again waits until nothing else is under way, and goes in its old order.
//! Bounds: [`TRIES_MAX`].

use super::RENEWED_MIN;
use super::front::{DOWN, Front, Whom};
use super::node::{Heard, Node, Sent, Target};
use super::slots::Redirect;
use bytes::Bytes;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::time::Sleep;
use wayfarer_settings::HostPort;

/// A command is sent elsewhere, or once more, so often.
const TRIES_MAX: u32 = 16;
/// Before a command is sent again to a node that could not answer yet; the second time twice as long, and so on.
const LATER: Duration = Duration::from_millis(20);
/// A node that owes a reply is looked at so often; at the second look without one it is looked up.
const SILENCE: Duration = Duration::from_secs(1);
/// The same for a command that blocks: it owes nothing.
const BLOCKS: Duration = Duration::from_secs(5);
/// From the fourth time on a command waits before it is sent again.
const AT_ONCE: u32 = 3;

/// A command that will be sent again.
struct Waits {
    sent: Sent,
    /// There, behind ASKING.
    asks: Option<HostPort>,
    /// Not there.
    failed: Option<HostPort>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Again {
    list: Vec<Waits>,
    /// They can only be sent when the map has been asked for.
    needs_map: bool,
    renewing: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    pause: Option<Pin<Box<Sleep>>>,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Again {
    /// Whether later commands must wait.
    pub(super) fn holds(&self) -> bool {
        !self.list.is_empty()
    }
}

/// How long to wait before the next try.
pub(super) fn pause_before(tries: u32) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(LATER.saturating_mul(tries)))
}

/// Whether that often is too often.
pub(super) fn is_in_vain(tries: u32) -> bool {
    tries > TRIES_MAX
}

impl Front {
    /// Asks for the map, if that is not under way.
    pub(super) fn renew(&mut self) {
        self.renew_older(Duration::ZERO);
    }

    pub(super) fn renew_older(&mut self, than: Duration) {
        if self.again.renewing.is_none() {
            let (dialer, cluster) = (self.dialer.clone(), self.cluster.clone());
            let seen = cluster.asked();
            self.again.renewing = Some(Box::pin(async move {
                // Who goes on with the old map fails by it, and says so.
                drop(cluster.renew(&dialer, seen, than).await);
            }));
        }
    }

    /// A node has sent a command elsewhere.
    pub(super) fn redirected(&mut self, mut sent: Sent, redirect: Redirect, reply: Bytes) {
        sent.tries += 1;
        if is_in_vain(sent.tries) {
            let reply = if redirect == Redirect::Later { reply } else { Bytes::from_static(DOWN) };
            return self.finish(&sent, reply);
        }
        let mut asks = None;
        match redirect {
            Redirect::Moved(slot, place) => {
                self.cluster.moved(slot, &place);
                self.renew();
                if sent.tries > AT_ONCE {
                    self.again.pause = Some(pause_before(sent.tries));
                }
            }
            Redirect::Ask(place) => asks = Some(place),
            Redirect::Later => self.again.pause = Some(pause_before(sent.tries)),
        }
        self.again.list.push(Waits { sent, asks, failed: None });
    }

    /// The connection to a node is gone, and taken out of the others.
    pub(super) fn lost(&mut self, place: &HostPort, refused: bool, unsent: Vec<Sent>, unknown: Vec<Sent>) {
        if self.transaction.is_at(place) || self.lost_listener(place, refused) {
            self.broken = true;
            return;
        }
        if unsent.is_empty() && unknown.is_empty() {
            // It was idle, and the server may have its reasons.
            return;
        }
        self.renew();
        for sent in unknown {
            self.finish(&sent, Bytes::from_static(DOWN));
        }
        for mut sent in unsent.into_iter().filter(|sent| !matches!(sent.whom, Whom::Ours | Whom::Nobody)) {
            sent.tries += 1;
            if is_in_vain(sent.tries) {
                self.finish(&sent, Bytes::from_static(DOWN));
                continue;
            }
            self.again.needs_map = true;
            self.again.list.push(Waits { sent, asks: None, failed: refused.then(|| place.clone()) });
        }
    }

    /// Drives what waits. True: something has happened.
    pub(super) fn poll_again(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = self.poll_silence(cx) | self.poll_transaction(cx);
        if let Some(renewing) = &mut self.again.renewing
            && renewing.as_mut().poll(cx).is_ready()
        {
            (self.again.renewing, self.again.needs_map, moved) = (None, false, true);
            self.lose_former_masters();
        }
        if let Some(pause) = &mut self.again.pause
            && pause.as_mut().poll(cx).is_ready()
        {
            (self.again.pause, moved) = (None, true);
        }
        let waits = self.again.needs_map || self.again.pause.is_some() || self.nodes.iter().any(Node::owes);
        if waits || (self.again.list.is_empty() && !self.transaction.is_moving()) {
            return moved;
        }
        self.look_at_map();
        let mut list = std::mem::take(&mut self.again.list);
        list.sort_by_key(|waits| waits.sent.order);
        for Waits { sent, asks, failed } in list {
            match asks {
                Some(place) => {
                    let order = sent.order;
                    let node = self.node(&place);
                    node.send(Sent::new(vec![Bytes::from_static(b"ASKING")], Target::Any, Whom::Nobody, order));
                    node.send(sent);
                }
                None => self.send(sent, failed.as_ref()),
            }
        }
        self.go_on_with_transaction();
        true
    }

    /// Asks for the map when a node has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.nodes.iter().any(Node::owes) {
            self.again.silence = None;
            return false;
        }
        let silence = self.again.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
        if silence.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.again.silence = None;
        self.nodes.iter_mut().for_each(Node::tick);
        if self.nodes.iter().any(Node::is_silent) {
            self.renew_older(if self.blocks { BLOCKS } else { RENEWED_MIN });
        }
        true
    }

    /// What a silent node owes will not come, if another is the master of its slots now.
    fn lose_former_masters(&mut self) {
        let map = self.cluster.map();
        if map.masters().is_empty() {
            return;
        }
        let is_former = |place: &HostPort| !map.masters().contains(place);
        while let Some(at) = self.nodes.iter().position(|node| node.is_silent() && is_former(&node.place)) {
            let mut node = self.nodes.swap_remove(at);
            if let Heard::Lost { refused, unsent, unknown } = node.lose(false) {
                tracing::info!("a node of the cluster that does not answer is no master any more: its connection ends");
                self.lost(&node.place, refused, unsent, unknown);
            }
        }
    }
}
