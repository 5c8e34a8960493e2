//! Where the master is, as its sentinels say: asked for every connection, and listened to for failovers.
//!
//! It never decides which of two words is right ([`super::master`] does). [`super::Dialer`] asks it; [`listen`] runs as long as
//! the sidecar.
//!
//! For a connection, one sentinel after the other, the one that knew last time first: where is the master? Then the server that it
//! names: are you the master (`ROLE`)? One that has just been demoted says no, and the next sentinel is asked.
//!
//! Each sentinel is also subscribed to. When it tells of a failover it is asked, and what it says ends the connections to the
//! former master. One that is silent is asked for life every second.
//! Bounds: [`ASK`] a sentinel; one connection to each.
//! Invariant: a connection that is handed out went to a server that called itself a master, and of which no sentinel was known to
//! know better.

use super::handshake::{auth, perform};
use super::master::Word;
use super::{Dialer, Wire};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::FrameScanner;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_settings::{HostPort, Sentinels};

/// One sentinel must have answered within this time.
const ASK: Duration = Duration::from_millis(500);
/// A sentinel that has told nothing for so long is asked for life; it must answer within the same time.
const SILENCE: Duration = Duration::from_secs(1);
/// Pause before one that does not answer is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// What a sentinel says of a master has some forty parts; more are looked at, should there come more.
const FACTS_MAX: usize = 256;
/// One event is a line.
const EVENT_BYTES_MAX: usize = 64 * 1024;
/// What sentinels tell when the master is another one, or is about to be.
const EVENTS: [&str; 4] = ["+switch-master", "+promoted-slave", "+failover-state-reconf-slaves", "+config-update-from"];
const REFUSED: &str = "a sentinel refuses the question: look at state.sentinel_password";
const UNKNOWN: &str = "the sentinels know no master of the name that [state] upstream says";
const NO_MASTER: &str = "the sentinels name a server that is no master";

