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
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::driver",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rest",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
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
        folder: "src/telemetry",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::store",
            "crate::driver",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rest",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "telemetry is used by all and knows none of them",
    },
    Wall {
        folder: "src/upstream",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::store",
            "crate::driver",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rest",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::telemetry",
        ],
        because: "the upstream is reached without a word of who wants it",
    },
    Wall {
        folder: "src/rest",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::store",
            "crate::driver",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
        ],
        because: "what is at rest is stored as it is told, whoever owns it",
    },
    Wall {
        folder: "src/passage",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::store",
            "crate::driver",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::telemetry",
        ],
        because: "the way is chosen before anything is done, and knows none of those who go it",
    },
    Wall {
        folder: "src/questions",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::store",
            "crate::driver",
            "crate::control",
            "crate::bus",
            "crate::rest",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::telemetry",
            "crate::upstream",
        ],
        because: "questions are joined to answers, whatever is asked",
    },
    Wall {
        folder: "src/control",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::store",
            "crate::driver",
            "crate::bus",
            "crate::questions",
            "crate::rest",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "the control channel does not know what messages mean",
    },
    Wall {
        folder: "src/driver",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "arrows point down only",
    },
    Wall {
        folder: "src/bus",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::control",
            "crate::questions",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "subscribers are told of what has happened, and change nothing",
    },
    Wall {
        folder: "src/rebalance",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::control",
            "crate::bus",
            "crate::rest",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "who gives is asked and told; sessions and their moves are the driver's",
    },
    Wall {
        folder: "src/operations",
        never: &[
            "crate::state_face",
            "crate::control",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "an operation asks the driver, and sends by what it is given",
    },
    Wall {
        folder: "src/state_face",
        never: &[
            "crate::operations",
            "crate::store",
            "crate::control",
            "crate::questions",
            "crate::rest",
            "crate::rebalance",
            "crate::admin",
            "crate::app",
            "crate::cli",
        ],
        because: "the state face knows no owner: operations are handed to who was given to it",
    },
    Wall {
        folder: "src/admin",
        never: &[
            "crate::state_face",
            "crate::passage",
            "crate::bus",
            "crate::questions",
            "crate::rest",
            "crate::app",
            "crate::cli",
            "crate::upstream",
        ],
        because: "arrows point down only",
    },
    Wall { folder: "src/app", never: &["crate::cli"], because: "arrows point down only" },
    Wall {
        folder: "src/cli",
        never: &[
            "crate::state_face",
            "crate::operations",
            "crate::passage",
            "crate::store",
            "crate::control",
            "crate::bus",
            "crate::questions",
            "crate::rest",
            "crate::rebalance",
        ],
        because: "a command is written by the composition root or by asking a sidecar that runs",
    },
    Wall {
        folder: "src/main.rs",
        never: &["tokio", "wayfarer_engine", "wayfarer::app", "wayfarer::store"],
        because: "main turns a result into an exit code",
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
