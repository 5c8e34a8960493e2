//! Where the master is, as its sentinels say: asked anew for every connection, so that each goes to the master of its time.
//!
//! It never tells anybody of a failover: connections to the old master break, or answer `READONLY`, and the next one is made here.
//! [`super::Dialer`] asks it.
//!
//! One sentinel after the other, the one that knew last time first: where is the master? Then the server that it names: are you the
//! master (`ROLE`)? One that has just been demoted says no, and the next sentinel is asked.
//! Bounds: [`ASK`] a sentinel.
//! Invariant: a connection that is handed out went to a server that called itself a master.

use super::handshake::{auth, perform};
use super::{Dialer, Wire};
use bytes::Bytes;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_settings::{HostPort, Secret};

/// One sentinel must have answered within this time.
const ASK: Duration = Duration::from_millis(500);
const REFUSED: &str = "a sentinel refuses the question: look at state.sentinel_password";
const UNKNOWN: &str = "the sentinels know no master of the name that [state] upstream says";
const NO_MASTER: &str = "the sentinels name a server that is no master";

/// A connection to the master.
pub(super) async fn reach(dialer: &Dialer, at: &[HostPort], master: &str, password: Option<&Secret>) -> io::Result<Wire> {
    let first = dialer.sentinel.load(Ordering::Relaxed);
    let mut failed = io::Error::from(io::ErrorKind::NotConnected);
    for (number, sentinel) in at.iter().enumerate().cycle().skip(first).take(at.len()) {
        let asked = tokio::time::timeout(ASK, ask(dialer, sentinel, master, password)).await;
        let connected = match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(place) => master_at(dialer, &place).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(wire) => {
                dialer.sentinel.store(number, Ordering::Relaxed);
                return Ok(wire);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn ask(dialer: &Dialer, sentinel: &HostPort, master: &str, password: Option<&Secret>) -> io::Result<HostPort> {
    let mut wire = dialer.to(sentinel).await?;
    let word = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let sign_in = password.map(|password| vec![word("AUTH"), word(password.expose())]);
    let question = vec![word("SENTINEL"), word("get-master-addr-by-name"), word(master)];
    let requests: Vec<_> = sign_in.into_iter().chain([question]).collect();
    let replies = perform(&mut wire, &requests, REFUSED).await?;
    let reply = replies.last().map(Bytes::as_ref).unwrap_or_default();
    place_of(reply).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, UNKNOWN))
}

/// The answer: a list of an address and a port.
fn place_of(reply: &[u8]) -> Option<HostPort> {
    let [host, port] = <[&[u8]; 2]>::try_from(elements(reply, 2)?).ok()?;
    let text = |element: &[u8]| {
        let (_, text) = std::str::from_utf8(element).ok()?.split_once("\r\n")?;
        text.strip_suffix("\r\n").map(str::to_owned)
    };
    Some(HostPort { host: text(host)?, port: text(port)?.parse().ok()? })
}

async fn master_at(dialer: &Dialer, place: &HostPort) -> io::Result<Wire> {
    let mut wire = dialer.to(place).await?;
    let requests: Vec<_> = auth(dialer.upstream()).into_iter().chain([vec![Bytes::from_static(b"ROLE")]]).collect();
    let replies = perform(&mut wire, &requests, super::handshake::REFUSED).await?;
    // A master's role has three parts, a replica's more, a sentinel's fewer.
    let is_master =
        replies.last().and_then(|role| elements(role, 8)).is_some_and(|role| role.first() == Some(&&b"$6\r\nmaster\r\n"[..]));
    if is_master { Ok(wire) } else { Err(io::Error::new(io::ErrorKind::NotConnected, NO_MASTER)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_answer_of_a_sentinel_is_a_place_or_none() {
        let place = place_of(b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("127.0.0.1", 6379));
        for none in
            [&b"*-1\r\n"[..], b"$-1\r\n", b"*0\r\n", b"*2\r\n$1\r\nh\r\n$1\r\nx\r\n", b"*1\r\n$1\r\nh\r\n", b":1\r\n", b""]
        {
            assert_eq!(place_of(none), None);
        }
    }
}
