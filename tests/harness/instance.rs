//! An instance of a service for tests, behind a node's HTTP face: real HTTP in, real commands to the node's state face out.
//!
//! It never keeps anything of a session: what it answers it has read from its state face in that request. Each connection is a thread
//! that ends with it. It notes every request that reaches it, so that a test can see that one ran once, and where.
//!
//! | path | what it does | answer |
//! |---|---|---|
//! | `/count` | `HINCRBY s:SID n 1` | `NODE N` |
//! | `/login` | gives the client the session of `X-Login`, and counts there | `NODE N`, `Set-Cookie` |
//! | `/logout` | `DEL s:SID` | `NODE N` |
//! | `/echo` | reads the body | `NODE`, then what it got: the header, and how long the body was |
//! | `/read/NAME` | `HGET s:SID NAME`; with a field `X-Wait` it waits first, as `/wait` | `NODE`, and how long the value was |
//! | `/wait` | waits until the test lets it go | `NODE` |
//! | `/socket` | becomes a WebSocket | each byte back |

use super::Node;
use super::resp::{Client, Reply};
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A request as it reached an instance.
#[derive(Clone, Debug)]
pub struct Got {
    pub target: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body_bytes: usize,
}

impl Got {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Its cookie `sid`.
    fn sid(&self) -> Option<&str> {
        self.field("cookie")?.split("; ").find_map(|pair| pair.strip_prefix("sid="))
    }
}

struct Shared {
    name: String,
    state: SocketAddr,
    ended: AtomicBool,
    /// Its connections, which end with it.
    open: Mutex<Vec<TcpStream>>,
    got: Mutex<Vec<Got>>,
    gate: (Mutex<bool>, Condvar),
}

impl Shared {
    fn wait(&self) {
        let (gate, opens) = &self.gate;
        let is_open = gate.lock().unwrap();
        drop(opens.wait_while(is_open, |is_open| !*is_open).unwrap());
    }
}

/// See the head of this file.
pub struct Instance {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Instance {
    /// Behind this node.
    pub fn of(node: &Node) -> Instance {
        let listener = TcpListener::bind(node.app).unwrap();
        let shared = Arc::new(Shared {
            name: node.name.clone(),
            state: node.state,
            ended: AtomicBool::new(false),
            open: Mutex::default(),
            got: Mutex::default(),
            gate: (Mutex::new(false), Condvar::new()),
        });
        let of_listener = shared.clone();
        start(move || {
            while let Ok((stream, _)) = listener.accept() {
                if of_listener.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_listener.clone();
                shared.open.lock().unwrap().extend(stream.try_clone());
                // A client that goes away in the middle ends its connection, and nothing else.
                start(move || drop(serve(stream, &shared)));
            }
        });
        Instance { shared, address: node.app }
    }

    /// The requests that have reached it, in order.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// How many of them had this target.
    pub fn count_of(&self, target: &str) -> usize {
        self.shared.got.lock().unwrap().iter().filter(|got| got.target == target).count()
    }

    /// Those that wait at `/wait`, and all that come, go on.
    pub fn let_go(&self) {
        *self.shared.gate.0.lock().unwrap() = true;
        self.shared.gate.1.notify_all();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.let_go();
        for stream in self.shared.open.lock().unwrap().drain(..) {
            // Whoever has closed it already is no trouble.
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
        // Wakes the listener, if it still listens.
        drop(TcpStream::connect(self.address));
    }
}

#[allow(clippy::disallowed_methods, reason = "an instance of a test is a few threads, each of which ends with its connection")]
fn start(run: impl FnOnce() + Send + 'static) {
    std::thread::spawn(run);
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut redis = Client::try_to(shared.state)?;
    while let Some(got) = read(&mut input, &mut out)? {
        shared.got.lock().unwrap().push(got.clone());
        let path = got.target.split('?').next().unwrap_or_default();
        if path == "/socket" {
            out.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")?;
            let mut bytes = [0; 4096];
            loop {
                let count = input.read(&mut bytes)?;
                if count == 0 {
                    return Ok(());
                }
                out.write_all(&bytes[..count])?;
            }
        }
        let (status, more, text) = answer(path, &got, shared, &mut redis)?;
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{more}\r\n", text.len());
        out.write_all(format!("{head}{text}").as_bytes())?;
    }
    Ok(())
}

fn answer(path: &str, got: &Got, shared: &Shared, redis: &mut Client) -> Result<(&'static str, String, String)> {
    let name = &shared.name;
    let mut count = |sid: &str| -> Result<(&'static str, String)> {
        Ok(match redis.try_call(&["HINCRBY", &format!("s:{sid}"), "n", "1"])? {
            Reply::Int(n) => ("200 OK", format!("{name} {n}")),
            other => ("500 Internal Server Error", format!("{name} {other:?}")),
        })
    };
    Ok(match path {
        "/count" => {
            let (status, text) = count(got.sid().unwrap_or("none"))?;
            (status, String::new(), text)
        }
        "/login" => {
            let sid = got.field("x-login").unwrap_or("none");
            let (status, text) = count(sid)?;
            (status, format!("set-cookie: sid={sid}; Path=/\r\n"), text)
        }
        "/logout" => {
            let key = format!("s:{}", got.sid().unwrap_or("none"));
            ("200 OK", String::new(), format!("{name} {:?}", redis.try_call(&["DEL", &key])?))
        }
        "/wait" => {
            shared.wait();
            ("200 OK", String::new(), name.clone())
        }
        read if read.starts_with("/read/") => {
            if got.field("x-wait").is_some() {
                shared.wait();
            }
            let key = format!("s:{}", got.sid().unwrap_or("none"));
            match redis.try_call(&["HGET", &key, read.trim_start_matches("/read/")])? {
                Reply::Bulk(value) => ("200 OK", String::new(), format!("{name} {}", value.len())),
                other => ("500 Internal Server Error", String::new(), format!("{name} {other:?}")),
            }
        }
        _ => {
            let fields: String = got.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            ("200 OK", String::new(), format!("{name}\n{fields}body {}\n", got.body_bytes))
        }
    })
}

/// A request with its body, which is thrown away; `None`: there are no more.
fn read(input: &mut BufReader<TcpStream>, out: &mut TcpStream) -> Result<Option<Got>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut fields = Vec::new();
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut got = Got { target, fields, body_bytes: 0 };
    if got.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if let Some(length) = got.field("content-length").and_then(|length| length.parse::<u64>().ok()) {
        got.body_bytes = usize::try_from(std::io::copy(&mut input.take(length), &mut std::io::sink())?).unwrap();
    } else if got.field("transfer-encoding").is_some() {
        loop {
            line.clear();
            input.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            // With the end of its line; the last one has no more lines behind it.
            std::io::copy(&mut input.take(size + 2), &mut std::io::sink())?;
            if size == 0 {
                break;
            }
            got.body_bytes += usize::try_from(size).unwrap();
        }
    }
    Ok(Some(got))
}
