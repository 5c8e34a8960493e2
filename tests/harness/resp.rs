//! A small blocking Redis client for tests, exact to the byte: what it does not send was not sent, what it reads is what came.
//!
//! It never retries and never reconnects. RESP2, and those types of RESP3 that the tests ask for.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longer than any deadline of the sidecar: what takes longer hangs.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
    /// What comes unasked, in RESP3.
    Push(Vec<Reply>),
}

impl Reply {
    /// A bulk string of this text.
    pub fn text(text: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(text.as_ref().to_vec())
    }

    pub fn ok() -> Reply {
        Reply::Simple("OK".to_owned())
    }

    /// The text of an error; the empty string if it is none.
    pub fn error(&self) -> &str {
        if let Reply::Error(text) = self { text } else { "" }
    }

    /// The texts of a list, in order; numbers as they are written.
    pub fn texts(&self) -> Vec<String> {
        let (Reply::Array(items) | Reply::Push(items)) = self else { return Vec::new() };
        let text = |item: &Reply| match item {
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Simple(text) | Reply::Error(text) => text.clone(),
            Reply::Int(number) => number.to_string(),
            _ => String::new(),
        };
        items.iter().map(text).collect()
    }

    /// Whether it is the error that says: nobody knows now, ask again.
    pub fn is_try_again(&self) -> bool {
        self.error().starts_with("TRYAGAIN ")
    }
}

/// One connection.
pub struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client<UnixStream> {
    /// By a Unix socket.
    pub fn at(path: &Path) -> Result<Client<UnixStream>> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(READ_PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        Client::try_to(address).unwrap()
    }

    pub fn try_to(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(READ_PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// The same connection for another thread, which may only write.
    pub fn writer(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }
}

impl<S: Read + Write> Client<S> {
    /// One command of words without spaces: `say("HGET s:one cart")`.
    pub fn say(&mut self, line: &str) -> Reply {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Reply {
        self.try_call(words).unwrap()
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<Reply> {
        self.send(&encode(words))?;
        self.read()
    }

    /// Bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub fn read(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let bad = || Error::new(ErrorKind::InvalidData, "not a reply");
        let (kind, rest) = line.split_at_checked(1).ok_or_else(bad)?;
        let number = || rest.parse::<i64>().map_err(|_| bad());
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "_" => Reply::Nil,
            "$" | "*" | "%" if number()? < 0 => Reply::Nil,
            "$" => {
                let mut value = vec![0; usize::try_from(number()?).map_err(|_| bad())? + 2];
                self.stream.read_exact(&mut value)?;
                if !value.ends_with(b"\r\n") {
                    return Err(bad());
                }
                value.truncate(value.len() - 2);
                Reply::Bulk(value)
            }
            "*" => Reply::Array((0..number()?).map(|_| self.read()).collect::<Result<_>>()?),
            ">" => Reply::Push((0..number()?).map(|_| self.read()).collect::<Result<_>>()?),
            "%" => Reply::Array((0..number()? * 2).map(|_| self.read()).collect::<Result<_>>()?),
            _ => return Err(bad()),
        })
    }

    /// Whether the other side has closed the connection, after at most the replies that are still on their way.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let text = line.strip_suffix(b"\r\n").ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

/// A command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}
