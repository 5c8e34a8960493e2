//! Requests whose session is at another member: whether they go there, and what is done on either side.
//!
//! It knows no session's place: it asks [`Sessions`], and waits for the answer within a bound. It never lets a request run twice: one that
//! a member does not take at all, because there is no connection to be had, to the member or from it to its instance, runs here; any
//! other failure is the client's to know. The exchange calls it.
//!
//! ```text
//! client ─► face of A: where is the session? ─┬─ here, nowhere, at a member of another version ─► instance of A
//!                                             └─ at B ──with a pass──► face of B for members ─► instance of B
//!                                                  └── no connection, or given back ─► instance of A
//! ```
//!
//! | | the face that clients come to | the face that members come to |
//! |---|---|---|
//! | a pass in the request | is taken away, whoever wrote it | must be there and right, else 403 |
//! | the request | here, or to the owner | here, always: nothing is forwarded twice |
//! | who the client is | added to the request | believed as it is |
//! | hints for balancers | added to the answer | left to the face that the client came to |
//! | its instance cannot be reached | 502 | the same, given back: the sender runs the request |
//! | fields that members say to each other, of anybody else | taken away | taken away |
//! | the session is not here when the answer begins | – | said in the answer, and the sender forgets where it believed it |

use crate::pass::{self, PassKey};
use crate::settings::HttpFaceSettings;
use crate::waiting::{Waiting, WaitingBounds};
use crate::{Came, Member, Place, Sessions, names};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::net::SocketAddr;
use std::time::Duration;

/// Requests with more fields run here: the ones that are added on the way must not make them too many for the other face.
const FIELDS_MAX: usize = 200;

/// Which requests a face takes, and whether it forwards them.
pub(crate) enum Elsewhere {
    /// Anybody's; all run here.
    Never,
    /// Anybody's; those of sessions that other members have go there.
    Forwards { key: PassKey, waiting: Waiting },
    /// Only those that a member has forwarded here, to this address.
    Takes { key: PassKey, address: SocketAddr },
}

impl Elsewhere {
    /// As `settings` say, for the face at `address`.
    pub(crate) fn new(settings: &HttpFaceSettings, address: SocketAddr) -> Elsewhere {
        if let Some(key) = settings.takes_passes.clone() {
            return Elsewhere::Takes { key, address };
        }
        let Some(key) = settings.forwards.clone() else { return Elsewhere::Never };
        let waiting = Waiting::new(WaitingBounds {
            requests_max: settings.waiting_max,
            bytes_max: settings.waiting_bytes_max,
            time_max: Duration::from_millis(settings.waiting_ms_max),
        });
        Elsewhere::Forwards { key, waiting }
    }

    /// Whether this is the face that members come to.
    pub(crate) fn is_for_members(&self) -> bool {
        matches!(self, Elsewhere::Takes { .. })
    }

    /// Takes the pass off a request that has just come; an error if the request needed one that is right.
    pub(crate) fn admit(&self, request: &mut RequestHeader, now_unix_ms: u64) -> Result<()> {
        let is_admitted = match self {
            Elsewhere::Takes { key, address } => key.admits(*address, now_unix_ms, request),
            Elsewhere::Never | Elsewhere::Forwards { .. } => true,
        };
        for field in pass::OURS {
            request.remove_header(&field);
        }
        if !is_admitted {
            metrics::counter!(names::PASSES_REFUSED).increment(1);
            return Err(Error::new_down(ErrorType::HTTPStatus(403)));
        }
        Ok(())
    }

    /// The member to which a request of `session` goes; `None`: it runs here. Waits within the bound if that is not known.
    pub(crate) async fn place(
        &self,
        sessions: &dyn Sessions,
        session: &[u8],
        request: &RequestHeader,
    ) -> Result<(Option<Member>, Came)> {
        let waiting = match self {
            Elsewhere::Takes { .. } => return Ok((None, Came::Forwarded)),
            Elsewhere::Forwards { waiting, .. } if request.headers.len() <= FIELDS_MAX => waiting,
            Elsewhere::Never | Elsewhere::Forwards { .. } => return Ok((None, Came::Directly)),
        };
        match sessions.place(session) {
            Place::Here => Ok((None, Came::Directly)),
            Place::At(member) => Ok((Some(member), Came::Directly)),
            Place::Unknown(found) => {
                let bytes = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
                let found = waiting.within(bytes, found).await;
                let found = found.ok_or_else(|| Error::new_in(ErrorType::HTTPStatus(503)))?;
                Ok((found, Came::LookedUp))
            }
        }
    }

    /// Writes the pass into what goes to `member`; nothing of it changes any more.
    pub(crate) fn sign(&self, member: Member, now_unix_ms: u64, out: &mut RequestHeader) -> Result<()> {
        let Elsewhere::Forwards { key, .. } = self else { return Ok(()) };
        let pass = key.sign(member.address, now_unix_ms, out);
        out.insert_header(pass::PASS, pass)
    }

    /// What the answer to a request of `session` says of its place: read by the one who sent it to `member`, written by who ran it.
    pub(crate) fn note_place(
        &self,
        sessions: &dyn Sessions,
        session: Option<&[u8]>,
        member: Option<Member>,
        answer: &mut ResponseHeader,
    ) -> Result<()> {
        let is_elsewhere = answer.headers.contains_key(&pass::ELSEWHERE);
        for field in pass::OURS {
            // An instance has no say in this.
            answer.remove_header(&field);
        }
        match (member, session) {
            (Some(member), Some(session)) if is_elsewhere => sessions.misplaced(session, member),
            (None, Some(session)) if self.is_for_members() && !sessions.is_here(session) => {
                answer.insert_header(pass::ELSEWHERE, "1")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says in the answer to a request of which nothing has come to the instance that its sender may run it.
    pub(crate) fn give_back(&self, answer: &mut ResponseHeader) -> Result<()> {
        if self.is_for_members() { answer.insert_header(pass::GIVEN_BACK, "1") } else { Ok(()) }
    }
}

/// Whether a member says so.
pub(crate) fn is_given_back(answer: &ResponseHeader) -> bool {
    answer.headers.contains_key(&pass::GIVEN_BACK)
}

/// How to connect to a member: in the version of HTTP that the instances speak, and with the same patience as to the own one.
pub(crate) fn peer(member: Member, instance: &HttpPeer) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(member.address, false, String::new());
    peer.options = instance.options.clone();
    Box::new(peer)
}

/// Counts a request that was to go to another member, by what came of it.
pub(crate) fn count(outcome: &'static str) {
    metrics::counter!(names::FORWARDED, "outcome" => outcome).increment(1);
}
