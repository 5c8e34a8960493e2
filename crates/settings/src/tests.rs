//! Tests of the whole crate: precedence, messages of typical mistakes, examples in `config/`, privacy, random input.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::table::{TABLE, setting};
use proptest::prelude::*;
use std::path::PathBuf;
use wayfarer_certificates::Files;
use wayfarer_engine::plan::{Impact, OnLost};
use wayfarer_engine::session::{Class, Layout};

fn sources(text: &str) -> Sources {
    Sources { file: Some(("w.toml".to_owned(), text.to_owned())), host_name: "host-1".to_owned(), ..Sources::default() }
}

fn load(text: &str) -> Loaded {
    Settings::load(&sources(text)).unwrap_or_else(|mistakes| panic!("{}", lines(&mistakes)))
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("{mistake}\n")).collect()
}

fn mistakes(text: &str) -> String {
    lines(&Settings::load(&sources(text)).unwrap_err())
}

fn example(name: &str) -> String {
    let path = config_folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn config_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

const EXAMPLES: &[&str] = &["minimal.toml", "full.toml", "flask.toml", "express.toml", "hash.toml"];

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = Settings::load(&Sources { host_name: "host-1".to_owned(), ..Sources::default() }).unwrap();
    let s = &loaded.settings;
    assert_eq!(s.app.address.to_string(), "127.0.0.1:3000");
    assert_eq!((s.http.enabled, s.http.listen), (true, "127.0.0.1:8080".parse().unwrap()));
    assert!(s.http.session.is_empty());
    assert_eq!(s.state.keys.patterns().iter().map(KeyPattern::text).collect::<Vec<_>>(), ["sess:{session}", "session:{session}"]);
    assert_eq!((s.state.park_ms_max, s.state.fetch_ms_max), (2500, 100));
    assert_eq!((s.cluster.node.as_str(), s.cluster.groups, s.cluster.lease_ms), ("host-1", 4, 2000));
    assert_eq!((s.cluster.lease_margin_ms, s.cluster.lost_after_ms), (250, None));
    assert_eq!(s.cluster.directory, DirectoryPlace::Sqlite { path: PathBuf::from("wayfarer-directory.db") });
    assert_eq!((s.handover.at_once_max, s.handover.carried_bytes_max, s.handover.trickle), (64, 256 * 1024, true));
    assert_eq!((s.handover.arrivals_to_adopt, s.handover.arrival_gap_ms, s.handover.residence_ms_min), (3, 20, 1000));
    assert_eq!((s.drain.budget_ms, s.child.stop_ms_max), (30_000, 10_000));
    let default = s.policy.default;
    assert_eq!((default.class, default.impact, default.on_lost), (Class::Streamed, Impact::High, OnLost::Error));
    assert_eq!((s.admin.listen, s.probe.listen), ("127.0.0.1:7301".parse().unwrap(), None));
    let warned: Vec<&str> = loaded.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(warned, ["state.upstream", "http.session", "cluster.directory", "admin.id_key"]);
}

#[test]
fn every_row_of_the_table_is_read_and_its_default_is_right() {
    let mut gathered = gather::Gathered::of_defaults();
    // An entry of each kind, so that what belongs to entries is asked for.
    gathered.add_overrides(&[
        r#"state.keys=[{pattern="a{session}",layout="json"}]"#.into(),
        r#"policy.variable=[{name="a"}]"#.into(),
        r#"state.listener=[{listen="127.0.0.1:1"}]"#.into(),
        r#"http.session=[{cookie="a"}]"#.into(),
    ]);
    let mut found = Vec::new();
    let mut reader = reader::Reader::new(&gathered.fields, &mut found);
    assemble::settings(&mut reader, "host");
    let asked = std::mem::take(&mut reader.asked);
    assert_eq!(lines(&found) + &lines(&gathered.mistakes), "");
    for setting in TABLE {
        assert!(asked.contains(&setting.key), "{} is accepted, but nobody reads it", setting.key);
    }
    for key in asked {
        assert!(setting(key).is_some(), "{key} is read, but is not in the table");
    }
}

