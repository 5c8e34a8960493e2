//! What can be sent to one client, in pieces that need not follow each other in memory; and how much all clients together leave
//! unread.
//!
//! It never waits and never looks into a reply. [`crate::replies`] adds to it, [`super::connection`] writes it.
//!
//! ```text
//!  pieces: finished; among them large values, shared with the store ► tail: where replies are written
//! ```
//! Large values are not copied: a hundred clients that ask for one of some megabytes and read slowly hold it once, and no worker
//! spends its time on copies. What all of them leave unread is bounded as if each held a copy, for each may: values change.
//!
//! Invariant: bytes leave in the order in which they came.

use super::socket::Socket;
use crate::replies::Out;
use crate::telemetry::names;
use bytes::{Buf, Bytes, BytesMut};
use metrics::Gauge;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wayfarer_engine::wire::resp::Answer;
use wayfarer_engine::wire::resp::reply::APART_BYTES_MIN;

/// A tail that has no bytes keeps room for so many.
const ROOM_BYTES_MAX: usize = 128 * 1024;
/// Pieces that one call of the system writes.
const PIECES_AT_ONCE: usize = 16;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    /// Of the pieces.
    bytes: usize,
    tail: BytesMut,
    /// Values that belong into the tail at these places. Empty but while a reply is written.
    apart: Vec<(usize, Bytes)>,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.bytes.saturating_add(self.tail.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    /// Lets `write` append a reply whose large values are not copied.
    pub(super) fn write<R>(&mut self, write: impl FnOnce(Answer<'_>) -> R) -> R {
        let written = write(Answer { bytes: &mut self.tail, apart: Some(&mut self.apart) });
        if !self.apart.is_empty() {
            let mut taken = 0_usize;
            for (place, value) in std::mem::take(&mut self.apart) {
                let before = self.tail.split_to(place.saturating_sub(taken).min(self.tail.len()));
                taken = place;
                self.add(before.freeze());
                self.add(value);
            }
        }
        written
    }

    fn add(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes = self.bytes.saturating_add(piece.len());
            self.pieces.push_back(piece);
        }
    }

    /// Writes as far as the socket takes it at once. True: something left; `Err`: the connection is gone.
    pub(super) fn write_to(&mut self, stream: &Socket) -> Result<bool, ()> {
        let mut wrote = false;
        while !self.is_empty() {
            let written = if self.pieces.is_empty() {
                stream.try_write(&self.tail)
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES_AT_ONCE];
                let count = self.chunks_vectored(&mut slices);
                stream.try_write_vectored(slices.get(..count).unwrap_or_default())
            };
            match written {
                Ok(0) => return Err(()),
                Ok(n) => {
                    self.advance(n.min(self.len()));
                    wrote = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(()),
            }
        }
        if self.is_empty() && self.tail.capacity() > ROOM_BYTES_MAX {
            // One large reply must not hold its room as long as the connection lives.
            self.tail = BytesMut::new();
        }
        Ok(wrote)
    }
}

impl Out for Output {
    fn push(&mut self, replies: Bytes) {
        if replies.len() < APART_BYTES_MIN {
            return self.tail.extend_from_slice(&replies);
        }
        let before = self.tail.split().freeze();
        self.add(before);
        self.add(replies);
    }

    fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail, |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut().filter(|_| count > 0) {
            let part = count.min(piece.len());
            piece.advance(part);
            count = count.saturating_sub(part);
            self.bytes = self.bytes.saturating_sub(part);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.tail.advance(count.min(self.tail.len()));
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let tail: &'a [u8] = &self.tail;
        let chunks = self.pieces.iter().map(|piece| piece.as_ref()).chain((!tail.is_empty()).then_some(tail));
        into.iter_mut().zip(chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }
}

/// What all clients of a face leave unread.
pub(super) struct Total {
    bytes: AtomicUsize,
    max: usize,
    gauge: Gauge,
}

impl Total {
    /// Nothing, and at most so many bytes about.
    pub(super) fn new(max: usize) -> Total {
        Total { bytes: AtomicUsize::new(0), max, gauge: metrics::gauge!(names::STATE_OUTPUT_BYTES) }
    }
}

/// One client's part of it, for as long as the client is there.
pub(super) struct Share {
    total: Arc<Total>,
    bytes: usize,
    /// Its commands wait because of the others.
    waits: bool,
}

impl Share {
    pub(super) fn of(total: Arc<Total>) -> Share {
        Share { total, bytes: 0, waits: false }
    }

