//! What the rules compare the tree with: folders, words and limits. Data only.

/// Lines of a file before its tests; above the first the head comment must give the reason, above the second there is none.
pub const LINES_WITHOUT_REASON_MAX: usize = 400;
pub const LINES_MAX: usize = 500;
pub const REASON: &str = "Longer than 400 lines because";

/// The head comment of a file is at least a sentence.
pub const HEAD_CHARS_MIN: usize = 20;

/// The one file that names the codec of the control channel.
pub const CODEC: &str = "bincode";
pub const CODEC_FILE: &str = "crates/engine/src/wire/control/codec.rs";

pub const METRIC_PREFIX: &str = "wayfarer_";
pub const METRIC_FILE: &str = "names.rs";

/// Names of files and folders that say nothing of what is in them.
pub const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "stuff"];

/// Production code under `folder` (or in that file) does not name any of `never`: a path, matched segment by segment anywhere in a
/// path of the code. `super` and `self` are resolved first, groups in `use` are opened.
pub struct Wall {
    pub folder: &'static str,
    pub never: &'static [&'static str],
    pub because: &'static str,
}

pub const WALLS: &[Wall] = &[
    Wall {
        folder: "crates/engine/src",
        never: &[
            "tokio",
            "std::net",
            "std::fs",
            "std::io::stdin",
            "std::process",
            "std::thread",
            "std::env",
            "Instant",
            "SystemTime",
            "rand",
            "getrandom",
        ],
        because: "the engine is pure: time, randomness and ids are arguments, effects are results",
    },
    Wall {
        folder: "crates/sim/src",
        never: &["tokio", "std::net", "std::thread", "rand", "getrandom"],
        because: "a simulation is a function of its seed",
    },
    Wall {
        folder: "crates/settings/src",
        never: &["tokio", "std::thread", "Instant", "SystemTime"],
        because: "settings turn text into values and do nothing else",
    },
    Wall {
        folder: "crates/script/src",
        never: &["tokio", "std::net", "std::fs", "std::process", "std::thread", "std::env", "SystemTime", "rand", "getrandom"],
        because: "a script reaches nothing but its session, and ends the same wherever it runs",
    },
    Wall {
        folder: "crates/identity/src",
        never: &["tokio", "std::net", "std::fs", "std::process", "std::thread", "std::env", "Instant", "SystemTime"],
        because: "which session a request belongs to follows from the request alone",
    },
    Wall {
        folder: "crates/certificates/src",
        never: &["tokio", "std::net", "std::thread", "Instant", "SystemTime"],
        because: "certificates are read from files, and from nothing else",
    },
    Wall {
        folder: "src/store",
        never: &[
            "tokio",
            "wayfarer_settings",
            "wayfarer_directory",
            "wayfarer_http_face",
            "wayfarer_demo",
            "Instant",
            "SystemTime",
        ],
        because: "the store is synchronous and knows only the engine",
    },
    Wall {
        folder: "src/main.rs",
        never: &["tokio", "wayfarer_engine", "wayfarer::app", "wayfarer::store"],
        because: "main turns a result into an exit code",
    },
];

/// What the code under `src/NAME` names of the other modules beside it: these and no others.
pub struct Module {
    pub name: &'static str,
    pub may: &'static [&'static str],
    pub because: &'static str,
}

