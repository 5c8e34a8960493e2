//! The configuration of one node, as TOML.
//!
//! It opens nothing but, for a moment, the ports that it looks for. Called by the run before a node starts. The plan of the demo
//! carries what every page needs and defers the rest; the plan for reference carries everything.
//! Invariant: two nodes of one run share the cluster's name, its directory and the key of shown ids, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use crate::model::{COUNTER, Class, ROWS};
use crate::shop::SESSION_COOKIE;

/// What moves with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovePlan {
    /// By the classes of the model: identity and cart at once, the rest when it is read.
    Light,
    /// Everything, before the session answers at its new place: what `bytes_total` is measured by.
    Everything,
}

/// The addresses of one node.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The instance.
    pub app: SocketAddr,
    /// HTTP face: what the balancer talks to.
    pub http: SocketAddr,
    /// State face: what the instance takes for its Redis.
    pub state: SocketAddr,
    /// Control channel between nodes.
    pub control: SocketAddr,
    /// Admin interface.
    pub admin: SocketAddr,
}

impl Addresses {
    /// Five free ports of loopback that are not in `taken`, which gets them. They stay free unless somebody else takes them
    /// before the node does; the node then says so and ends.
    pub fn free(taken: &mut BTreeSet<u16>) -> std::io::Result<Self> {
        const TRIES: usize = 100;
        let mut held = Vec::new();
        let mut found = Vec::new();
        for _ in 0..TRIES {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            held.push(listener);
            if taken.insert(address.port()) {
                found.push(address);
            }
            if let [app, http, state, control, admin] = *found.as_slice() {
                return Ok(Self { app, http, state, control, admin });
            }
        }
        Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "no five free ports"))
    }
}

/// What a node is told.
#[derive(Debug)]
pub struct NodeConfig<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where everything listens.
    pub addresses: Addresses,
    /// The folder of the run: holds the directory.
    pub folder: &'a Path,
    /// 32 hexadecimal digits: key of the shown session ids.
    pub id_key: &'a str,
    /// What moves with a session.
    pub plan: MovePlan,
}

impl NodeConfig<'_> {
    /// The configuration file's text. One worker each: three sidecars, their shops and all users share the machine.
    pub fn to_toml(&self) -> String {
        let Self { name, addresses, id_key, .. } = self;
        let Addresses { app, http, state, control, admin } = addresses;
        // A JSON string is a TOML string: both escape quotes, backslashes and control characters alike.
        let directory = serde_json::Value::from(format!("sqlite:{}", self.folder.join("directory.db").display()));
        let mut text = format!(
            r#"[app]
name = "shop"
version = "1"
address = "{app}"
[http]
listen = "{http}"
session = {{ cookie = "{SESSION_COOKIE}", codec = "plain" }}
[state]
listen = "{state}"
keys = [ {{ pattern = "shop:{{session}}", layout = "hash" }} ]
[cluster]
name = "demo"
node = "{name}"
control = "{control}"
directory = {directory}
[admin]
listen = "{admin}"
id_key = "{id_key}"
[runtime]
workers = 1
"#
        );
        match self.plan {
            MovePlan::Everything => text.push_str("[handover]\ncarried_bytes_max = 67108864\n[policy]\nclass = \"carried\"\n"),
            MovePlan::Light => {
                for (name, class) in rules() {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "[[policy.variable]]\nname = \"{name}\"\nclass = \"{class}\"\n");
                }
            }
        }
        text
    }
}

fn rules() -> impl Iterator<Item = (String, &'static str)> {
    let rows = ROWS.iter().map(|row| {
        let name = if row.per_bucket { format!("{}_*", row.name) } else { row.name.to_owned() };
        let class = match row.class {
            Class::Carried => "carried",
            Class::Streamed => "streamed",
            Class::Deferred => "deferred",
        };
        (name, class)
    });
    rows.chain([(COUNTER.to_owned(), "carried")])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use wayfarer_settings::{Settings, Sources};

    use super::*;

    #[test]
    fn the_sidecar_accepts_both_plans() {
        let mut taken = BTreeSet::new();
        let addresses = Addresses::free(&mut taken).unwrap();
        assert_eq!(taken.len(), 5);
        for plan in [MovePlan::Light, MovePlan::Everything] {
            let config = NodeConfig { name: "a", addresses, folder: Path::new("/x y/\"z"), id_key: &"ab".repeat(16), plan };
            let sources =
                Sources { file: Some(("node.toml".into(), config.to_toml())), host_name: "host".into(), ..Sources::default() };
            let loaded = Settings::load(&sources).map_err(|mistakes| format!("{mistakes:?}")).unwrap();
            assert_eq!(loaded.settings.state.listen.tcp(), Some(addresses.state));
            assert_eq!(loaded.settings.cluster.node, "a");
        }
    }
}