    /// Takes note of what the client has not taken.
    pub(super) fn follow(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            self.total.bytes.fetch_add(bytes - before, Ordering::AcqRel);
        } else if bytes < before {
            self.total.bytes.fetch_sub(before - bytes, Ordering::AcqRel);
        }
        if bytes != before {
            self.total.gauge.set(self.total.bytes.load(Ordering::Acquire) as f64);
        }
        let waits = self.waits();
        if waits && !self.waits {
            metrics::counter!(names::BOUNDS_HIT, "bound" => "output_total_bytes_max").increment(1);
        }
        self.waits = waits;
    }

    /// Whether its next command has to wait until it has taken what is here: there is too much of all. Who has taken everything
    /// never waits.
    pub(super) fn waits(&self) -> bool {
        self.bytes > 0 && self.total.bytes.load(Ordering::Acquire) > self.total.max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.follow(0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use wayfarer_engine::wire::resp::{Protocol, Reply};

    /// All that is to be sent.
    pub(in crate::state_face) fn sent(output: &Output) -> Vec<u8> {
        output.pieces.iter().flatten().chain(&output.tail).copied().collect()
    }

    #[test]
    fn large_values_are_shared_and_stand_where_they_belong() {
        let (large, small) = (Bytes::from(vec![7; APART_BYTES_MIN]), Bytes::from_static(b"small"));
        let mut output = Output::default();
        output.tail().extend_from_slice(b"+1\r\n");
        output.write(|answer| {
            let mut reply = Reply::to(answer, Protocol::Resp2);
            reply.array(4);
            [&large, &small, &large, &small].iter().for_each(|value| reply.shared(value));
        });
        output.push(large.clone());
        output.push(small.clone());
        let mut expected = b"+1\r\n".to_vec();
        Reply::new(&mut BytesMut::new(), Protocol::Resp2).array(0);
        let mut copied = BytesMut::new();
        let mut reply = Reply::new(&mut copied, Protocol::Resp2);
        reply.array(4);
        [&large, &small, &large, &small].iter().for_each(|value| reply.shared(value));
        expected.extend_from_slice(&copied);
        expected.extend_from_slice(&large);
        expected.extend_from_slice(&small);
        assert_eq!((output.len(), sent(&output) == expected), (expected.len(), true));
        let shared = output.pieces.iter().filter(|piece| piece.as_ptr() == large.as_ptr()).count();
        assert_eq!(shared, 3, "not one of them is a copy");
        for step in [1, 3, 10, 1000, APART_BYTES_MIN, 5].into_iter().cycle() {
            assert_eq!((output.remaining(), sent(&output) == expected), (expected.len(), true));
            let mut slices = [IoSlice::new(&[]); PIECES_AT_ONCE];
            let count = output.chunks_vectored(&mut slices);
            assert_eq!(slices[..count].iter().map(|slice| slice.len()).sum::<usize>(), expected.len());
            if expected.is_empty() {
                break;
            }
            let step = step.min(expected.len());
            assert!(!output.chunk().is_empty());
            output.advance(step);
            expected.drain(..step);
        }
        assert!(output.is_empty());
    }

    #[test]
    fn only_who_has_left_something_unread_waits_for_the_others() {
        let total = Arc::new(Total::new(10));
        let mut shares = [(); 3].map(|()| Share::of(total.clone()));
        shares[0].follow(10);
        shares[1].follow(1);
        assert_eq!(shares.each_ref().map(Share::waits), [true, true, false], "the third one owes nothing");
        shares[1].follow(0);
        assert_eq!(shares.each_ref().map(Share::waits), [false, false, false]);
        shares[2].follow(100);
        assert!(shares[0].waits());
        let [first, _, third] = shares;
        drop(third);
        assert!(!first.waits(), "what a client had goes with it");
    }
}
