//! `[redirect]`: the section of transparent mode, from its rows of the table to what does not go together with it.
//!
//! It never looks at the machine: whether a user is there is seen by who writes the rules. `table` takes its rows in, `assemble` reads
//! by it, `checks` asks it.
//!
//! | direction | connections of | to | arrive at |
//! |---|---|---|---|
//! | outbound | the service's users, or all but the sidecar's | the upstream's port | `outbound_port`, on loopback |
//! | inbound | everybody but the sidecar's user | the instance's port | `inbound_port` |
//!
//! Invariant: where a direction is on, it is known whose connections are left alone, and nothing that arrives is sent where it came from.

use crate::checks::Checks;
use crate::kind::{Kind, Setting, Shape};
use crate::reader::Reader;
use crate::rows::{count, row, text};
use crate::settings::Settings;
use crate::upstream::UpstreamPlace;
use ipnet::IpNet;

/// The longest name of a user, in bytes, as Linux has it.
pub(crate) const USER_BYTES_MAX: usize = 32;
/// Users of one setting.
pub(crate) const USERS_MAX: usize = 16;
/// Names of rules begin so, which keeps the tables of others out of reach.
const TABLE_PREFIX: &str = "wayfarer";
/// With what is added to it, the name of a chain of iptables has 28 bytes at most.
const TABLE_BYTES_MAX: usize = 24;
const PORT: Kind = count(1, 65_535);

/// The rows.
pub(crate) const ROWS: [Setting; 9] = [
    row(
        "redirect.outbound",
        Kind::Flag,
        Some("false"),
        "Whether the service's connections to the upstream are redirected to the state face, by the rules of `wayfarer redirect`.",
    ),
    row(
        "redirect.outbound_port",
        PORT,
        Some("7303"),
        "Where they arrive, on the loopback addresses. Only what was redirected is served there.",
    ),
    row(
        "redirect.upstream_port",
        PORT,
        None,
        "To which port they go. Not set: that of state.upstream. With sentinels it must be said.",
    ),
    row(
        "redirect.upstream_networks",
        Kind::Networks,
        Some("0.0.0.0/0,::/0"),
        "To which addresses they go. What goes to another server there is passed through to it, byte for byte.",
    ),
    row(
        "redirect.service_users",
        Kind::Users,
        None,
        "Whose connections they are: names or numbers. Not set: those of all but redirect.sidecar_user.",
    ),
    row(
        "redirect.inbound",
        Kind::Flag,
        Some("false"),
        "Whether connections to the port of app.address are redirected to the HTTP face, those from this machine too.",
    ),
    row(
        "redirect.inbound_port",
        PORT,
        Some("7304"),
        "Where they arrive, on all addresses. Only what was redirected is served there.",
    ),
    row(
        "redirect.sidecar_user",
        text(Shape::Name, USER_BYTES_MAX),
        None,
        "The user as whom this sidecar runs, by name or number, and nobody else: its own connections are never redirected.",
    ),
    row(
        "redirect.table",
        text(Shape::Name, TABLE_BYTES_MAX),
        Some("wayfarer"),
        "Name of the rules, beginning with wayfarer: sidecars that share a network namespace need one each.",
    ),
];

/// `[redirect]`.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the table of settings says what each field means")]
pub struct Redirect {
    pub outbound: bool,
    pub outbound_port: u16,
    pub upstream_port: Option<u16>,
    pub upstream_networks: Vec<IpNet>,
    /// Empty: all but the sidecar's.
    pub service_users: Vec<String>,
    pub inbound: bool,
    pub inbound_port: u16,
    /// Set, if anything is redirected.
    pub sidecar_user: Option<String>,
    pub table: String,
}

impl Redirect {
    /// Whether anything is redirected.
    pub fn is_on(&self) -> bool {
        self.outbound || self.inbound
    }
}

impl Settings {
    /// The port to which connections go that are redirected to the state face.
    pub fn redirected_upstream_port(&self) -> Option<u16> {
        let of_server = |place: &UpstreamPlace| if let UpstreamPlace::Server(at) = place { Some(at.port) } else { None };
        let upstream = self.state.upstream.as_ref();
        self.redirect.upstream_port.or_else(|| of_server(&upstream?.place))
    }
}

pub(crate) fn redirect(read: &mut Reader<'_>) -> Redirect {
    let port = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    Redirect {
        outbound: read.flag("redirect.outbound"),
        outbound_port: port(read.number("redirect.outbound_port")),
        upstream_port: read.optional_number("redirect.upstream_port").map(port),
        upstream_networks: read.networks("redirect.upstream_networks"),
        service_users: read.users("redirect.service_users"),
        inbound: read.flag("redirect.inbound"),
        inbound_port: port(read.number("redirect.inbound_port")),
        sidecar_user: read.optional_text("redirect.sidecar_user"),
        table: read.text("redirect.table"),
    }
}

