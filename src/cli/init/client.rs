//! A small Redis client that only reads: one connection, commands in batches, replies in order.
//!
//! It cannot send a command that is not in [`READS`], so `init` changes nothing whatever it is told. Every reply has a bound and
//! a deadline; after an error the connection is of no use.
//! Invariant: as many replies come back as commands were sent.

use crate::upstream::{Dialer, Wire, auth};
use bytes::{Bytes, BytesMut};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayfarer_engine::command::encode_request;
use wayfarer_engine::wire::resp::{FrameScanner, elements, frame_len};
use wayfarer_settings::Upstream;

/// What may be sent. AUTH and SELECT change the connection alone.
const READS: [&str; 13] =
    ["AUTH", "SELECT", "PING", "INFO", "DBSIZE", "SCAN", "TYPE", "PTTL", "MEMORY", "STRLEN", "GETRANGE", "HLEN", "HRANDFIELD"];
/// Each batch of replies may take this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest reply, in bytes: ten names of fields, or a page of names of keys.
const REPLY_BYTES_MAX: usize = 8 << 20;
/// Most elements of a reply.
const ELEMENTS_MAX: usize = 100_000;

/// One reply; other types do not come from these commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// A simple or bulk string.
    Text(Bytes),
    Integer(i64),
    Nil,
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn integer(&self) -> Option<i64> {
        if let Reply::Integer(number) = self { Some(*number) } else { None }
    }

    pub(super) fn text(&self) -> Option<&Bytes> {
        if let Reply::Text(text) = self { Some(text) } else { None }
    }
}

/// See the head of this file.
pub(super) struct Client {
    stream: Wire,
    input: BytesMut,
    /// Read so far.
    pub bytes: u64,
}

/// One command.
pub(super) fn command<const N: usize>(words: [&[u8]; N]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word)).collect()
}

impl Client {
    /// Connects and signs in. The error says what to look at, and never quotes the password.
    pub(super) async fn connect(upstream: &Upstream) -> Result<Client, String> {
        let place = &upstream.place;
        let dialer = Dialer::new(upstream).map_err(|unfit| unfit.to_string())?;
        let stream = dialer.connect().await.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => format!("{place} does not answer in time"),
            _ => format!("{place} cannot be reached: {error}"),
        })?;
        let mut client = Client { stream, input: BytesMut::new(), bytes: 0 };
        if let Some(auth) = auth(upstream)
            && let Reply::Error(_) = client.one(auth).await?
        {
            return Err(format!("{place} refuses the user or the password of the URL"));
        }
        match client.one(command([b"PING"])).await? {
            Reply::Error(text) if text.starts_with("NOAUTH") => {
                Err(format!("{place} wants a password: write redis://:PASSWORD@{place} or redis://USER:PASSWORD@{place}"))
            }
            Reply::Error(text) => Err(format!("{place} says {text}")),
            _ => Ok(client),
        }
    }

    /// One command, one reply.
    pub(super) async fn one(&mut self, command: Vec<Bytes>) -> Result<Reply, String> {
        Ok(self.all(&[command]).await?.pop().unwrap_or(Reply::Nil))
    }

    /// Sends all, then reads all replies.
    pub(super) async fn all(&mut self, commands: &[Vec<Bytes>]) -> Result<Vec<Reply>, String> {
        let mut output = BytesMut::new();
        for command in commands {
            let name = command.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default();
            if !READS.contains(&name.as_str()) {
                return Err(format!("{name} is not a command that `init` sends"));
            }
            encode_request(command, &mut output);
        }
        let exchange = async {
            self.stream.write_all(&output).await.map_err(|e| format!("the connection is gone: {e}"))?;
            self.stream.flush().await.map_err(|e| format!("the connection is gone: {e}"))?;
            let mut replies = Vec::with_capacity(commands.len());
            for _ in commands {
                replies.push(self.reply().await?);
            }
            Ok(replies)
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| format!("no reply within {} s", PATIENCE.as_secs()))?
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        let mut scanner = FrameScanner::new(REPLY_BYTES_MAX, ELEMENTS_MAX);
        loop {
            if let Some(frame) = scanner.scan(&self.input).map_err(|e| e.to_string())? {
                let reply = self.input.split_to(frame.len.min(self.input.len())).freeze();
                return parsed(&reply).ok_or_else(|| "that is no Redis: its reply is not RESP2".to_owned());
            }
            let read = self.stream.read_buf(&mut self.input).await.map_err(|e| format!("the connection is gone: {e}"))?;
            if read == 0 {
                return Err("the server closed the connection".to_owned());
            }
            self.bytes = self.bytes.saturating_add(u64::try_from(read).unwrap_or(0));
        }
    }
}

/// One whole reply; lists within lists only as deep as SCAN nests them.
fn parsed(reply: &Bytes) -> Option<Reply> {
    let end = reply.iter().position(|byte| *byte == b'\n')?;
    let line = reply.get(1..end)?.strip_suffix(b"\r")?;
    match reply.first()? {
        b'+' => Some(Reply::Text(reply.slice_ref(line))),
        b'-' => Some(Reply::Error(String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(200).collect())),
        b':' => std::str::from_utf8(line).ok()?.parse().ok().map(Reply::Integer),
        b'$' if line == b"-1" => Some(Reply::Nil),
        b'*' if line == b"-1" => Some(Reply::Nil),
        b'$' => {
            let text = reply.get(end.checked_add(1)?..)?.strip_suffix(b"\r\n")?;
            Some(Reply::Text(reply.slice_ref(text)))
        }
        b'*' => {
            let inner = elements(reply, ELEMENTS_MAX)?;
            let within = |element: &[u8]| {
                let nested =
                    element.first() == Some(&b'*') && elements(element, ELEMENTS_MAX)?.iter().any(|e| e.first() == Some(&b'*'));
                frame_len(element, element.len(), ELEMENTS_MAX).ok()??;
                if nested { None } else { parsed(&reply.slice_ref(element)) }
            };
            inner.into_iter().map(within).collect::<Option<Vec<_>>>().map(Reply::List)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_replies_of_these_commands_are_read() {
        let read = |text: &str| parsed(&Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(read("+OK\r\n"), Some(Reply::Text("OK".into())));
        assert_eq!(read(":-12\r\n"), Some(Reply::Integer(-12)));
        assert_eq!(read("$-1\r\n"), Some(Reply::Nil));
        assert_eq!(read("$4\r\na\r\nb\r\n"), Some(Reply::Text("a\r\nb".into())));
        let scan = Reply::List(vec![Reply::Text("0".into()), Reply::List(vec![Reply::Text("k".into())])]);
        assert_eq!(read("*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n"), Some(scan));
        assert_eq!(read("*1\r\n*1\r\n*1\r\n:1\r\n"), None);
        assert_eq!(read("%0\r\n"), None);
    }
}
