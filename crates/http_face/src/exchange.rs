//! What happens at each stage of one request: pingora's callbacks.
//!
//! | stage | what is done |
//! |---|---|
//! | header read | deadline off; refused if it could be read in two ways; its session found, and where it runs (`elsewhere`); announced if that is here; timeouts of the client set |
//! | connecting | the owner's face, or the instance's one address, for a WebSocket on a connection of its own; a change of the instance's state is logged once |
//! | body in | refused if it comes too slowly |
//! | request out | client's address, trace and request id added; upgrades to WebSockets only; a pass, if it goes to another member |
//! | answer in | a new session of the client noted; hint for balancers; hop-by-hop fields removed; `Connection: close` in a drain; a WebSocket may be silent from now on |
//! | failed | an answer by the table in `answer`, or the connection is cut if one had begun |
//! | end | counted, and noted in the access log |
//!
//! Longer than 400 lines because the callbacks of one request are read in one piece, in their order.
//!
//! It never changes what a body says, never retries what may have been executed (pingora retries idempotent requests, and only when a
//! connection that was used before turns out dead), and never logs a path, header or id. Pingora calls it. Invariant: a
//! session is announced before the first byte of its request goes to the instance, and is not if that goes to another member.

use crate::access::{AccessLog, Line};
use crate::connection::Arrival;
use crate::elsewhere::{self, Elsewhere};
use crate::handshake::Handshakes;
use crate::head::{self, Fault};
use crate::hint::HintSettings;
use crate::request::{Announced, Request};
use crate::settings::{HttpFaceSettings, InstanceAddress};
use crate::world::{now, random, unix_ms};
use crate::{Run, Sessions, answer, forwarding, names, trace};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::any::Any;
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wayfarer_identity::{Asked, Identity, Learned};

/// The proxy from clients to one instance; shared by all connections.
pub(crate) struct Exchange {
    instance: HttpPeer,
    address: InstanceAddress,
    /// Set while the instance cannot be reached, so that only changes are logged.
    unreachable: AtomicBool,
    identity: Identity,
    sessions: Arc<dyn Sessions>,
    stalled_time_max: Duration,
    header_bytes_max: usize,
    body_bytes_per_s_min: u64,
    draining: Arc<AtomicBool>,
    access: Option<AccessLog>,
    hints: Option<HintSettings>,
    elsewhere: Elsewhere,
    handshakes: Handshakes,
}

/// Requests at once on one connection to an instance that speaks HTTP/2; it may say less.
const INSTANCE_STREAMS_MAX: usize = 100;
/// A body may begin as slowly as it likes.
const BODY_GRACE: Duration = Duration::from_secs(30);

impl Exchange {
    pub(crate) fn new(
        settings: &HttpFaceSettings,
        address: SocketAddr,
        sessions: Arc<dyn Sessions>,
        draining: Arc<AtomicBool>,
        access: Option<AccessLog>,
    ) -> io::Result<Exchange> {
        let mut instance = match &settings.app {
            InstanceAddress::Tcp(address) => HttpPeer::new(*address, false, String::new()),
            InstanceAddress::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map_err(|_| io::Error::other(format!("{} is no path of a Unix socket", path.display())))?,
        };
        if settings.app_http2 {
            instance.options.set_http_version(2, 2);
            instance.options.max_h2_streams = INSTANCE_STREAMS_MAX;
        }
        instance.options.connection_timeout = Some(Duration::from_millis(settings.connect_ms_max));
        instance.options.total_connection_timeout = Some(Duration::from_millis(settings.connect_ms_max));
        instance.options.idle_timeout = Some(Duration::from_millis(settings.pool_idle_ms_max));
        // The instance may think as long as it likes (long polls, server-sent events): its read timeout stays off.
        Ok(Exchange {
            instance,
            address: settings.app.clone(),
            unreachable: AtomicBool::new(false),
            identity: settings.session.clone(),
            sessions,
            stalled_time_max: Duration::from_millis(settings.stalled_ms_max),
            header_bytes_max: settings.header_bytes_max,
            body_bytes_per_s_min: settings.body_bytes_per_s_min,
            draining,
            access,
            hints: Some(settings.hints.clone()).filter(|hints| !hints.is_empty()),
            elsewhere: Elsewhere::new(settings, address),
            handshakes: Handshakes::default(),
        })
    }