/// What does not go together.
pub(crate) fn mistakes(settings: &Settings, checks: &mut Checks<'_>) {
    let redirect = &settings.redirect;
    let is_named = redirect.table.strip_prefix(TABLE_PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    if !is_named || redirect.table.contains(['.', '-']) {
        let message = format!("`{}` could be the name of somebody else's rules", redirect.table);
        checks.report(&["redirect.table"], message, "write wayfarer, or wayfarer_ and letters, digits or `_`");
    }
    if redirect.outbound {
        outbound(settings, checks);
    }
    if redirect.inbound {
        inbound(settings, checks);
    }
    if redirect.is_on() {
        users(settings, checks);
    }
}

fn outbound(settings: &Settings, checks: &mut Checks<'_>) {
    const KEYS: [&str; 3] = ["redirect.outbound", "state.upstream", "state.upstream_file"];
    let redirect = &settings.redirect;
    if !settings.state.enabled {
        let message = "connections to Redis would be redirected to a state face that is not enabled".to_owned();
        checks.report(&["redirect.outbound", "state.enabled"], message, "set state.enabled = true, or remove this");
    }
    let Some(upstream) = &settings.state.upstream else {
        let message = "there is no state.upstream, so it is not known which outbound connections go to the service's Redis";
        checks.report(&KEYS, message.to_owned(), "set state.upstream to the Redis that the service uses");
        return;
    };
    let remedy = "remove this, and point the service at state.listen";
    if upstream.tls.is_some() {
        let message = "state.upstream is under TLS, so the service speaks TLS too, which the state face does not";
        checks.report(&KEYS, message.to_owned(), remedy);
    }
    if upstream.is_cluster() {
        let message =
            "state.upstream is a Redis Cluster, to whose nodes the service speaks as such; the state face is one server";
        checks.report(&KEYS, message.to_owned(), remedy);
    }
    if upstream.database != 0 {
        let message = format!(
            "state.upstream names database {}, which would be 0 for a service that counts as its Redis does",
            upstream.database
        );
        let remedy = "leave the database out of the URL, and give the entries of state.keys their database";
        checks.report(&KEYS, message, remedy);
    }
    match (&upstream.place, redirect.upstream_port) {
        (UpstreamPlace::Sentinels(_), None) => {
            let message = "only the sentinels know on which port the master listens".to_owned();
            checks.report(&KEYS, message, "set redirect.upstream_port to that port");
        }
        (UpstreamPlace::Server(at), Some(port)) if at.port != port => {
            let message = format!("is {port}, and state.upstream is at port {}: all would only be passed through", at.port);
            checks.report(&["redirect.upstream_port"], message, "remove it");
        }
        _ => {}
    }
    if settings.redirected_upstream_port() == Some(redirect.outbound_port) {
        let message = "is the port of the upstream itself: what is redirected there would be redirected again".to_owned();
        checks.report(&["redirect.outbound_port", "redirect.upstream_port"], message, "choose another port");
    }
    if redirect.upstream_networks.is_empty() {
        let message = "is empty: no connection would be redirected".to_owned();
        checks.report(&["redirect.upstream_networks"], message, "remove it, or name the network of the upstream");
    }
}

fn inbound(settings: &Settings, checks: &mut Checks<'_>) {
    if !settings.http.enabled {
        let message = "requests would be redirected to an HTTP face that is not enabled".to_owned();
        checks.report(&["redirect.inbound", "http.enabled"], message, "set http.enabled = true, or remove this");
    }
    if settings.app.address.tcp().is_none() {
        let message = "the instance listens at a Unix socket, so there is no port whose connections could be redirected";
        checks.report(
            &["redirect.inbound", "app.address"],
            message.to_owned(),
            "name its IP:PORT in app.address, or remove this",
        );
    }
}

/// Whose connections are redirected, and whose are not.
fn users(settings: &Settings, checks: &mut Checks<'_>) {
    let redirect = &settings.redirect;
    let keys = ["redirect.sidecar_user", "redirect.outbound", "redirect.inbound"];
    let remedy = "run the sidecar as a user of its own, and name that one";
    match redirect.sidecar_user.as_deref() {
        None => {
            let message = "the sidecar's own connections must not be redirected: there is no redirect.sidecar_user".to_owned();
            checks.report(&keys, message, remedy);
        }
        Some(user) if user == "root" || user.bytes().all(|digit| digit == b'0') => {
            let message = format!("is {user}: whatever else runs as root would be exempt with the sidecar");
            checks.report(&["redirect.sidecar_user"], message, remedy);
        }
        Some(user) if redirect.outbound && redirect.service_users.iter().any(|service| service == user) => {
            let message = format!("{user} is the sidecar's user, whose connections are not redirected");
            let remedy = "let service and sidecar run as two users";
            checks.report(&["redirect.service_users", "redirect.sidecar_user"], message, remedy);
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Settings, Sources};

    fn load(text: &str) -> Result<Settings, String> {
        let sources =
            Sources { file: Some(("w.toml".to_owned(), text.to_owned())), host_name: "h".to_owned(), ..Sources::default() };
        let loaded = Settings::load(&sources).map_err(|all| all.iter().map(|m| format!("{m}\n")).collect::<String>())?;
        Ok(loaded.settings)
    }

    const SOUND: &str = "[state]\nupstream = \"redis://redis\"\n[redirect]\nsidecar_user = \"10001\"\noutbound = true\n";

    #[test]
    fn the_port_of_the_upstream_is_redirected() {
        let settings = load(&format!("{SOUND}inbound = true\nservice_users = [\"app\", \"1000\"]")).unwrap();
        assert_eq!(settings.redirected_upstream_port(), Some(6379));
        assert_eq!(settings.redirect.service_users, ["app", "1000"]);
        assert_eq!((settings.redirect.outbound_port, settings.redirect.inbound_port), (7303, 7304));
        let sentinels = SOUND.replace("redis://redis", "redis-sentinel://s/m");
        assert!(load(&sentinels).unwrap_err().contains("w.toml:5: redirect.outbound: only the sentinels know"));
        assert_eq!(load(&format!("{sentinels}upstream_port = 7000")).unwrap().redirected_upstream_port(), Some(7000));
    }

    /// What stands in the docs and in the manifest is used as it stands.
    #[test]
    fn the_examples_load() {
        let manifest = include_str!("../../../deploy/kubernetes/transparent.yaml");
        let (_, block) = manifest.split_once("wayfarer.toml: |\n").unwrap();
        let (block, _) = block.split_once("\n---").unwrap();
        let of_manifest: String = block.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap())).collect();
        let docs = include_str!("../../../docs/transparent.md");
        let (of_docs, _) = docs.split_once("```toml\n").unwrap().1.split_once("```").unwrap();
        for text in [&of_manifest, of_docs] {
            let redirect = load(text).unwrap().redirect;
            assert!(redirect.outbound && redirect.inbound && redirect.sidecar_user.as_deref() == Some("10001"));
        }
    }

    #[test]
    fn nonsense_is_named_with_line_and_remedy() {
        let of = |from: &str, to: &str| load(&SOUND.replace(from, to)).unwrap_err();
        for (from, to, wanted) in [
            ("upstream = \"redis://redis\"", "", "w.toml:5: redirect.outbound: there is no state.upstream"),
            ("redis://redis", "rediss://redis", "w.toml:5: redirect.outbound: state.upstream is under TLS"),
            ("redis://redis", "redis+cluster://redis", "w.toml:5: redirect.outbound: state.upstream is a Redis Cluster"),
            ("redis://redis", "redis://redis/3", "w.toml:5: redirect.outbound: state.upstream names database 3"),
            ("[state]", "[state]\nenabled = false", "w.toml:6: redirect.outbound: connections to Redis would be redirected to a"),
            ("sidecar_user = \"10001\"", "", "w.toml:5: redirect.outbound: the sidecar's own connections"),
            ("10001", "root", "w.toml:4: redirect.sidecar_user: is root"),
            ("10001", "00", "w.toml:4: redirect.sidecar_user: is 00"),
            (
                "outbound =",
                "service_users = \"app,10001\"\noutbound =",
                "w.toml:5: redirect.service_users: 10001 is the sidecar's",
            ),
            ("outbound =", "service_users = \"a b\"\noutbound =", "w.toml:5: redirect.service_users: `a b` is no user"),
            ("outbound =", "outbound_port = 6379\noutbound =", "w.toml:5: redirect.outbound_port: is the port of the upstream"),
            (
                "outbound =",
                "outbound_port = 7301\noutbound =",
                "w.toml:5: redirect.outbound_port: redirect.outbound_port is the same",
            ),
            ("outbound =", "upstream_port = 6380\noutbound =", "w.toml:5: redirect.upstream_port: is 6380"),
            ("outbound =", "upstream_networks = []\noutbound =", "w.toml:5: redirect.upstream_networks: is empty"),
            (
                "outbound =",
                "inbound_port = 3000\ninbound = true\noutbound =",
                "the instance is expected at 127.0.0.1:3000, where",
            ),
            ("[state]", "[http]\nenabled = false\n[state]", "nothing"),
            ("outbound = true", "outbound = true\ntable = \"filter\"", "w.toml:6: redirect.table: `filter` could be"),
            ("outbound = true", "outbound = true\ntable = \"wayfarers\"", "w.toml:6: redirect.table: `wayfarers` could be"),
        ] {
            if wanted == "nothing" {
                load(&SOUND.replace(from, to)).unwrap();
                continue;
            }
            let text = of(from, to);
            assert!(text.contains(wanted) && text.contains("; "), "{to}: {text}");
        }
        let inbound =
            "[app]\naddress = \"unix:app.sock\"\n[http]\nenabled = false\n[redirect]\nsidecar_user = \"w\"\ninbound = true";
        let text = load(inbound).unwrap_err();
        assert!(text.contains("w.toml:7: redirect.inbound: requests would be redirected to an HTTP face"), "{text}");
        assert!(text.contains("w.toml:7: redirect.inbound: the instance listens at a Unix socket"), "{text}");
    }
}
