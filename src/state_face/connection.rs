//! One client of the state face: its loop, and its bounds.
//!
//! It never decides what becomes of a command (`dispatch` does) and never waits for one thing while it could do another: bytes of
//! the client, room in its socket, operations under way and the upstream are waited for together.
//!
//! ```text
//!  ┌► execute what is received, as far as the bounds allow ► write what is ready ► wait for any of:
//!  │   bytes · room to write · an operation under way · the upstream · shutdown · a client that takes nothing for too long
//!  └──────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! | bound | when it is hit |
//! |---|---|
//! | commands in flight | no more commands are read |
//! | bytes of replies not taken, its own and of all | no more commands are read; if none of its own many are taken for a time, the client is disconnected and counted |
//! | what the upstream takes to answer a client that has gone | its connection there is dropped: at once from a command that blocks |
//! | bytes and arguments of a command | the client is told the protocol error and disconnected |
//!
//! Invariant: a client that misbehaves costs its own bounds and nothing else.

use super::lanes::Lanes;
use super::merging::Known;
use super::output::{Output, Share};
use super::sifting::Sifting;
use super::socket::Socket;
use super::subscriptions::Channels;
use super::timers::{arm, pause};
use super::together::Together;
use super::transaction::{Queue, Then, Watch};
use super::upstream::{Event, Link};
use super::{Face, Sessions, stopped};
use crate::replies::{Out, Replies, Unit};
use crate::telemetry::names;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use wayfarer_engine::command::Parsed;
use wayfarer_engine::command::connection::Connection;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::{RequestLimits, RequestParser};

/// Arguments of one command, as in Redis.
const ARGS_MAX: usize = 1024 * 1024;
/// An idle client holds this much room for its next command; a busy one more.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Most room for what is read at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Replies are written before more commands are executed when so many bytes of them have been added.
const WRITE_BYTES: usize = 64 * 1024;
/// While nothing of a client is read, it is looked so often whether it has gone.
const LOOK: Duration = Duration::from_secs(1);
/// So many times in a row a client that only asks and is answered at once is waited for without a look at anything else.
const QUIET_TURNS_MAX: u32 = 64;

/// One client.
pub(super) struct Client<S> {
    pub(super) face: Arc<Face<S>>,
    pub(super) connection: Connection,
    pub(super) replies: Replies<Output>,
    share: Share,
    pub(super) lanes: Lanes,
    /// Operations under way: their session, unit and reply.
    pub(super) slow: JoinSet<(SessionId, Unit, Bytes)>,
    pub(super) link: Option<Link>,
    /// Between MULTI and EXEC.
    pub(super) queue: Option<Queue>,
    pub(super) watch: Watch,
    /// Replies that are changed before the client gets them.
    pub(super) changes: HashMap<Unit, Then>,
    /// Renames from one session to another that are under way, with the other.
    pub(super) across: HashMap<Unit, SessionId>,
    /// No later command is begun before this reply has come.
    pub(super) barrier: Option<Unit>,
    /// What it listens to.
    pub(super) channels: Channels,
    pub(super) sifting: Sifting,
    /// What it has read, for writes that are merged.
    pub(super) known: Known,
    /// After SUBSCRIBE and the like: everything is the upstream's.
    pub(super) tunnel: bool,
    /// Takes no more commands, and closes when the replies are sent.
    pub(super) closing: bool,
    /// A script has run: others have their turn before the next command.
    pub(super) turn_is_over: bool,
    /// A command that waits until no reply is due.
    held: Option<Parsed>,
    pub(super) parser: RequestParser,
    /// Operations that were answered at once and are not in the metrics yet.
    pub(super) hot: u64,
    input: BytesMut,
    read_bytes: usize,
    end_of_input: bool,
    /// It will send nothing more; there may be some that is not read yet.
    gone: bool,
}

/// What an event of the loop was.
enum Woken {
    Read(std::io::Result<usize>),
    Wrote(std::io::Result<usize>),
    Finished(Result<(SessionId, Unit, Bytes), JoinError>),
    Upstream(Event),
    /// Something has come for a subscriber.
    News,
    /// What the upstream said to a subscriber may go on, or was dropped.
    Sifted(Option<Bytes>),
    Shutdown,
    Stalled,
    /// The upstream has been silent for too long, and its client is gone.
    Overdue,
    Look,
}

impl<S: Sessions> Client<S> {
    /// A client that has just connected.
    pub(super) fn new(face: Arc<Face<S>>, id: u64) -> Client<S> {
        let frame_bytes_max = face.state.frame_bytes_max;
        let limits = RequestLimits { args_max: ARGS_MAX, bulk_bytes_max: frame_bytes_max, frame_bytes_max };
        let password_is_set = face.state.password.is_some();
        let share = Share::of(face.unread.clone());
        Client {
            face,
            share,
            connection: Connection::new(id, password_is_set),
            replies: Replies::default(),
            lanes: Lanes::default(),
            slow: JoinSet::new(),
            link: None,
            queue: None,
            watch: Watch::default(),
            changes: HashMap::new(),
            across: HashMap::new(),
            barrier: None,
            channels: Channels::default(),
            sifting: Sifting::default(),
            known: Known::default(),
            tunnel: false,
            closing: false,
            turn_is_over: false,
            held: None,
            parser: RequestParser::new(limits),
            hot: 0,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            end_of_input: false,
            gone: false,
        }
    }

