//! Commands that concern several nodes: in parts by the slots of their keys, of every master, and SCAN, from one to the next.
//!
//! It never joins replies ([`crate::replies`] does). Called by [`super::front`].
//!
//! The cursor of a SCAN, from its lowest bit: [`CURSOR_BITS`] of the node's own cursor, then the number of the master. The two highest
//! bits are the caller's.
//! Invariant: a SCAN ends when every master has been asked to its end.

use super::front::{Front, NOT_SERVED, Whom};
use super::node::Target;
use super::slots::slot_of;
use crate::replies::Whole;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use wayfarer_engine::command::Op;
use wayfarer_engine::wire::resp::Reply;
use wayfarer_engine::wire::resp::frame::elements;

/// A cursor of a node has fewer bits than this.
const CURSOR_BITS: u32 = 52;
/// Masters that a cursor can name.
const SCANNED_MAX: u64 = 1 << 10;
const CURSOR: &[u8] = b"-ERR wayfarer: a node of the cluster has a cursor that cannot be passed on\r\n";

impl Front {
    /// A command in parts, by the slots of its keys.
    pub(super) fn part(&mut self, op: &Op) {
        let mut groups: Vec<(u16, Vec<usize>)> = Vec::new();
        let mut found: HashMap<u16, usize> = HashMap::new();
        for (place, target) in op.targets().iter().enumerate() {
            let slot = slot_of(&target.key);
            let group = *found.entry(slot).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, places)) => places.push(place),
                None => groups.push((slot, vec![place])),
            }
        }
        let Some(join) = op.join() else { return };
        let units = self.replies.due_parts(join, groups.iter().map(|(_, places)| places.clone()).collect());
        for ((slot, places), unit) in groups.iter().zip(units) {
            self.send_new(op.part(places).args().to_vec(), Target::Slot(*slot), Whom::Client(unit));
        }
    }

    /// A command to every master.
    pub(super) fn every(&mut self, args: &[Bytes], whole: Whole) {
        let map = self.cluster.map();
        if map.masters().is_empty() {
            self.renew();
            return self.replies.push(Bytes::from_static(NOT_SERVED));
        }
        let units = self.replies.due_parts(whole, map.masters().iter().map(|_| vec![0]).collect());
        for (place, unit) in map.masters().iter().zip(units) {
            self.send_new(args.to_vec(), Target::Place(place.clone()), Whom::Client(unit));
        }
    }

    /// SCAN: to the master that its cursor names.
    pub(super) fn scan(&mut self, mut args: Vec<Bytes>) {
        let cursor = args.get(1).and_then(|cursor| std::str::from_utf8(cursor).ok()?.parse::<u64>().ok());
        let map = self.cluster.map();
        let place = |number: u64| map.masters().get(usize::try_from(number).ok()?).cloned();
        let Some((cursor, number)) = cursor.map(|cursor| (cursor & ((1 << CURSOR_BITS) - 1), cursor >> CURSOR_BITS)) else {
            return self.ask(args, Target::Any);
        };
        let Some(place) = place(number) else {
            // There are fewer masters than when the scan began: all that there are have been asked.
            return self.replies.push(Bytes::from_static(b"*2\r\n$1\r\n0\r\n*0\r\n"));
        };
        args.get_mut(1).into_iter().for_each(|arg| *arg = Bytes::from(cursor.to_string()));
        let unit = self.replies.due();
        self.send_new(args, Target::Place(place), Whom::Scan(unit, number));
    }

    /// The reply of a scan with the cursor that the caller gets.
    pub(super) fn scanned(&self, reply: &Bytes, number: u64) -> Bytes {
        let Some([cursor, keys]) = elements(reply, usize::MAX).and_then(|both| <[&[u8]; 2]>::try_from(both).ok()) else {
            return reply.clone();
        };
        let line = cursor.split(|b| *b == b'\n').nth(1).and_then(|line| std::str::from_utf8(line.strip_suffix(b"\r")?).ok());
        let more = u64::try_from(self.cluster.map().masters().len()).unwrap_or(u64::MAX).min(SCANNED_MAX);
        let next = match line.and_then(|line| line.parse::<u64>().ok()) {
            Some(0) if number + 1 < more => (number + 1) << CURSOR_BITS,
            Some(0) => 0,
            Some(cursor) if cursor >> CURSOR_BITS == 0 => cursor | number << CURSOR_BITS,
            _ => return Bytes::from_static(CURSOR),
        };
        let mut out = BytesMut::new();
        let mut writer = Reply::new(&mut out, self.protocol);
        writer.array(2);
        writer.bulk(next.to_string().as_bytes());
        writer.raw(keys);
        out.freeze()
    }
}