/// Every module of the product, the lower ones first: each names only some of those above its row.
pub const MODULES: &[Module] = &[
    Module { name: "telemetry", may: &[], because: "it is used by all and knows none of them" },
    Module { name: "replies", may: &[], because: "replies are put in order, whoever says them" },
    Module { name: "upstream", may: &["replies"], because: "the upstream is reached without a word of who wants it" },
    Module {
        name: "redirect",
        may: &["telemetry", "upstream"],
        because: "who gets a redirected connection follows from where it wanted to go",
    },
    Module { name: "store", may: &["telemetry"], because: "the store knows only the engine" },
    Module { name: "control", may: &["telemetry"], because: "the control channel does not know what messages mean" },
    Module { name: "routing", may: &[], because: "where requests may go follows from the members alone" },
    Module { name: "questions", may: &[], because: "questions are joined to answers, whatever is asked" },
    Module { name: "rest", may: &["telemetry", "upstream"], because: "what is at rest is stored as it is told, whoever owns it" },
    Module { name: "passage", may: &["rest", "upstream"], because: "the way is chosen without those who go it" },
    Module { name: "driver", may: &["passage", "rest", "store", "telemetry"], because: "arrows point down only" },
    Module {
        name: "bus",
        may: &["driver", "rest", "store", "telemetry"],
        because: "subscribers are told of what has happened, and change nothing",
    },
    Module {
        name: "rebalance",
        may: &["driver", "questions", "store"],
        because: "who gives is asked and told; sessions and their moves are the driver's",
    },
    Module {
        name: "operations",
        may: &["bus", "driver", "passage", "questions", "rest", "store", "telemetry"],
        because: "an operation asks the driver, and sends by what it is given",
    },
    Module {
        name: "state_face",
        may: &["bus", "driver", "passage", "replies", "telemetry", "upstream"],
        because: "the state face knows no owner: operations go to whom it is given",
    },
    Module {
        name: "admin",
        may: &["control", "driver", "operations", "rebalance", "routing", "store", "telemetry"],
        because: "arrows point down only",
    },
    Module {
        name: "app",
        may: &[
            "admin",
            "bus",
            "control",
            "driver",
            "operations",
            "passage",
            "questions",
            "rebalance",
            "redirect",
            "rest",
            "routing",
            "state_face",
            "store",
            "telemetry",
            "upstream",
        ],
        because: "arrows point down only",
    },
    Module {
        name: "cli",
        may: &["admin", "app", "driver", "redirect", "upstream"],
        because: "a command starts the product, or asks one that runs",
    },
];

/// Packages that a manifest does not name under any heading of dependencies.
pub struct ManifestWall {
    pub manifest: &'static str,
    pub never: &'static [&'static str],
    pub because: &'static str,
}

pub const MANIFEST_WALLS: &[ManifestWall] = &[
    ManifestWall {
        manifest: "crates/engine/Cargo.toml",
        never: &[
            "tokio",
            "hyper",
            "axum",
            "mio",
            "socket2",
            "rustix",
            "rusqlite",
            "rand",
            "getrandom",
            "dashmap",
            "metrics",
            "tracing",
        ],
        because: "the engine is pure",
    },
    ManifestWall {
        manifest: "crates/sim/Cargo.toml",
        never: &["tokio", "rand", "getrandom", "rustix"],
        because: "a simulation is a function of its seed",
    },
    ManifestWall {
        manifest: "crates/settings/Cargo.toml",
        never: &["tokio", "hyper", "axum"],
        because: "settings are text and values",
    },
];

/// Words that no text of the project holds, each with what to do. They are written in two parts, so that this table passes itself.
pub const WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it, or file an issue"),
    (concat!("FIX", "ME"), "finish it, or file an issue"),
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (concat!("registry", ".npmjs"), "packages are named without the host of their registry"),
    (concat!("python", "hosted"), "packages are named without the host of their registry"),
    (concat!("pypi", ".org"), "packages are named without the host of their registry"),
    (concat!("static.", "crates.io"), "packages are named without the host of their registry"),
    (concat!("index.", "crates.io"), "packages are named without the host of their registry"),
];

/// The heading in ARCHITECTURE.md under which every module is named in backticks, by its path from the root of the project.
pub const CODE_MAP_FILE: &str = "ARCHITECTURE.md";
pub const CODE_MAP_HEADING: &str = "code map";
/// Folders whose entries are modules that the map must name.
pub const CODE_MAP_FOLDERS: &[&str] = &["src/", "crates/", "crates/engine/src/"];
/// Entries that are the folder itself, not a module in it.
pub const CODE_MAP_EXEMPT: &[&str] = &["lib.rs", "main.rs", "mod.rs"];