/// A connection to the master.
pub(super) async fn reach(dialer: &Dialer, sentinels: &Sentinels) -> io::Result<Wire> {
    let first = dialer.sentinel.load(Ordering::Relaxed);
    let mut failed = io::Error::from(io::ErrorKind::NotConnected);
    let (mut agree, mut against) = (false, Vec::new());
    for (number, sentinel) in sentinels.at.iter().enumerate().cycle().skip(first).take(sentinels.at.len()) {
        let asked = tokio::time::timeout(ASK, ask(dialer, sentinel, sentinels)).await;
        let connected = match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(word) if dialer.master.hear(&word) => {
                agree = true;
                master_at(dialer, &word.place).await
            }
            Ok(word) => {
                against.push(word);
                Err(io::Error::new(io::ErrorKind::NotConnected, NO_MASTER))
            }
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
    match against.as_slice() {
        [word, others @ ..] if !agree && others.iter().all(|other| other == word) && against.len() * 2 > sentinels.at.len() => {
            dialer.master.believe(word);
            master_at(dialer, &word.place).await
        }
        _ => Err(failed),
    }
}

/// Hears of failovers from every sentinel for as long as it is polled.
pub(super) async fn listen(dialer: &Arc<Dialer>, sentinels: &Sentinels) {
    let mut hearing = JoinSet::new();
    for sentinel in &sentinels.at {
        let (dialer, sentinel, sentinels) = (dialer.clone(), sentinel.clone(), sentinels.clone());
        hearing.spawn(async move {
            loop {
                if let Err(error) = hear(&dialer, &sentinel, &sentinels).await {
                    tracing::debug!(kind = ?error.kind(), "a sentinel does not tell of failovers");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    hearing.join_all().await;
}

/// Subscribes to one sentinel, and listens until it does not answer.
async fn hear(dialer: &Dialer, sentinel: &HostPort, sentinels: &Sentinels) -> io::Result<()> {
    let subscribing = async {
        let mut wire = signed_in(dialer, sentinel, sentinels).await?;
        let subscribe: Vec<Bytes> = [word("SUBSCRIBE")].into_iter().chain(EVENTS.map(word)).collect();
        say(&mut wire, &subscribe).await?;
        io::Result::Ok(wire)
    };
    let mut wire = tokio::time::timeout(ASK, subscribing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (mut input, mut is_asked) = (BytesMut::new(), false);
    loop {
        match tokio::time::timeout(SILENCE, wire.read_buf(&mut input)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => drop(read?),
            Err(_) if is_asked => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {
                say(&mut wire, &[word("PING")]).await?;
                is_asked = true;
                continue;
            }
        }
        is_asked = false;
        // The confirmation of the subscription is one too: what happened before it is asked for then.
        let mut told = false;
        while let Some(frame) = FrameScanner::new(EVENT_BYTES_MAX, FACTS_MAX).scan(&input).map_err(io::Error::other)? {
            let event = input.split_to(frame.len.min(input.len()));
            let is_pong = event.windows(PONG.len()).any(|part| part == PONG);
            told |= !is_pong;
        }
        if told {
            let heard = tokio::time::timeout(ASK, ask(dialer, sentinel, sentinels)).await;
            dialer.master.hear(&heard.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?);
        }
    }
}

/// What a subscribed connection answers to PING.
const PONG: &[u8] = b"$4\r\npong\r\n";

fn word(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A connection to a sentinel that takes questions.
async fn signed_in(dialer: &Dialer, sentinel: &HostPort, sentinels: &Sentinels) -> io::Result<Wire> {
    let mut wire = dialer.to(sentinel).await?;
    let password = sentinels.password.as_ref().map(|password| vec![word("AUTH"), word(password.expose())]);
    let requests: Vec<_> = password.into_iter().chain([vec![word("PING")]]).collect();
    perform(&mut wire, &requests, REFUSED).await?;
    Ok(wire)
}

async fn say(wire: &mut Wire, request: &[Bytes]) -> io::Result<()> {
    let mut outgoing = BytesMut::new();
    encode_request(request, &mut outgoing);
    wire.write_all(&outgoing).await?;
    wire.flush().await
}

/// The epoch is asked for first: a failover between the two answers makes a word that agrees with none, not a wrong one.
async fn ask(dialer: &Dialer, sentinel: &HostPort, sentinels: &Sentinels) -> io::Result<Word> {
    let mut wire = signed_in(dialer, sentinel, sentinels).await?;
    let question = |what| vec![word("SENTINEL"), word(what), word(&sentinels.master)];
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, UNKNOWN);
    let replies = perform(&mut wire, &[question("master"), question("get-master-addr-by-name")], UNKNOWN).await?;
    let [facts, place] = replies.as_slice() else { return Err(unknown()) };
    Ok(Word { epoch: epoch_of(facts).ok_or_else(unknown)?, place: place_of(place).ok_or_else(unknown)? })
}

fn text(element: &[u8]) -> Option<&str> {
    let (_, text) = std::str::from_utf8(element).ok()?.split_once("\r\n")?;
    text.strip_suffix("\r\n")
}

/// The answer: a list of an address and a port.
fn place_of(reply: &[u8]) -> Option<HostPort> {
    let [host, port] = <[&[u8]; 2]>::try_from(elements(reply, 2)?).ok()?;
    Some(HostPort { host: text(host)?.to_owned(), port: text(port)?.parse().ok()? })
}

/// The answer: a list of names, each with its value behind it.
fn epoch_of(reply: &[u8]) -> Option<u64> {
    let facts = elements(reply, FACTS_MAX)?;
    let mut pairs = facts.chunks_exact(2);
    pairs.find_map(|pair| match pair {
        [name, value] if text(name) == Some("config-epoch") => text(value)?.parse().ok(),
        _ => None,
    })
}

async fn master_at(dialer: &Dialer, place: &HostPort) -> io::Result<Wire> {
    let mut wire = dialer.to(place).await?;
    let requests: Vec<_> = auth(dialer.upstream()).into_iter().chain([vec![Bytes::from_static(b"ROLE")]]).collect();
    let replies = perform(&mut wire, &requests, super::handshake::REFUSED).await?;
    // A master's role has three parts, a replica's more, a sentinel's fewer.
    let is_master =
        replies.last().and_then(|role| elements(role, 8)).is_some_and(|role| role.first() == Some(&&b"$6\r\nmaster\r\n"[..]));
    if is_master {
        Ok(wire.until(dialer.master.retires(place)))
    } else {
        Err(io::Error::new(io::ErrorKind::NotConnected, NO_MASTER))
    }
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

    #[test]
    fn the_epoch_is_found_among_the_facts() {
        let facts = b"*4\r\n$4\r\nname\r\n$12\r\nconfig-epoch\r\n$2\r\n17\r\n$2\r\n18\r\n";
        assert_eq!(epoch_of(facts), None, "a value is no name");
        assert_eq!(epoch_of(b"*4\r\n$4\r\nname\r\n$4\r\nshop\r\n$12\r\nconfig-epoch\r\n$2\r\n17\r\n"), Some(17));
        assert_eq!(epoch_of(b"*1\r\n$12\r\nconfig-epoch\r\n"), None);
        assert_eq!(epoch_of(b":1\r\n"), None);
    }
}