    /// Serves it to the end.
    pub(super) async fn serve(mut self, mut stream: Socket, mut shutdown: watch::Receiver<bool>) {
        stream.hurry();
        let in_order = self.turn(&mut stream, &mut shutdown).await;
        // What is under way goes on to its end, as it would in Redis when a client leaves.
        self.slow.detach_all();
        if in_order {
            stream.close().await;
        }
    }

    /// The loop. False: the connection is gone.
    async fn turn(&mut self, stream: &mut Socket, shutdown: &mut watch::Receiver<bool>) -> bool {
        let stall = self.face.stall;
        let (stalled, overdue) = (tokio::time::sleep(stall), tokio::time::sleep(stall));
        tokio::pin!(stalled, overdue);
        // One for all turns, so that it is put into the list of those who wait, and taken out of it, only once.
        let stopping = stopped(shutdown);
        tokio::pin!(stopping);
        let (mut timing, mut owing, mut quiet_turns) = (false, false, 0);
        let mut together = Together::default();
        loop {
            let more = self.process();
            if self.hot > 0 {
                self.face.metrics.hot.increment(std::mem::take(&mut self.hot));
            }
            // Only where nothing but the client's next bytes could come meanwhile.
            if quiet_turns > 0 && !more && !self.replies.out.is_empty() {
                together.wait().await;
            }
            match self.replies.out.write_to(stream) {
                Ok(true) => timing = false,
                Ok(false) => {}
                Err(()) => return false,
            }
            self.share.follow(self.replies.bytes());
            if more && !self.is_full() {
                // Others of the same thread have their turn between two rounds.
                tokio::task::yield_now().await;
                continue;
            }
            if self.gone && self.link.as_ref().is_some_and(Link::blocks) {
                // As Redis does: what another client sends must not go to one that is not there.
                self.let_upstream_go();
                continue;
            }
            if self.is_finished() {
                return true;
            }
            let waits_for_client = !self.replies.out.is_empty() && (self.closing || self.is_over());
            arm(stalled.as_mut(), &mut timing, waits_for_client, stall);
            let owed = self.link.as_ref().is_some_and(Link::owes);
            arm(overdue.as_mut(), &mut owing, owed && self.gone, stall);
            let woken = {
                let may_read = !self.closing && !self.end_of_input && self.held.is_none() && !self.is_full();
                if may_read {
                    self.input.reserve(self.read_bytes);
                }
                if may_read && !timing && self.is_quiet() && quiet_turns < QUIET_TURNS_MAX {
                    quiet_turns += 1;
                    let (mut reader, _) = stream.split();
                    tokio::select! {
                        biased;
                        read = reader.read_buf(&mut self.input) => Woken::Read(read),
                        () = &mut stopping => Woken::Shutdown,
                    }
                } else {
                    quiet_turns = 0;
                    let looks = owed && !may_read && !self.gone;
                    let sifts = !self.sifting.is_empty();
                    let held_up = self.is_over() || self.sifting.is_full(self.face.state.output_bytes_max);
                    let (relays, runs, closing) = (self.link.is_some() && !held_up, !self.slow.is_empty(), self.closing);
                    let (takes, listens) = (self.channels.takes(self.replies.out.len()), self.channels.listens());
                    let (mut reader, mut writer) = stream.split();
                    tokio::select! {
                        read = reader.read_buf(&mut self.input), if may_read => Woken::Read(read),
                        wrote = writer.write_buf(&mut self.replies.out), if !self.replies.out.is_empty() => Woken::Wrote(wrote),
                        Some(finished) = self.slow.join_next(), if runs => Woken::Finished(finished),
                        event = next(&mut self.link), if relays => Woken::Upstream(event),
                        sifted = self.sifting.next(&self.face.bus), if sifts => Woken::Sifted(sifted),
                        () = self.channels.ready(takes), if listens => Woken::News,
                        () = &mut stopping, if !closing => Woken::Shutdown,
                        () = &mut stalled, if timing => Woken::Stalled,
                        () = &mut overdue, if owing => Woken::Overdue,
                        () = pause(LOOK), if looks => Woken::Look,
                    }
                }
            };
            timing &= !matches!(woken, Woken::Wrote(Ok(_)));
            owing &= !matches!(woken, Woken::Upstream(_));
            self.gone |= matches!(woken, Woken::Look) && is_read_closed(stream);
            if !self.woken(woken) {
                return false;
            }
        }
    }