    /// Says that the session of this request is about to be used here.
    fn announce(&self, header: &RequestHeader, request: &mut Request) {
        let Some(session) = request.session.clone() else { return };
        metrics::counter!(names::ARRIVALS).increment(1);
        let run = Run { came: request.came, method: header.method.as_str(), path: header.uri.path() };
        request.announced = Some(Announced::of(self.sessions.clone(), session, run));
    }

    /// Says which session the client has from this answer on, if it had another one or none. Frameworks send the cookie with
    /// many answers; the same id again is no news.
    fn learn(&self, answer: &ResponseHeader, request: &mut Request) {
        let before = request.session.as_deref();
        match self.identity.of_answer(&answer.headers) {
            Some(Learned::Has(now)) if before != Some(&*now) => {
                metrics::counter!(names::LEARNED, "changed" => if before.is_some() { "true" } else { "false" }).increment(1);
                self.sessions.learned(before, &now);
                request.session = Some(now.into_owned());
                request.is_learned = true;
            }
            Some(Learned::Ended) => request.session = None,
            Some(Learned::Has(_)) | None => {}
        }
    }
}

impl Exchange {
    /// A line of the access log.
    fn note(&self, session: &Session, request: &Request) {
        let Some(log) = &self.access else { return };
        let header = session.req_header();
        let (request_id, trace_id) = request.ids.as_ref().map_or(("", ""), |(request, trace)| (request.as_str(), trace.as_str()));
        let duration = now().saturating_duration_since(request.begun);
        log.note(&Line {
            time_unix_ms: unix_ms().saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(0)),
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            method: header.method.as_str(),
            protocol: match header.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            status: session.response_written().map_or(0, |answer| answer.status.as_u16()),
            request_bytes: session.body_bytes_read(),
            answer_bytes: session.body_bytes_sent(),
            session: request.session.is_some(),
            request_id,
            trace_id,
        });
    }
}

