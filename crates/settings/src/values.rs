//! From one raw value to a typed one, by the kind that the table gives the setting.
//!
//! It knows neither keys nor places: what is wrong comes back as a [`Complaint`]. Called by `reader`.
//! Invariant: a value that comes out is within the bounds of its row, and no complaint quotes a value of a private kind.

use crate::gather::Raw;
use crate::listen::{ListenAt, PATH_BYTES_MAX};
use crate::mistake::{Complaint, choose_from, shown};
use crate::redirect::{USER_BYTES_MAX, USERS_MAX};
use crate::table::{Shape, Unit};
use ipnet::IpNet;
use std::net::SocketAddr;

/// Networks of one setting.
const NETWORKS_MAX: usize = 64;

impl Raw {
    /// What it is, for the message that something else was expected.
    fn described(&self) -> &'static str {
        match self {
            Raw::Text(_) | Raw::Bare(_) => "text",
            Raw::Integer { .. } => "a number",
            Raw::Flag(_) => "true or false",
            Raw::Items(_) | Raw::Texts(_) => "a list",
            Raw::Other(name) => name,
        }
    }
}

fn unexpected(raw: &Raw, expected: &str, remedy: &str) -> Complaint {
    Complaint::new(format!("is {}, not {expected}", raw.described()), remedy)
}

/// The text of a value.
pub(crate) fn text(raw: &Raw) -> Result<&str, Complaint> {
    match raw {
        Raw::Text(text) | Raw::Bare(text) => Ok(text),
        other => Err(unexpected(other, "text", "put it in quotes")),
    }
}

/// Text of a shape.
pub(crate) fn shaped(raw: &Raw, shape: Shape, bytes_max: usize) -> Result<String, Complaint> {
    let text = text(raw)?;
    if text.is_empty() {
        return Err(Complaint::new("is empty", "give it a value, or remove it"));
    }
    if text.len() > bytes_max {
        return Err(Complaint::new(format!("has {} bytes", text.len()), format!("{bytes_max} are possible")));
    }
    let (right, remedy): (fn(char) -> bool, _) = match shape {
        Shape::Name => (|c| c.is_ascii_alphanumeric() || "._-".contains(c), "use letters, digits, `.`, `_`, `-`"),
        Shape::Place => (|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c), "use a name, or IP:PORT"),
        Shape::Cookie => {
            (|c| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(c), "use the name of the cookie alone, as in `sid`")
        }
        Shape::Header => (
            |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c),
            "use the name of the header alone, as in `x-session-id`",
        ),
        Shape::Line => (|c| !c.is_control(), "remove the control characters"),
    };
    match text.chars().find(|c| !right(*c)) {
        None => Ok(text.to_owned()),
        Some(wrong) => Err(Complaint::new(format!("{} has {}", shown(text), shown(&wrong.to_string())), remedy)),
    }
}

/// `true` or `false`.
pub(crate) fn flag(raw: &Raw) -> Result<bool, Complaint> {
    match raw {
        Raw::Flag(flag) => Ok(*flag),
        Raw::Bare(text) if text == "true" => Ok(true),
        Raw::Bare(text) if text == "false" => Ok(false),
        Raw::Bare(text) => Err(Complaint::new(format!("{} is not true or false", shown(text)), "write true or false")),
        Raw::Text(_) => Err(unexpected(raw, "true or false", "write true or false, without quotes")),
        other => Err(unexpected(other, "true or false", "write true or false")),
    }
}

/// A whole number within bounds.
pub(crate) fn number(raw: &Raw, unit: Unit, min: u64, max: u64) -> Result<u64, Complaint> {
    let unit = if unit == Unit::Count { String::new() } else { format!(" {}", unit.name()) };
    let remedy = format!("write a whole number from {min} to {max}{unit}");
    let (digits, radix) = match raw {
        Raw::Integer { digits, radix } => (digits.as_str(), *radix),
        Raw::Bare(text) => (text.trim(), 10),
        Raw::Text(_) => return Err(unexpected(raw, "a number", &format!("{remedy}, without quotes and unit"))),
        other => return Err(unexpected(other, "a whole number", &remedy)),
    };
    let cleaned = digits.replace('_', "");
    match u64::from_str_radix(&cleaned, radix) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        Ok(value) if value < min => Err(Complaint::new(format!("{value} is too small"), remedy)),
        Ok(value) => Err(Complaint::new(format!("{value} is too great"), remedy)),
        Err(_) if matches!(raw, Raw::Integer { .. }) => Err(Complaint::new(format!("{} is out of range", shown(digits)), remedy)),
        Err(_) => Err(Complaint::new(format!("{} is not a whole number", shown(digits)), remedy)),
    }
}

/// One of some words.
pub(crate) fn word<'r>(raw: &'r Raw, words: &[&str], later: &[&str]) -> Result<&'r str, Complaint> {
    let text = text(raw)?;
    if words.contains(&text) {
        return Ok(text);
    }
    if later.contains(&text) {
        return Err(Complaint::new(
            format!("{} is not available yet in this version", shown(text)),
            format!("possible: {}", words.join(", ")),
        ));
    }
    Err(Complaint::new(format!("{} is not known", shown(text)), choose_from(text, words)))
}

