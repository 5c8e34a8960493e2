//! The services under test: how each is started beside a sidecar, and what it needs on this machine.
//!
//! It installs nothing. Invariant: with `CI` in the environment a missing program is a failure, never a skip.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The program of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Program {
    Flask { refresh: bool, resp: u8 },
    Django { cache: &'static str },
    Express { client: &'static str },
    Fastify,
    Koa,
    Php { handler: &'static str },
}

/// A service with sessions in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service {
    program: Program,
    /// `[state] keys`.
    pub keys: &'static str,
    /// How its cookie holds the session's id.
    pub codec: &'static str,
    /// Whether a request that only reads leaves the session as another one has written it meanwhile.
    pub reads_keep_writes: bool,
    /// Bytes of the one variable that is much larger than the others. The JSON of a Buffer is four times as long.
    pub heavy_bytes: usize,
}

impl Service {
    pub const FLASK: Service = Service {
        program: Program::Flask { refresh: false, resp: 3 },
        keys: r#"[{ preset = "flask-session" }]"#,
        codec: "plain",
        reads_keep_writes: true,
        heavy_bytes: 400_000,
    };
    pub const FLASK_ON_RESP2: Service = Service { program: Program::Flask { refresh: false, resp: 2 }, ..Service::FLASK };
    /// Every request writes the session whole, also one that only reads: the library's default.
    pub const FLASK_THAT_REFRESHES: Service =
        Service { program: Program::Flask { refresh: true, resp: 3 }, reads_keep_writes: false, ..Service::FLASK };
    /// Its sessions are not divided, and so move whole.
    pub const FLASK_OPAQUE: Service =
        Service { keys: r#"[{ pattern = "session:{session}", layout = "opaque" }]"#, ..Service::FLASK };
    /// The session handler of phpredis writes only what has changed; else it sets the expiry anew.
    pub const PHP: Service = Service {
        program: Program::Php { handler: "php" },
        keys: r#"[{ pattern = "PHPREDIS_SESSION:{session}", layout = "php" }]"#,
        codec: "plain",
        reads_keep_writes: true,
        heavy_bytes: 400_000,
    };
    pub const PHP_SERIALIZE: Service = Service { program: Program::Php { handler: "php_serialize" }, ..Service::PHP };
    pub const NODE_REDIS: Service = Service {
        program: Program::Express { client: "node-redis" },
        keys: r#"[{ preset = "connect-redis" }]"#,
        codec: "express",
        reads_keep_writes: true,
        heavy_bytes: 50_000,
    };
    pub const IOREDIS: Service = Service { program: Program::Express { client: "ioredis" }, ..Service::NODE_REDIS };
    /// Every request writes the session whole, also one that only reads.
    pub const FASTIFY: Service = Service {
        program: Program::Fastify,
        keys: r#"[{ preset = "fastify-session" }]"#,
        codec: "fastify",
        reads_keep_writes: false,
        heavy_bytes: 50_000,
    };
    /// Its keys are bare UUIDs.
    pub const KOA: Service = Service {
        program: Program::Koa,
        keys: r#"[{ preset = "koa-session" }]"#,
        codec: "plain",
        reads_keep_writes: true,
        heavy_bytes: 50_000,
    };
    pub const DJANGO: Service = Service {
        program: Program::Django { cache: "django" },
        keys: r#"[{ preset = "django" }]"#,
        codec: "django",
        reads_keep_writes: true,
        heavy_bytes: 400_000,
    };
    pub const DJANGO_REDIS: Service = Service {
        program: Program::Django { cache: "django-redis" },
        keys: r#"[{ preset = "django-redis" }]"#,
        ..Service::DJANGO
    };

    /// What starts an instance, for `wayfarer run -- …`.
    pub fn command(&self) -> Vec<String> {
        let app = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file).display().to_string();
        match self.program {
            Program::Flask { refresh, resp } => vec![
                "env".to_owned(),
                format!("REFRESH={}", u8::from(refresh)),
                format!("RESP={resp}"),
                python().display().to_string(),
                app("flask_app.py"),
            ],
            Program::Django { cache } => {
                vec!["env".to_owned(), format!("CACHE={cache}"), python().display().to_string(), app("django_app.py")]
            }
            Program::Express { client } => node(Some(client), app("express_app.js")),
            Program::Fastify => node(None, app("fastify_app.js")),
            Program::Koa => node(None, app("koa_app.js")),
            Program::Php { handler } => vec!["env".to_owned(), format!("HANDLER={handler}"), app("php_serve.sh")],
        }
    }

    /// What a script of node needs to find this library.
    pub fn node_environment(&self) -> Vec<(&'static str, String)> {
        let Program::Express { client } = self.program else { return Vec::new() };
        vec![("CLIENT", client.to_owned()), ("NODE_APP_DIR", installed().join("node").display().to_string())]
    }

    /// The session's id in its cookie `sid=…`.
    pub fn session_id(&self, cookie: &str) -> Vec<u8> {
        let value = cookie.strip_prefix("sid=").expect("a cookie named sid");
        match self.program {
            Program::Flask { .. } | Program::Php { .. } | Program::Django { .. } | Program::Koa => value.as_bytes().to_vec(),
            Program::Fastify => value.rsplit_once('.').expect("a signed cookie").0.as_bytes().to_vec(),
            Program::Express { .. } => {
                let (id, _signature) = value.strip_prefix("s%3A").expect("a signed cookie").rsplit_once('.').unwrap();
                id.as_bytes().to_vec()
            }
        }
    }

    /// Whether it can run on this machine. If not, says why, once for each test that is left out, and how many that makes.
    pub fn is_installed(&self) -> bool {
        let Some(reason) = self.missing() else { return true };
        skip(&format!("{self:?}"), &reason)
    }

    fn missing(&self) -> Option<String> {
        let remedy = "run scripts/clients.sh";
        match self.program {
            Program::Flask { .. } | Program::Django { .. } if !runs(&python()) => {
                Some(format!("{} does not run: {remedy}", python().display()))
            }
            Program::Express { .. } | Program::Fastify | Program::Koa if !runs(Path::new("node")) => {
                Some(format!("node is not installed: {remedy}"))
            }
            Program::Express { .. } | Program::Fastify | Program::Koa if !installed().join("node/node_modules").is_dir() => {
                Some(format!("{} has no packages: {remedy}", installed().join("node").display()))
            }
            Program::Php { .. } if !runs(Path::new("php")) => {
                Some("php is not installed: run scripts/prepare.sh test".to_owned())
            }
            _ => None,
        }
    }
}

/// What starts a service on Node, with the store's client if it has a choice.
fn node(client: Option<&str>, app: String) -> Vec<String> {
    let mut command = vec!["env".to_owned()];
    command.extend(client.map(|client| format!("CLIENT={client}")));
    command.extend([format!("NODE_APP_DIR={}", installed().join("node").display()), "node".to_owned(), app]);
    command
}

/// Says that a test is left out, why, and how many that makes. Returns false: it cannot run.
pub fn skip(what: &str, reason: &str) -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    assert!(std::env::var_os("CI").is_none(), "{what}: {reason}; in CI nothing is skipped");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("SKIPPED ({count} so far in this process): {what}: {reason}");
    false
}

fn runs(program: &Path) -> bool {
    program_runs(program, "--version")
}

/// Whether a program is here and ends well when it is asked for its version.
pub fn program_runs(program: &Path, version: &str) -> bool {
    let status = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

fn python() -> PathBuf {
    installed().join("venv/bin/python")
}

/// Where `scripts/clients.sh` installs: `clients` in the target folder that this test was built into.
pub fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_wayfarer")).ancestors().nth(2).expect("TARGET/PROFILE/wayfarer");
    target.join("clients")
}