#[test]
fn later_sources_win() {
    let mut s = sources("[state]\nlisten = \"127.0.0.1:1\"\npark_ms_max = 1\nfetch_ms_max = 1\n[log]\nlevel = \"debug\"");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    s.environment = vec![
        pair("WAYFARER_STATE__LISTEN", "127.0.0.1:2"),
        pair("WAYFARER_STATE__PARK_MS_MAX", "2"),
        pair("WAYFARER_HTTP__SESSION__COOKIE", "sid"),
        pair("WAYFARER_HTTP__SESSION__CODEC", "express"),
        pair("WAYFARER_STATE__KEYS", r#"[{ pattern = "u:{session}", layout = "hash" }]"#),
        pair("WAYFARER_LOG__LEVEL", ""),
        pair("WAYFARER_PORT_7300_TCP", "tcp://10.0.0.1:7300"),
        pair("PATH", "/bin"),
    ];
    s.overrides = vec!["state.listen=127.0.0.1:0".to_owned(), "handover.trickle=false".to_owned()];
    let loaded = Settings::load(&s).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let s = loaded.settings;
    assert_eq!(s.state.listen, ListenAt::Tcp("127.0.0.1:0".parse().unwrap()));
    assert_eq!((s.state.park_ms_max, s.state.fetch_ms_max), (2, 1));
    assert_eq!(s.http.session.sources(), [Source::new(Place::Cookie("sid".to_owned()), Codec::Express)]);
    assert_eq!(s.state.keys.patterns().iter().map(KeyPattern::layout).collect::<Vec<_>>(), [Layout::Hash]);
    assert_eq!((s.handover.trickle, s.log.level), (false, LogLevel::Debug));
}

/// Compares with a file of expected messages; `UPDATE_CONFIG=1` writes it anew, to be read before it is kept.
fn assert_snapshot(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/snapshots").join(name);
    if std::env::var_os("UPDATE_CONFIG").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

/// Every typical mistake in one file, so that it also shows that all are named at once and in order.
#[test]
fn typical_mistakes_are_named_with_line_remedy_and_nearest_name() {
    let text = r#"# line 1
[app]
adress = "127.0.0.1:3000"
name = "my shop"
address = "localhost:3000"
[http]
listen = ":8080"
session = { cookie = "sid", codec = "expres" }
lease_ms = 7
[stat]
listen = "127.0.0.1:6379"
[state]
listen = 6379
upstream = "rediss://u:hunter2@h"
keys = [
  { preset = "conect-redis" },
  { pattern = "sess:", layout = "json" },
  { pattern = "a:{session}", layout = "msgpack" },
  { pattern = "b:{session}", layout = "hush" },
  { pattern = "s:{session}", layout = "hash" },
  { pattern = "s:{session}", layout = "json" },
  { pattern = "c:{session}", layout = "key" },
  { patern = "d:{session}" },
]
park_ms_max = "2s"
connections_max = 0
[cluster]
control = "0.0.0.0:7300"
directory = "etcd://h:2379"
tls = { cert = "x" }
groups = 65
[handover]
trickle = "yes"
[[policy.variable]]
name = "a*"
class = "rebuilt"
[[policy.variable]]
name = "b"
class = "caried"
when = "frequency > 0"
[[policy.variable]]
class = "carried"
[admin]
listen = "10.0.0.1:7301"
id_key = "hunter2"
"#;
    assert_snapshot("typical_mistakes.txt", &mistakes(text));
}

#[test]
fn settings_that_do_not_go_together_are_named() {
    let text = r#"
[app]
address = "127.0.0.1:8080"
[state]
upstream = "redis://localhost:6379"
operation_ms_max = 50
value_bytes_max = 100_000_000
[cluster]
lease_margin_ms = 1500
lost_after_ms = 100
[admin]
listen = "127.0.0.1:7300"
[policy]
class = "dropped"
variable = [{ name = "*", class = "carried" }, { name = "x" }]
"#;
    assert_snapshot("together_mistakes.txt", &mistakes(text));
}

#[test]
fn a_script_must_not_outlast_the_lease() {
    let script = |ms: u64, more: &str| format!("[state]\nscript_ms_max = {ms}\n{more}");
    let found = mistakes(&script(60_000, ""));
    assert!(
        found.contains("w.toml:2: state.script_ms_max: a script of 60000 ms may cost this node its lease of 2000 ms"),
        "{found}"
    );
    assert!(found.contains("make state.script_ms_max 1749 at most"), "{found}");
    for right in [script(1749, ""), script(60_000, "[cluster]\nlease_ms = 90000"), script(60_000, "enabled = false")] {
        assert!(Settings::load(&sources(&right)).is_ok(), "{right}");
    }
    let short = mistakes("[cluster]\nlease_ms = 200\nlease_margin_ms = 50");
    assert!(short.contains("w.toml:2: cluster.lease_ms: a script of 200 ms"), "{short}");
}

#[test]
fn merging_needs_members_and_to_know_whose_read_it_was() {
    let keys = |more: &str| format!("[state]\nkeys = [{{ preset = \"connect-redis\", merge = \"members\" }}]\n{more}");
    let session = "[http]\nsession = { cookie = \"connect.sid\", codec = \"express\" }";
    for right in [keys("merge_by = \"connection\""), keys(&format!("merge_by = \"request\"\n{session}"))] {
        let loaded = Settings::load(&sources(&right)).unwrap_or_else(|found| panic!("{}", lines(&found)));
        assert!(loaded.settings.state.keys.patterns().iter().all(KeyPattern::merges));
    }
    assert!(mistakes(&keys("")).contains("w.toml:2: state.keys: merge = \"members\" needs to know"), "{}", mistakes(&keys("")));
    assert!(mistakes(&keys("merge_by = \"request\"")).contains("does not see which session"));
    assert!(mistakes(&keys(&format!("merge_by = \"request\"\n{session}\nenabled = false"))).contains("does not see"));
    let unused = Settings::load(&sources("[state]\nmerge_by = \"connection\"")).unwrap().warnings;
    assert!(lines(&unused).contains("no entry of state.keys has merge"));
    for whole in ["{ pattern = \"s:{session}\", layout = \"hash\"", "{ preset = \"spring-session\""] {
        let text = format!("[state]\nmerge_by = \"connection\"\nkeys = [{whole}, merge = \"members\" }}]");
        assert!(mistakes(&text).contains("such values have no members"), "{}", mistakes(&text));
    }
}

#[test]
fn mistakes_of_environment_and_command_line_name_their_source() {
    let mut s = sources("");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    s.environment =
        vec![pair("WAYFARER_STATE__LISEN", "x"), pair("WAYFARER_CLUSTER__GROUPS", "many"), pair("WAYFARER_STATE__KEYS", "[{}]")];
    s.overrides = vec![
        "log.levle=debug".to_owned(),
        "nonsense".to_owned(),
        "log.format=xml".to_owned(),
        "policy.variable[].name=x".to_owned(),
    ];
    assert_snapshot("other_sources_mistakes.txt", &lines(&Settings::load(&s).unwrap_err()));
    let mut s = sources("");
    s.environment = vec![pair("WAYFARER_STATE_LISTEN", "x")];
    let warnings = Settings::load(&s).unwrap().warnings;
    assert!(
        lines(&warnings)
            .contains("WAYFARER_STATE_LISTEN: is not a setting, and was not read; did you mean WAYFARER_STATE__LISTEN?")
    );
}

#[test]
fn a_pattern_that_takes_every_key_is_warned_of() {
    let warned = |pattern: &str| {
        let mut s = sources("");
        s.overrides = vec![format!(r#"state.keys=[{{pattern="{pattern}",layout="hash"}}]"#)];
        lines(&Settings::load(&s).unwrap().warnings).contains("the pattern {session} alone takes every key")
    };
    assert!(warned("{session}"));
    assert!(!warned("sess:{session}") && !warned("{session}:x"));
}

#[test]
fn broken_toml_is_named_with_its_line_and_does_not_hide_the_rest() {
    let found = mistakes("[app]\nname = shop\nadress = \"x\"\n[state\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"hunter\n");
    for line in
        ["w.toml:2: is not TOML", "w.toml:3: app.adress: is not a setting; did you mean app.address?", "w.toml:4:", "w.toml:7:"]
    {
        assert!(found.contains(line), "{line} in\n{found}");
    }
    assert_eq!(found.lines().count(), 4, "what stands in a broken section is not blamed:\n{found}");
    assert_eq!(mistakes("[http\nlisten = \"127.0.0.1:1\"\n").lines().count(), 1);
    assert!(mistakes("a = 1\na = 2").contains("w.toml:2: is not TOML: duplicate key"));
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (password, key) = (put("password", b"hunter2\r\n"), put("key", b"000102030405060708090a0B0c0d0e0f\n"));
    let url = put("url", b"redis://al:hunter2@cache:1/2\n");
    let text = format!("[state]\npassword_file = {password:?}\nupstream_file = {url:?}\n[admin]\nid_key_file = {key:?}\n");
    let loaded = load(&text);
    assert_eq!(loaded.settings.state.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(loaded.settings.state.upstream.as_ref().unwrap().database, 2);
    assert_eq!(loaded.settings.admin.id_key, Some(IdKey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])));
    assert!(!format!("{loaded:?}").contains("hunter2"));

    let mut both = sources(&text);
    both.overrides = vec!["state.password=other".to_owned()];
    assert_eq!(Settings::load(&both).unwrap().settings.state.password, Some(Secret::new("other")));
    assert!(
        mistakes(&format!("[state]\npassword = \"hunter2\"\npassword_file = {password:?}"))
            .contains("w.toml:3: state.password_file: state.password is set too")
    );

    let wrong = put("wrong", b"hunter2");
    let (empty, binary, long) = (put("empty", b"\n"), put("binary", b"\xff"), put("long", &[b'x'; 70_000]));
    let folder = folder.path().display().to_string();
    for (key, path, why) in [
        ("state.password_file", &empty, "is empty"),
        ("state.password_file", &binary, "is not UTF-8"),
        ("state.password_file", &long, "is longer"),
        ("state.password_file", &folder, "is not a file"),
        ("state.password_file", &format!("{folder}/none"), "cannot read"),
        ("admin.id_key_file", &wrong, "is not 32 hexadecimal digits"),
        ("state.upstream_file", &wrong, "is not a Redis URL"),
    ] {
        let found = mistakes(&format!("{key} = {path:?}"));
        // The path itself may be quoted shortened; the reason is what counts.
        assert!(found.starts_with(&format!("w.toml:1: {key}: ")) && found.contains(why), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn mistakes_never_quote_a_secret() {
    for text in [
        "[state]\nupstream = \"http://hunter2\"",
        "[state]\nupstream = \"redis://u:hunter2@h:99999\"",
        "[state]\npassword = \"hunter2",
        "[state]\npassword = hunter2",
        "[state]\npasword = \"hunter2\"",
        "[admin]\nid_key = \"hunter2\"",
    ] {
        assert!(!mistakes(text).contains("hunter2"), "{}", mistakes(text));
    }
}

#[test]
fn every_example_loads() {
    for name in EXAMPLES {
        let loaded = load(&example(name));
        assert!(name.starts_with("full") || !loaded.settings.http.session.is_empty(), "{name}");
    }
    let hash = load(&example("hash.toml")).settings;
    let found = hash.state.keys.classify(0, b"page:42:home").unwrap();
    assert_eq!((found.session, found.variable), (&b"42"[..], Some(&b"home"[..])));
    assert_eq!(hash.policy.of(b"auth_user").class, Class::Carried);
    assert_eq!(hash.policy.of(b"history_1").on_lost, OnLost::Absent);
    assert_eq!(hash.policy.of(b"history_1").class, Class::Deferred);
}

/// `UPDATE_CONFIG=1` writes the file anew.
#[test]
fn full_toml_is_the_table_and_changes_nothing() {
    let path = config_folder().join("full.toml");
    if std::env::var_os("UPDATE_CONFIG").is_some() {
        std::fs::write(&path, reference_toml()).unwrap();
    }
    let (here, wanted) = (example("full.toml"), reference_toml());
    let differs = here.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    assert!(here == wanted, "run the tests with UPDATE_CONFIG=1; the first difference: {differs:?}");
    assert_eq!(load(&reference_toml()).settings, load("").settings);
    for setting in TABLE {
        assert!(reference_toml().contains(&format!("{} = ", setting.leaf())), "{}", setting.key);
        assert!(reference_markdown().contains(&format!("| `{}` |", setting.key)), "{}", setting.key);
    }
}

/// `UPDATE_CONFIG=1` writes the file anew.
#[test]
fn the_page_of_presets_is_the_table() {
    let path = config_folder().join("../docs/presets.md");
    if std::env::var_os("UPDATE_CONFIG").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, presets_markdown()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), presets_markdown(), "run the tests with UPDATE_CONFIG=1");
}

#[test]
fn a_session_is_named_by_one_source_or_by_several_in_order() {
    let of = |text: &str| load(text).settings.http.session;
    let secrets = |name: &str, codec, secrets: &[&str]| Source {
        secrets: Secrets::new(secrets.iter().copied()),
        ..Source::new(Place::Cookie(name.to_owned()), codec)
    };
    assert_eq!(of("[http.session]\ncookie = \"sid\"").sources(), [secrets("sid", Codec::Plain, &[])]);
    let one = "http.session = { cookie = \"sid\", codec = \"express\", secret = [\"new\", \"old\"] }";
    assert_eq!(of(one).sources(), [secrets("sid", Codec::Express, &["new", "old"])]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "new\nold\n").unwrap();
    let several = format!(
        "[[http.session]]\ncookie = \"a\"\ncodec = \"fastify\"\nsecret_file = \"{}\"\n\
         [[http.session]]\nheader = \"X-Sid\"\n[[http.session]]\nquery = \"sid\"\n[[http.session]]\npath = \"/s/{{session}}\"\n\
         [[http.session]]\nbearer = \"sub\"\nsecret = \"x\"\n",
        file.path().display()
    );
    let identity = of(&several);
    assert_eq!(identity.sources().len(), 5);
    assert_eq!(identity.sources()[0], secrets("a", Codec::Fastify, &["new", "old"]));
    let Place::Header(header) = &identity.sources()[1].place else { panic!("{identity:?}") };
    assert_eq!(header.as_str(), "x-sid");
    let mut over = sources("http.session = { cookie = \"sid\", codec = \"express\" }");
    over.environment = vec![("WAYFARER_HTTP__SESSION__SECRET".to_owned(), "hunter2".to_owned())];
    over.overrides = vec!["http.session.cookie=other".to_owned()];
    let loaded = Settings::load(&over).unwrap_or_else(|found| panic!("{}", lines(&found))).settings;
    assert_eq!(loaded.http.session.sources(), [secrets("other", Codec::Express, &["hunter2"])]);
    assert!(!format!("{loaded:?}").contains("hunter2"));
    over.overrides = vec!["http.session=[{ header = \"a\" }, { header = \"b\" }]".to_owned(), "http.session.cookie=c".to_owned()];
    assert!(lines(&Settings::load(&over).unwrap_err()).contains("has several entries"));
}

#[test]
fn what_is_wrong_with_a_source_is_said() {
    for (text, expected) in [
        ("session = {}", "w.toml:2: http.session: does not say where the session's id stands"),
        ("session = { codec = \"express\" }", "does not say where"),
        ("session = { cokie = \"a\" }", "w.toml:2: http.session.cokie: is not a setting; did you mean http.session[].cookie?"),
        ("session = { cookie = \"a\", header = \"b\" }", "http.session.header: is a second place in one table"),
        ("session = { cookie = \"a\", secret = \"b\" }", "http.session.secret: has no meaning here"),
        ("session = { cookie = \"a\", codec = \"express\", secret = [] }", "has 0 secrets"),
        ("session = { cookie = \"a\", codec = \"express\", secret = [\"\"] }", "has an empty secret"),
        ("session = { cookie = \"a\", codec = \"express\", secret = [1] }", "is a list with other things than text"),
        ("session = { header = \"a b\" }", "use the name of the header alone"),
        ("session = { path = \"/s\" }", "http.session.path: it must have {session} once"),
        ("session = { cookie = \"a\", codec = \"expres\" }", "did you mean `express`?"),
        ("session = 1", "is not a list"),
        ("session = [{ cookie = \"a\" }, {}]", "does not say where"),
    ] {
        let found = mistakes(&format!("[http]\n{text}\n"));
        assert!(found.contains(expected), "{text}: {found}");
    }
    let many = format!("[http]\nsession = [{}]", "{ cookie = \"a\" },".repeat(9));
    assert!(mistakes(&many).contains("has more than 8 entries"));
}

#[test]
fn listeners_have_keys_of_their_own() {
    let text = "[[state.listener]]\nlisten = \"127.0.0.1:6390\"\nsessions = \"all\"\n\
                [[state.listener]]\nlisten = \"127.0.0.1:6391\"\n";
    let state = load(text).settings.state;
    let [all, more] = state.listeners.as_slice() else { panic!("{:?}", state.listeners) };
    assert_eq!(
        (all.listen.tcp().unwrap().port(), all.sessions, more.sessions),
        (6390, ListenerSessions::All, ListenerSessions::Keys)
    );
    let found = all.keys.classify(5, b"anything").unwrap();
    assert_eq!((found.session, found.layout, found.variable), (&b"anything"[..], Layout::Opaque, Some(&b"session"[..])));
    assert_eq!(more.keys, state.keys);
    let mistake = |more: &str| mistakes(&format!("[[state.listener]]\n{more}\n"));
    assert!(mistake("sessions = \"all\"").contains("has an entry without an address"));
    assert!(
        mistake("listen = \"127.0.0.1:1\"\nlayout = \"json\"").contains("w.toml:3: state.listener[].layout: has no meaning here")
    );
    assert!(mistake("listen = \"127.0.0.1:1\"\nsessions = \"all\"\nlayout = \"key\"").contains("no name for its variable"));
    assert!(mistake("listen = \"127.0.0.1:6379\"").contains("state.listener is the same address as state.listen"));
    // What a pattern takes is the same session through whichever listener it comes.
    let found = all.keys.classify(0, b"sess:x").unwrap();
    assert_eq!((found.session, found.layout), (&b"x"[..], Layout::Json));
    assert_eq!(state.every_key(), &all.keys);
    let two = "[[state.listener]]\nlisten = \"127.0.0.1:1\"\nsessions = \"all\"\n\
               [[state.listener]]\nlisten = \"127.0.0.1:2\"\nsessions = \"all\"\n";
    assert_eq!(load(two).settings.state.listeners.len(), 2);
    assert!(mistakes(&format!("{two}layout = \"json\"\n")).contains("w.toml:7: state.listener[].layout: another listener"));
}

#[test]
fn the_state_face_may_listen_on_a_unix_socket() {
    let state =
        load("[state]\nlisten = \"unix:/run/x.sock\"\n[[state.listener]]\nlisten = \"unix:///run/y.sock\"\n").settings.state;
    let places: Vec<String> = state.faces().map(|(key, place, _)| format!("{key} {place}")).collect();
    assert_eq!(places, ["state.listen unix:/run/x.sock", "state.listener unix:/run/y.sock"]);
    assert_eq!((state.listen.tcp(), state.socket_mode), (None, 0o600));
    for (text, mode) in [("0o660", 0o660), ("\"0666\"", 0o666)] {
        assert_eq!(load(&format!("[state]\nsocket_mode = {text}\n")).settings.state.socket_mode, mode);
    }
    let mistake = |line: &str| mistakes(&format!("[state]\n{line}\n"));
    assert!(mistake("listen = \"unix:x.sock\"").contains("w.toml:2: state.listen: `x.sock` is not the absolute path"));
    assert!(mistake("listen = \"/run/x.sock\"").contains("write unix:/"));
    assert!(mistake("socket_mode = 660").contains("w.toml:2: state.socket_mode: is a decimal number"));
    let twice = "listen = \"unix:/x\"\n[[state.listener]]\nlisten = \"unix:///x\"";
    assert!(mistake(twice).contains("state.listener is the same socket as state.listen"));
}

#[test]
fn what_is_said_of_an_upstream_beside_its_url_must_fit_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pem");
    std::fs::write(&file, "x").unwrap();
    let (pem, upstream) = (file.display(), |lines: &str| load(&format!("[state]\n{lines}\n")).settings.state.upstream.unwrap());
    let full = format!(
        "upstream = \"rediss://h\"\nupstream_ca_file = \"{pem}\"\nupstream_server_name = \"redis.internal\"\n\
         upstream_cert_file = \"{pem}\"\nupstream_key_file = \"{pem}\""
    );
    let tls = upstream(&full).tls.unwrap();
    assert_eq!((tls.ca_file.as_ref(), tls.server_name.as_deref()), (Some(&file), Some("redis.internal")));
    assert_eq!(tls.client, Some(Files { certificate: file.clone(), key: file.clone() }));
    let asked = upstream("upstream = \"redis-sentinel://h/m\"\nsentinel_password = \"hunter2\"");
    let UpstreamPlace::Sentinels(sentinels) = &asked.place else { unreachable!() };
    assert_eq!(sentinels.password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{asked:?}").contains("hunter2"));
    let mistake = |lines: &str| mistakes(&format!("[state]\n{lines}\n"));
    let plain = "upstream = \"redis://h\"\n";
    assert!(
        mistake(&format!("{plain}upstream_ca_file = \"{pem}\""))
            .contains("w.toml:3: state.upstream_ca_file: has no meaning without TLS")
    );
    assert!(mistake(&format!("{plain}sentinel_password = \"x\"")).contains("w.toml:3: state.sentinel_password: has no meaning"));
    let cluster = "upstream = \"redis+cluster://h,i:1\"\n";
    assert!(
        mistake(&format!("{cluster}sentinel_password = \"x\"")).contains("w.toml:3: state.sentinel_password: has no meaning")
    );
    let keys = "keys = [{ pattern = \"s:{session}\", layout = \"hash\", database = 3 }]";
    assert!(mistake(&format!("{cluster}{keys}")).contains("`s:{session}` is in database 3, and a Redis Cluster has none but 0"));
    let half = format!("upstream = \"rediss://h\"\nupstream_cert_file = \"{pem}\"");
    assert!(mistake(&half).contains("w.toml:3: state.upstream_cert_file: state.upstream_key_file is not set"));
    assert!(mistake("upstream = \"rediss://h\"\nupstream_ca_file = \"/no/such\"").contains("cannot read `/no/such`"));
    let warned = load("[state]\nupstream_server_name = \"h\"\n").warnings;
    assert!(warned.iter().any(|warning| warning.key == "state.upstream_server_name"));
}

#[test]
fn patterns_that_take_a_common_key_are_a_warning_with_that_key() {
    let keys = "[state]\nkeys = [\n{ pattern = \"s:{session}\", layout = \"hash\" },\n{ pattern = \"{session}:x\", layout = \"hash\" },\n\
                { pattern = \"s:{session}:lock\", layout = \"key\", variable = \"lock\" }]";
    let loaded = load(keys);
    let about: Vec<String> =
        loaded.warnings.iter().filter(|w| w.key.starts_with("state.keys")).map(ToString::to_string).collect();
    assert_eq!(
        about[0],
        "w.toml:4: state.keys[].pattern: `{session}:x` and `s:{session}` (line 3) both take keys such as `s:x`, which go to \
         `s:{session}`; if that is not meant, give one of them a shape, a database or more text"
    );
    assert_eq!(about.len(), 1);
}

/// Each example of a setting without default, put to use alone, is right (a secret's file is not there, though, and a certificate
/// comes with its key).
#[test]
fn every_commented_example_is_right() {
    let full = reference_toml();
    let mut tried = 0;
    for (at, line) in full.lines().enumerate() {
        let Some((name, _)) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")) else { continue };
        if name.contains(' ') {
            continue;
        }
        let mut with: Vec<String> = full.lines().map(str::to_owned).collect();
        with[at] = line.trim_start_matches("# ").to_owned();
        match Settings::load(&sources(&with.join("\n"))) {
            Ok(_) => {}
            Err(found) => {
                let said = lines(&found);
                assert!(name.ends_with("_file") && (said.contains("cannot read") || said.contains("needs its ")), "{said}");
            }
        }
        tried += 1;
    }
    assert!(tried >= TABLE.iter().filter(|setting| setting.default.is_none() && !setting.key.contains("[]")).count());
}

#[test]
fn a_host_name_that_is_no_name_is_a_mistake_with_a_remedy() {
    let found = Settings::load(&Sources { host_name: "a b".to_owned(), ..Sources::default() }).unwrap_err();
    assert!(
        lines(&found).contains("cluster.node: the host name cannot be the node's name")
            && lines(&found).contains("set cluster.node")
    );
    let named = Sources { overrides: vec!["cluster.node=n".to_owned()], ..Sources::default() };
    assert_eq!(Settings::load(&named).unwrap().settings.cluster.node, "n");
}

#[test]
fn huge_inputs_are_refused_in_bounded_words() {
    let found = mistakes(&"x".repeat(gather::TEXT_BYTES_MAX + 1));
    assert!(found.contains("is longer than") && found.len() < 200);
    let many = (0..5_000).map(|n| format!("unknown_{n} = 1\n")).collect::<String>();
    let found = Settings::load(&sources(&many)).unwrap_err();
    assert_eq!(found.len(), MISTAKES_MAX + 1);
    assert!(lines(&found).contains("and 4800 more"));
    let deep = format!("a = {}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(!mistakes(&deep).is_empty());
    let entries = format!("[state]\nkeys = [{}]", "{ preset = \"php\" },".repeat(300));
    assert!(mistakes(&entries).contains("has more than 256 entries"));
}

/// What must hold of any outcome: settings, or mistakes with a place, on one line each, of bounded length.
fn sound(text: &str) {
    if let Err(found) = Settings::load(&sources(text)) {
        assert!(!found.is_empty());
        for mistake in found {
            assert_eq!(mistake.file, "w.toml");
            let line = mistake.line.unwrap_or_else(|| panic!("no line: {mistake}"));
            assert!(line >= 1 && line as usize <= text.lines().count().max(1) + 1, "{mistake}");
            assert!(!mistake.message.is_empty() && !mistake.to_string().contains('\n'), "{mistake:?}");
            assert!(mistake.to_string().len() < 2_000, "{mistake}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_give_settings_or_mistakes_with_a_line(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        sound(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_toml_like_text_does(text in "([a-z.]{0,8}[ =\\[\\]{}\",#\n']{0,3}[0-9a-z:\"]{0,5}[\n,]?){0,20}") {
        sound(&text);
    }

    #[test]
    fn any_change_of_an_example_does(
        which in 0..EXAMPLES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<char>()), 1..6),
    ) {
        let mut text: Vec<char> = example(EXAMPLES[which]).chars().collect();
        for (at, how, with) in edits {
            let at = at.index(text.len());
            match how {
                0 => text[at] = with,
                1 => text.insert(at, with),
                _ => { text.remove(at); }
            }
        }
        sound(&text.into_iter().collect::<String>());
    }

    /// Each setting with each kind of value: right, or a mistake at that line.
    #[test]
    fn any_value_for_any_setting_does(at in 0..TABLE.len(), value in prop_oneof![
        Just("true".to_owned()), Just("-1".to_owned()), Just("0".to_owned()), Just("18446744073709551616".to_owned()), Just("0x7f".to_owned()),
        Just("1.5".to_owned()), Just("1979-05-27".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()), Just("[1, {}, [{}]]".to_owned()),
        Just("\"\"".to_owned()), "\"[a-z0-9:./@{}*]{0,30}\"",
    ]) {
        let setting = &TABLE[at];
        match setting.key.split_once("[].") {
            None => sound(&format!("{} = {value}\n", setting.key)),
            Some((list, field)) => sound(&format!("[[{list}]]\n{field} = {value}\n")),
        }
    }
}

#[test]
fn files_for_tls_are_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("c"), "no certificate").unwrap();
    let text = |certificate: &str, key: &str| format!("[http]\n{certificate}\n{key}\n");
    let certificate = format!("tls_certificate_file = \"{}\"", path("c"));
    let key = format!("tls_key_file = \"{}\"", path("k"));
    let said = mistakes(&text(&certificate, &key));
    assert!(
        said.starts_with("w.toml:2: http.tls_certificate_file: ") && said.contains("holds no certificate in PEM; "),
        "{said}"
    );
    let said = mistakes(&text(&certificate.replace("/c\"", "/nowhere\""), &key));
    assert!(said.contains("nowhere cannot be read: entity not found; name a readable PEM file"), "{said}");
    assert_eq!(
        mistakes(&text("", &key)),
        "w.toml:3: http.tls_key_file: needs its certificate; set http.tls_certificate_file too\n"
    );
    assert_eq!(
        mistakes(&text(&certificate, "")),
        "w.toml:2: http.tls_certificate_file: needs its private key; set http.tls_key_file too\n"
    );
    assert_eq!(load("http.http2 = false").settings.http.tls, None);
}

#[test]
fn an_instance_may_listen_at_a_unix_socket() {
    let app = |text: &str| load(&format!("app.address = \"{text}\"")).settings.app.address;
    assert_eq!(app("unix:/run/app.sock"), ListenAt::Unix("/run/app.sock".into()));
    assert_eq!(app("127.0.0.1:1").tcp(), Some(([127, 0, 0, 1], 1).into()));
    assert_eq!(app("unix:/run/app.sock").to_string(), "unix:/run/app.sock");
    for wrong in ["unix:", &format!("unix:/{}", "x".repeat(107))] {
        let said = mistakes(&format!("app.address = \"{wrong}\""));
        assert!(said.contains("names no Unix socket; write unix: and a path of 1 to 107 bytes"), "{said}");
    }
}

#[test]
fn hints_for_balancers_are_names_that_they_can_use() {
    let hint = |more: &str| format!("[http]\nhint_cookie = \"node\"\nsession = {{ cookie = \"sid\" }}\n{more}");
    let settings = |more: &str| load(&hint(more)).settings.http;
    assert_eq!(settings("").hint_of("a"), Some("a".to_owned()));
    assert_eq!(settings("hint = \"b:1\"").hint_of("a"), Some("b:1".to_owned()));
    let envoy = "hint_encoding = \"envoy\"";
    assert_eq!(settings(envoy).hint_of("a"), Some("127.0.0.1:8080".to_owned()));
    assert_eq!(load("").settings.http.hint_of("a"), None, "nobody wants to know");
    for wrong in ["hint = \"b\"", "listen = \"127.0.0.1:0\"", "hint = \"0.0.0.0:80\""] {
        let said = mistakes(&hint(&format!("{envoy}\n{wrong}")));
        assert!(said.contains("http.hint") && said.contains("Envoy"), "{wrong}: {said}");
    }
    let said = mistakes(&hint("hint_header = \"Transfer-Encoding\""));
    assert!(said.contains("http.hint_header") && said.contains("x-session-node"), "{said}");
    let said = mistakes("[http]\nhint_cookie = \"sid\"\nsession = { cookie = \"sid\" }");
    assert!(said.contains("hint_cookie") && said.contains("choose another name"), "{said}");
}

#[test]
fn requests_are_forwarded_where_their_session_is_known() {
    let settings = |more: &str| load(&format!("[http]\n{more}")).settings.http;
    assert!(!settings("session = { cookie = \"sid\" }").forwards(), "unless said");
    assert!(settings("forward = \"owner\"\nsession = { cookie = \"sid\" }").forwards());
    assert!(!settings("forward = \"owner\"").forwards());
    let warned = |text: &str| load(text).warnings.iter().map(ToString::to_string).collect::<String>();
    assert!(
        warned("http.forward = \"owner\"").contains("http.forward: has no meaning"),
        "{}",
        warned("http.forward = \"owner\"")
    );
    let on = "http = { forward = \"owner\", session = { cookie = \"sid\" } }";
    assert!(warned(on).contains("app.version"));
    assert!(!warned(&format!("app.version = \"2\"\n{on}")).contains("app.version"));
    let said = mistakes("http.forward_listen = \"0.0.0.0:7303\"");
    assert!(said.contains("http.forward_listen") && said.contains("loopback"), "{said}");
}