    /// Takes one event in. False: the connection is of no use any more.
    fn woken(&mut self, woken: Woken) -> bool {
        match woken {
            Woken::Read(Ok(0)) => (self.end_of_input, self.gone) = (true, true),
            Woken::Read(Ok(read)) => {
                let full = read >= self.read_bytes;
                let next = if full { self.read_bytes.saturating_mul(2) } else { self.read_bytes / 2 };
                self.read_bytes = next.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
            }
            Woken::Wrote(Ok(wrote)) => return wrote > 0,
            Woken::Read(Err(error)) | Woken::Wrote(Err(error)) => {
                tracing::debug!(kind = ?error.kind(), "a client's connection broke");
                return false;
            }
            Woken::Finished(Ok((session, unit, reply))) => {
                // What a client publishes to itself comes before the count of who got it.
                if !self.hear_news() {
                    return false;
                }
                self.finished(session, unit, reply);
            }
            Woken::Finished(Err(_)) => {
                tracing::error!("an operation ended in a panic: a bug, please report it; its client is disconnected");
                return false;
            }
            Woken::Upstream(event) => self.upstream_event(event),
            Woken::Sifted(frame) => frame.into_iter().for_each(|frame| self.replies.out.push(frame)),
            Woken::News => return self.hear_news(),
            Woken::Shutdown => self.closing = true,
            Woken::Overdue => {
                tracing::debug!("the upstream does not answer a client that has gone");
                self.let_upstream_go();
            }
            Woken::Look => {}
            Woken::Stalled => {
                metrics::counter!(names::STATE_CLIENTS_STALLED).increment(1);
                tracing::info!("a client that does not read its replies is disconnected ([state] output_bytes_max)");
                return false;
            }
        }
        true
    }

    /// Something has come for a subscriber. False: it reads too slowly.
    fn hear_news(&mut self) -> bool {
        let taken = self.take_news();
        if taken.is_err() {
            tracing::info!("a subscriber that does not read is disconnected ([state] output_bytes_max)");
        }
        taken.is_ok()
    }

    /// The client is gone and the upstream's replies are not waited for.
    fn let_upstream_go(&mut self) {
        self.closing = true;
        if let Some(event) = self.link.as_mut().map(Link::give_up) {
            self.upstream_event(event);
        }
    }

    /// Executes the commands that are here, as far as the bounds allow. True: there may be more when the replies are written.
    fn process(&mut self) -> bool {
        if let Some(held) = self.held.take() {
            self.held = self.dispatch(held);
        }
        let write_at = self.replies.out.len().saturating_add(WRITE_BYTES);
        while !self.closing && self.held.is_none() && !self.is_full() {
            if self.replies.out.len() >= write_at || std::mem::take(&mut self.turn_is_over) {
                return true;
            }
            self.parser.set_stranger(!self.connection.authenticated);
            match self.parser.next(&mut self.input) {
                Ok(Some(args)) if is_http(&args) => {
                    tracing::warn!(
                        "a client spoke HTTP to the state face: its connection is closed, for a web page may be behind it"
                    );
                    metrics::counter!(names::STATE_PROTOCOL_ERRORS).increment(1);
                    self.closing = true;
                }
                Ok(Some(args)) => {
                    self.replies.hush(self.connection.answering.begin());
                    self.held = self.dispatch(wayfarer_engine::command::parse(args));
                }
                Ok(None) => {
                    self.closing |= self.end_of_input;
                    break;
                }
                Err(error) => {
                    metrics::counter!(names::STATE_PROTOCOL_ERRORS).increment(1);
                    self.replies.hush(self.connection.answering.begin());
                    self.replies.write(self.connection.protocol, |reply| reply.error(format!("ERR {error}")));
                    self.closing = true;
                }
            }
        }
        // What stands in the way may be written at once, and then nothing else would wake this client.
        !self.closing && self.held.is_none() && (self.is_over() || self.share.waits())
    }

    /// Whether nothing is under way but what the client sends: no reply, operation, relay or news.
    fn is_quiet(&self) -> bool {
        let nothing_comes = self.slow.is_empty() && self.link.is_none() && self.sifting.is_empty() && !self.channels.listens();
        nothing_comes && self.replies.out.is_empty()
    }

    /// Whether the client has taken too few of its replies.
    fn is_over(&self) -> bool {
        self.replies.bytes() > self.face.state.output_bytes_max
    }

    /// Whether no more commands may be begun.
    fn is_full(&self) -> bool {
        let outgoing = self.link.as_ref().map_or(0, Link::outgoing_bytes);
        let in_flight = self.replies.slots().max(self.slow.len());
        self.barrier.is_some()
            || !self.sifting.is_empty()
            || in_flight >= self.face.state.pipeline_depth_max
            || self.is_over()
            || self.share.waits()
            || outgoing > self.face.state.output_bytes_max
    }

    fn is_finished(&self) -> bool {
        self.closing && self.replies.slots() == 0 && self.replies.out.is_empty()
    }
}

async fn next(link: &mut Option<Link>) -> Event {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

/// Whether the other side has closed the connection, or its half of it, whatever is still to be read.
fn is_read_closed(stream: &Socket) -> bool {
    let ready = pin!(stream.ready(Interest::READABLE));
    let mut context = Context::from_waker(Waker::noop());
    matches!(ready.poll(&mut context), Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// Whether this is a line of an HTTP request. A page that a browser of this machine shows can send one with commands as its body,
/// so nothing behind it is executed; Redis does the same.
fn is_http(args: &[Bytes]) -> bool {
    args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:"))
}
