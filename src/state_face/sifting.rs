//! What the upstream tells a subscriber of session keys, in its order, while it is asked whether that is news.
//!
//! It never decides: [`crate::bus::Sieve`] does. [`super::connection`] puts in what comes through a tunnel and writes what comes out.
//!
//! | a frame | |
//! |---|---|
//! | a message about a session's key | waits for the answer; goes on, or is dropped |
//! | a message about a key of Wayfarer's own | dropped |
//! | the reply to a subscription | noted, then as below |
//! | anything else | at once, or behind what waits |
//!
//! Bounds: while [`FRAMES_MAX`] frames or `[state] output_bytes_max` bytes wait, nothing more is read from the upstream.
//! Invariant: frames leave in the order in which they came, and no command is begun while some wait.

use super::Sessions;
use super::connection::Client;
use crate::bus::{Bus, Of, key_of};
use crate::replies::Out;
use bytes::Bytes;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use wayfarer_engine::command::compound::targets;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::frame::elements;

/// Frames that wait, at most.
const FRAMES_MAX: usize = 4096;

/// A frame, and what is to be asked before it goes on.
struct Frame {
    bytes: Bytes,
    about: Option<(SessionId, Bytes)>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Sifting {
    waiting: VecDeque<Frame>,
    bytes: usize,
    asked: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl Sifting {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more is to be read.
    pub(super) fn is_full(&self, bytes_max: usize) -> bool {
        self.waiting.len() >= FRAMES_MAX || self.bytes > bytes_max
    }

    fn put(&mut self, bytes: Bytes, about: Option<(SessionId, Bytes)>) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.waiting.push_back(Frame { bytes, about });
    }

    /// The next frame when it is its turn; `None`: it was dropped. May be dropped at any time without loss.
    pub(super) async fn next(&mut self, bus: &Arc<Bus>) -> Option<Bytes> {
        let Some(first) = self.waiting.front() else { return std::future::pending().await };
        let passes = match &first.about {
            None => true,
            Some((session, key)) => {
                let (bus, session, key) = (bus.clone(), session.clone(), key.clone());
                let ask = async move {
                    match bus.sieve() {
                        Some(sieve) => sieve.passes(session, key.clone()).await && !bus.is_told(&key),
                        None => true,
                    }
                };
                self.asked.get_or_insert_with(|| Box::pin(ask)).await
            }
        };
        self.asked = None;
        let frame = self.waiting.pop_front().map(|frame| frame.bytes).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(frame.len());
        passes.then_some(frame)
    }
}

/// The texts of a frame of bulk strings; a number stands as it is.
fn texts(frame: &Bytes) -> Option<Vec<Bytes>> {
    let text = |element: &[u8]| {
        let end = element.iter().position(|byte| *byte == b'\n')?;
        let text = element.get(end.checked_add(1)?..)?;
        Some(text.strip_suffix(b"\r\n").map_or_else(Bytes::new, |text| frame.slice_ref(text)))
    };
    elements(frame, 4)?.into_iter().map(text).collect()
}

impl<S: Sessions> Client<S> {
    /// A frame has come through the tunnel.
    pub(super) fn through_tunnel(&mut self, frame: Bytes) {
        let texts = texts(&frame).unwrap_or_default();
        let about = match texts.as_slice() {
            [kind, channel, payload] if kind.as_ref() == b"message" => key_of(channel, payload),
            [kind, _, channel, payload] if kind.as_ref() == b"pmessage" => key_of(channel, payload),
            [kind, name, _] => {
                match kind.as_ref() {
                    b"subscribe" => self.subscribed_upstream(true, Of::Channel, name),
                    b"psubscribe" => self.subscribed_upstream(true, Of::Pattern, name),
                    b"unsubscribe" => self.subscribed_upstream(false, Of::Channel, name),
                    b"punsubscribe" => self.subscribed_upstream(false, Of::Pattern, name),
                    _ => {}
                }
                None
            }
            _ => None,
        };
        if let (Some((_, key)), Some(hidden)) = (&about, self.face.hidden)
            && key.starts_with(hidden)
        {
            return;
        }
        let about = about.and_then(|(number, key)| self.session_in(number, &key));
        if about.is_none() && self.sifting.is_empty() {
            self.replies.out.push(frame);
        } else {
            self.sifting.put(frame, about);
        }
    }

    /// The session of a key of the upstream, and the key's name within it.
    fn session_in(&self, number: u8, key: &Bytes) -> Option<(SessionId, Bytes)> {
        let database = self.face.bus.database(number)?;
        let mut target = targets(std::slice::from_ref(key)).pop()?;
        let session = self.face.understanding.every_key.fill(database, &mut target)?;
        Some((SessionId::copy_of(&session), Bytes::copy_from_slice(&target.key)))
    }
}