#[async_trait]
impl ProxyHttp for Exchange {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::begun(now())
    }

    /// Pingora's way to hand the connection's context over; the header has just been read.
    fn on_connection_reuse(&self, _session: &mut Session, request: &mut Request, context: Box<dyn Any + Send + Sync>) {
        if let Ok(arrival) = context.downcast::<Arc<Arrival>>() {
            arrival.has_header();
            request.arrival = Some(*arrival);
        }
    }

    async fn early_request_filter(&self, session: &mut Session, request: &mut Request) -> Result<()> {
        session.set_read_timeout(Some(self.stalled_time_max));
        session.set_write_timeout(Some(self.stalled_time_max));
        let checked = match session.as_downstream().as_http1() {
            // What is wrong with the beginning of its body may be known already; nothing of it goes to the instance then.
            Some(_) => request.arrival.as_ref().and_then(|arrival| arrival.fault()).map_or(Ok(()), Err),
            None => {
                request.arrival = session.req_header().extensions.get::<Arc<Arrival>>().cloned();
                if let Some(arrival) = request.arrival.as_ref().filter(|_| session.is_body_empty()) {
                    arrival.has_piece(true);
                }
                head::check_fields(session.req_header(), self.header_bytes_max).map_err(|fault| (fault, true))
            }
        };
        if let Err((fault, in_header)) = checked {
            metrics::counter!(if in_header { names::HEADERS_REFUSED } else { names::BODIES_REFUSED }).increment(1);
            return Err(match fault {
                Fault::TooLarge => Error::new_down(ErrorType::HTTPStatus(431)),
                Fault::Tunnel => Error::new_down(ErrorType::HTTPStatus(405)),
                Fault::Malformed(why) => {
                    tracing::debug!(why, "a request was refused");
                    Error::new_down(ErrorType::InvalidHTTPHeader)
                }
            });
        }
        request.is_admitted = true;
        let header = session.req_header_mut();
        self.elsewhere.admit(header, unix_ms())?;
        let named = self.identity.of_request(Asked { target: header.raw_path(), headers: &header.headers });
        request.session = named.map(Cow::into_owned);
        if let Some(named) = &request.session {
            (request.at, request.came) = self.elsewhere.place(&*self.sessions, named, header).await?;
        }
        match (request.at, &request.arrival) {
            (Some(member), Some(arrival)) => {
                let sessions = self.sessions.clone();
                arrival.is_forwarded(Box::new(move || sessions.is_silent(member)));
            }
            _ => self.announce(header, request),
        }
        Ok(())
    }

    /// Without pingora's compression module: bodies pass as they are.
    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn upstream_peer(&self, session: &mut Session, request: &mut Request) -> Result<Box<HttpPeer>> {
        let mut peer = match request.at {
            Some(member) => elsewhere::peer(member, &self.instance),
            None => Box::new(self.instance.clone()),
        };
        let header = session.req_header();
        if header.version == Version::HTTP_11 && forwarding::asks_for_websocket(header) && session.is_body_empty() {
            self.handshakes.begin(&mut peer);
        }
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        request: &mut Request,
    ) -> Result<()> {
        if request.at.is_some() {
            return Ok(());
        }
        metrics::counter!(names::INSTANCE_CONNECTIONS, "reused" => if reused { "true" } else { "false" }).increment(1);
        if self.unreachable.swap(false, Ordering::Relaxed) {
            tracing::info!(address = %self.address, "the instance can be reached again");
        }
        Ok(())
    }

    fn fail_to_connect(&self, session: &mut Session, _: &HttpPeer, request: &mut Request, mut error: Box<Error>) -> Box<Error> {
        // Nothing of the request has been sent, so it may run here.
        if let Some(member) = request.at.take() {
            elsewhere::count("unreachable");
            self.sessions.unreachable(member);
            request.arrival.iter().for_each(|arrival| arrival.runs_here());
            self.announce(session.req_header(), request);
            error.set_retry(true);
            return error;
        }
        if !self.unreachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(address = %self.address, kind = error.etype().as_str(), "the instance cannot be reached; clients get 502");
        }
        error
    }

    async fn upstream_request_filter(&self, session: &mut Session, out: &mut RequestHeader, request: &mut Request) -> Result<()> {
        let Some(arrival) = &request.arrival else {
            return Error::e_explain(ErrorType::InternalError, "a request without a connection");
        };
        forwarding::upgrade_to_websocket_only(out);
        request.asks_for_websocket = forwarding::asks_for_websocket(out);
        if session.req_header().version == Version::HTTP_2 {
            forwarding::join_cookies(out)?;
        }
        // What another member says of the client it has said with its pass.
        let is_from_member = self.elsewhere.is_for_members();
        trace::follow(out, is_from_member || arrival.peer.is_trusted, random)?;
        if !is_from_member {
            forwarding::name_client(out, arrival.peer)?;
        }
        forwarding::name_host(out)?;
        if let Some(member) = request.at {
            self.elsewhere.sign(member, unix_ms(), out)?;
        }
        if self.access.is_some() {
            request.ids = Some(trace::ids(out));
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        request: &mut Request,
    ) -> Result<()> {
        let bytes = body.as_ref().map_or(0, Bytes::len);
        if let Some(arrival) = &request.arrival {
            arrival.has_piece(end);
        }
        request.body_bytes = request.body_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let taken = now().saturating_duration_since(request.begun);
        let due = self.body_bytes_per_s_min.saturating_mul(taken.as_secs());
        if !end && !request.is_websocket && taken > BODY_GRACE && request.body_bytes < due {
            metrics::counter!(names::BODIES_TOO_SLOW).increment(1);
            return Err(Error::new_down(ErrorType::ReadTimedout));
        }
        if end && bytes == 0 {
            // Pingora writes an empty last piece (of HTTP/2: an empty frame that ends the stream) as the chunk that ends the body, and then
            // that chunk once more for the end: whoever reads it takes the second one for the beginning of the next request.
            *body = None;
        }
        Ok(())
    }

    async fn response_filter(&self, session: &mut Session, answer: &mut ResponseHeader, request: &mut Request) -> Result<()> {
        if let Some(member) = request.at.filter(|_| elsewhere::is_given_back(answer)) {
            elsewhere::count("given_back");
            self.sessions.unreachable(member);
            request.is_given_back = true;
            return Err(Error::new_in(ErrorType::HTTPStatus(503)));
        }
        self.elsewhere.note_place(&*self.sessions, request.session.as_deref(), request.at, answer)?;
        self.learn(answer, request);
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            if !request.asks_for_websocket {
                // What follows would pass unseen, both ways.
                return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
            }
            // A WebSocket may be silent for ever; a client that has vanished is found by the connection's probes.
            session.set_read_timeout(None);
            request.is_websocket = true;
            if let Some(arrival) = &request.arrival {
                arrival.becomes_websocket();
            }
            return Ok(());
        }
        if answer.status.is_informational() {
            return Ok(());
        }
        if let Some(arrival) = &request.arrival {
            arrival.has_answer();
        }
        forwarding::strip_hop_by_hop(answer);
        if let (Some(hints), Some(named)) = (&self.hints, request.session.as_deref())
            // A new session is most likely where the request ran.
            && let Some(owner) = self.sessions.owner(named, request.is_learned && request.at.is_none())
        {
            let scheme = request.arrival.as_ref().map_or("", |arrival| arrival.peer.scheme);
            hints.write(&owner, &session.req_header().headers, scheme, answer)?;
        }
        if session.req_header().version == Version::HTTP_10 {
            // HTTP/1.0 knows no chunks: without a length the end of the connection ends the body.
            answer.remove_header(&header::TRANSFER_ENCODING);
        }
        if self.draining.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
        Ok(())
    }

    /// What a member gives back runs here, if all of its body so far is kept; else as pingora does by itself.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        request: &mut Request,
        reused: bool,
    ) -> Box<Error> {
        let is_kept = !session.as_ref().retry_buffer_truncated();
        if std::mem::take(&mut request.is_given_back) {
            if is_kept {
                request.at = None;
                request.arrival.iter().for_each(|arrival| arrival.runs_here());
                self.announce(session.req_header(), request);
            }
            error.set_retry(is_kept);
        } else if session.req_header().method.is_idempotent() && is_kept {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, request: &mut Request) -> FailToProxy {
        let is_given_up = request.arrival.as_ref().is_some_and(|arrival| request.at.is_some() && arrival.is_given_up());
        if is_given_up {
            elsewhere::count("silent");
        } else if error.esource() == &ErrorSource::Upstream {
            match request.at {
                Some(_) => elsewhere::count("failed"),
                None => metrics::counter!(names::INSTANCE_FAILURES).increment(1),
            }
            tracing::debug!(kind = error.etype().as_str(), "the instance failed a request");
        }
        let mut sent = 0;
        let answer = if is_given_up {
            Some(answer::MEMBER_SILENT)
        } else if request.is_admitted && request.arrival.as_ref().is_some_and(|arrival| arrival.fault().is_some()) {
            // The error is that of a read, as of a client that is gone.
            metrics::counter!(names::BODIES_REFUSED).increment(1);
            Some(answer::MALFORMED)
        } else if request.at.is_some() && error.esource() == &ErrorSource::Upstream {
            Some(answer::MEMBER_GONE)
        } else {
            answer::answer_to(error)
        };
        if let Some(answer) = answer {
            let head = session.req_header().method == Method::HEAD;
            let is_untouched = error.esource() == &ErrorSource::Upstream && answer::is_connect(error.etype());
            let response = answer.into_response(head).and_then(|(mut header, body)| {
                if is_untouched {
                    self.elsewhere.give_back(&mut header)?;
                }
                Ok((header, body))
            });
            let written = match response {
                // Sends nothing when an answer has begun already; the connection is cut then, so that the client sees it.
                Ok((header, body)) => session.write_error_response(header, body).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => {
                    // Not before: who has given its request up has had none.
                    request.arrival.iter().for_each(|arrival| arrival.has_answer());
                    sent = answer.status;
                }
                Err(error) => tracing::debug!(kind = error.etype().as_str(), "a client left before it got its error"),
            }
        }
        FailToProxy { error_code: sent, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, request: &mut Request) {
        if let Some(mut announced) = request.announced.take() {
            announced.answered = error.is_none();
        }
        if request.at.is_some() && error.is_none() {
            elsewhere::count("answered");
        }
        self.note(session, request);
        let status = match session.response_written().map(|answer| answer.status.as_u16() / 100) {
            Some(1) => "1xx",
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            _ => "none",
        };
        metrics::counter!(names::REQUESTS, "status" => status).increment(1);
        metrics::histogram!(names::REQUEST_SECONDS).record(now().saturating_duration_since(request.begun).as_secs_f64());
    }

    /// Pingora's own lines would show paths and header bytes.
    fn suppress_error_log(&self, _session: &Session, _request: &Request, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Request, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, _request: &Request) -> String {
        String::new()
    }
}
