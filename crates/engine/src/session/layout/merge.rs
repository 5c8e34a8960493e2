//! Merges a written value with what others have written since the writer read, member by member; and puts a value together without
//! members that are lost.
//!
//! It never decides whose read a write was based on (its caller was told) and never invents a value: every member of the result
//! is, byte for byte, one of the written value or one of the present value. Called where a string is written.
//!
//! | a member, seen from the writer's read | in the result |
//! |---|---|
//! | the writer changed or added it | the writer's |
//! | the writer removed it | gone |
//! | the writer left it alone | as it is at present, or gone if others removed it |
//!
//! So of two writers of the same member the later wins, and of different members both survive. The order is that of the present
//! value, with what is new behind it. What cannot be divided, is of another form, or has PHP values that refer to each other
//! cannot be merged: the write replaces all.
//!
//! Invariant: if nobody else wrote since the read, the result is the written value byte for byte.

use super::{Form, HEAD, Layout, MEMBERS_MAX, Piece, Split, TAIL, json, msgpack, php, split};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;

/// The value to store when `written` is written on a read of `read`, and `present` is there. `None`: they cannot be merged.
pub fn merge(layout: Layout, read: &Bytes, written: &Bytes, present: &Bytes) -> Option<Bytes> {
    if present == read || present == written {
        return Some(written.clone());
    }
    if written == read {
        return Some(present.clone());
    }
    let (read, written, present) = (split(layout, read)?, split(layout, written)?, split(layout, present)?);
    let alike = read.form == written.form && written.form == present.form;
    if !(alike && written.independent && present.independent) {
        return None;
    }
    let (was, wants) = (by_name(&read), by_name(&written));
    let mut members: Vec<&Bytes> = Vec::new();
    for (name, piece) in present.members() {
        match (wants.get(name), was.get(name)) {
            (Some(new), Some(old)) if core(written.form, new) == core(written.form, old) => members.push(piece),
            (Some(new), _) => members.push(new),
            (None, Some(_)) => {}
            (None, None) => members.push(piece),
        }
    }
    let there = by_name(&present);
    for (name, piece) in written.members().filter(|(name, _)| !there.contains_key(name)) {
        let unchanged = was.get(name).is_some_and(|old| core(written.form, old) == core(written.form, piece));
        if !unchanged {
            members.push(piece);
        }
    }
    if members.len() > MEMBERS_MAX {
        return None;
    }
    join(&members, &read, &written, &present)
}

/// A divided value again, of the pieces that are left of it. `None`: they mean something else without those that are not.
pub fn joined(layout: Layout, pieces: &[Piece]) -> Option<Bytes> {
    let members: Vec<&Bytes> = pieces.iter().filter(|(name, _)| !super::is_skeleton(name)).map(|(_, piece)| piece).collect();
    let bytes = members.iter().try_fold(0_usize, |sum, piece| sum.checked_add(piece.len()))?;
    let skeleton =
        |part: Bytes| pieces.iter().find(|(name, _)| *name == part).map(|(_, piece)| piece.clone()).unwrap_or_default();
    let (head, tail) = match layout {
        Layout::Json => (json::join(&members), Bytes::new()),
        Layout::Msgpack => (msgpack::head_with(&skeleton(HEAD), members.len())?, skeleton(TAIL)),
        Layout::Php => match skeleton(HEAD).first() {
            None => (Bytes::new(), Bytes::new()),
            Some(b's') => php::ends_with(Form::PhpWrapped, members.len(), bytes)?,
            Some(_) => php::ends_with(Form::PhpArray, members.len(), bytes)?,
        },
        Layout::Hash | Layout::Key | Layout::Opaque => return None,
    };
    let mut out = BytesMut::from(head);
    if layout != Layout::Json {
        members.iter().for_each(|piece| out.extend_from_slice(piece));
    }
    out.extend_from_slice(&tail);
    let whole = out.freeze();
    let names = pieces.iter().map(|(name, _)| name).filter(|name| !super::is_skeleton(name));
    let reads_as_before = match split(layout, &whole) {
        Some(split) => split.independent && split.members().map(|(name, _)| name).eq(names),
        None => members.is_empty(),
    };
    reads_as_before.then_some(whole)
}

impl Split {
    /// The members in order, without the skeleton.
    pub fn members(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.pieces.iter().filter(|(name, _)| !super::is_skeleton(name)).map(|(name, piece)| (name, piece))
    }

    fn skeleton(&self, name: &Bytes) -> Bytes {
        self.pieces.iter().find(|(n, _)| n == name).map(|(_, piece)| piece.clone()).unwrap_or_default()
    }
}

fn by_name(split: &Split) -> HashMap<&Bytes, &Bytes> {
    split.members().collect()
}

/// What a piece says, without what its place among the others adds.
fn core(form: Form, piece: &[u8]) -> &[u8] {
    if form == Form::Json { json::core(piece) } else { piece }
}

/// The value with these members, its skeleton made for their number.
fn join(members: &[&Bytes], read: &Split, written: &Split, present: &Split) -> Option<Bytes> {
    let bytes = members.iter().try_fold(0_usize, |sum, piece| sum.checked_add(piece.len()))?;
    let form = written.form;
    let (head, tail) = match form {
        Form::Json => return Some(json::join(members)),
        Form::Msgpack | Form::MsgpackRecord => {
            // Around the map the writer's bytes are the newer ones, unless only others have changed them.
            let newer = |name: &Bytes| {
                if written.skeleton(name) == read.skeleton(name) { present.skeleton(name) } else { written.skeleton(name) }
            };
            (msgpack::head_with(&newer(&HEAD), members.len())?, newer(&TAIL))
        }
        Form::PhpArray | Form::PhpWrapped => php::ends_with(form, members.len(), bytes)?,
        Form::PhpText | Form::PhpBinary => (Bytes::new(), Bytes::new()),
    };
    let mut out = BytesMut::with_capacity(bytes.saturating_add(head.len()).saturating_add(tail.len()));
    out.extend_from_slice(&head);
    members.iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(&tail);
    Some(out.freeze())
}