/// `IP:PORT`.
fn socket_address(raw: &Raw) -> Result<SocketAddr, Complaint> {
    let (Raw::Text(text) | Raw::Bare(text)) = raw else {
        return Err(unexpected(raw, "IP:PORT", "write it in quotes, as in \"127.0.0.1:8080\""));
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let host_and_port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let remedy = match host_and_port {
        Some(("localhost", port)) => format!("write 127.0.0.1:{port}"),
        Some(("" | "*", port)) => format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for all addresses"),
        Some(_) => "write IP:PORT with an address of this machine; names are not looked up here".to_owned(),
        None if text.parse::<std::net::IpAddr>().is_ok() => "add the port, as in 127.0.0.1:8080 or [::1]:8080".to_owned(),
        None => "write IP:PORT, as in 127.0.0.1:8080, with a port up to 65535".to_owned(),
    };
    Err(Complaint::new(format!("{} is not IP:PORT", shown(text)), remedy))
}

/// Networks as CIDR; an address alone is a network of one.
pub(crate) fn networks(raw: &Raw) -> Result<Vec<IpNet>, Complaint> {
    let texts: Vec<&str> = match raw {
        Raw::Texts(texts) => texts.iter().map(String::as_str).collect(),
        raw => text(raw)?.split(',').map(str::trim).filter(|text| !text.is_empty()).collect(),
    };
    if texts.len() > NETWORKS_MAX {
        return Err(Complaint::new(format!("has {} networks", texts.len()), format!("{NETWORKS_MAX} are possible")));
    }
    let read = |text: &str| {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        network.ok_or_else(|| Complaint::new(format!("{} is no network", shown(text)), "write [\"10.0.0.0/8\", \"fd00::/8\"]"))
    };
    texts.into_iter().map(read).collect()
}

/// Users, by name or number.
pub(crate) fn users(raw: &Raw) -> Result<Vec<String>, Complaint> {
    let texts: Vec<&str> = match raw {
        Raw::Texts(texts) => texts.iter().map(String::as_str).collect(),
        raw => text(raw)?.split(',').map(str::trim).collect(),
    };
    if texts.is_empty() || texts.len() > USERS_MAX {
        return Err(Complaint::new(format!("has {} users", texts.len()), format!("write 1 to {USERS_MAX}, or remove it")));
    }
    let is_user = |text: &str| {
        let fits = (1..=USER_BYTES_MAX).contains(&text.len());
        fits && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let read = |text: &str| {
        let no_user =
            || Complaint::new(format!("{} is no user", shown(text)), "write names or numbers, as in [\"app\", \"1000\"]");
        is_user(text).then(|| text.to_owned()).ok_or_else(no_user)
    };
    texts.into_iter().map(read).collect()
}

/// Where to listen; port 0 means any free port.
pub(crate) fn listen(raw: &Raw, beyond_loopback: bool) -> Result<SocketAddr, Complaint> {
    let address = socket_address(raw)?;
    if beyond_loopback || address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    let message = format!("{} is beyond loopback, which needs TLS that is not available yet in this version", address.ip());
    Err(Complaint::new(message, format!("write 127.0.0.1:{}", address.port())))
}

/// Where the state face listens: an address as in [`listen`], or a Unix socket.
pub(crate) fn listen_at(raw: &Raw) -> Result<ListenAt, Complaint> {
    match raw {
        Raw::Text(text) | Raw::Bare(text) => match text.strip_prefix("unix:") {
            Some(path) => ListenAt::of_path(path),
            None if text.starts_with(['/', '.']) => {
                let message = format!("{} is not IP:PORT", shown(text));
                Err(Complaint::new(message, "write unix:/ and the rest of the path, if it is a Unix socket"))
            }
            None => listen(raw, true).map(ListenAt::Tcp),
        },
        raw => listen(raw, true).map(ListenAt::Tcp),
    }
}

/// Where the instance listens. The path of its socket may be relative, for it is only connected to.
pub(crate) fn instance(raw: &Raw) -> Result<ListenAt, Complaint> {
    let (Raw::Text(text) | Raw::Bare(text)) = raw else { return address(raw).map(ListenAt::Tcp) };
    let Some(path) = text.strip_prefix("unix:") else { return address(raw).map(ListenAt::Tcp) };
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.chars().any(char::is_control) {
        let remedy = format!("write unix: and a path of 1 to {PATH_BYTES_MAX} bytes, as in unix:/run/app.sock");
        return Err(Complaint::new(format!("{} names no Unix socket", shown(text)), remedy));
    }
    Ok(ListenAt::Unix(path.into()))
}

/// Where somebody else listens.
fn address(raw: &Raw) -> Result<SocketAddr, Complaint> {
    let address = socket_address(raw)?;
    if address.port() == 0 {
        return Err(Complaint::new("port 0 cannot be connected to", "write the port on which it listens"));
    }
    if address.ip().is_unspecified() {
        let message = format!("{} is an address to listen on, not to connect to", address.ip());
        return Err(Complaint::new(message, format!("write 127.0.0.1:{}", address.port())));
    }
    Ok(address)
}
