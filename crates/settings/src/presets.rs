//! Which keys the session libraries that we know use, by the name of the preset.
//!
//! Nothing but this table and its lookup; called by `assemble` for `state.keys = [ { preset = "…" } ]`.
//!
//! A preset may have several patterns: a library's lock and shadow keys belong to their session and travel with it.
//! Invariant: no two patterns of this table take the same keys in a way that does not say which goes first (a test).

use wayfarer_engine::session::Layout;

/// One pattern of a preset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresetPattern {
    /// As in `state.keys[].pattern`.
    pub pattern: &'static str,
    /// How the value is divided into variables.
    pub layout: Layout,
    /// The name of the variable, where the layout has one a key.
    pub variable: Option<&'static str>,
}

/// The keys of one library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    /// As in `state.keys[].preset`.
    pub name: &'static str,
    /// Which library, and what to watch out for.
    pub library: &'static str,
    /// Its keys.
    pub patterns: &'static [PresetPattern],
}

const fn pattern(pattern: &'static str, layout: Layout, variable: Option<&'static str>) -> PresetPattern {
    PresetPattern { pattern, layout, variable }
}

/// All presets.
pub static PRESETS: &[Preset] = &[
    Preset {
        name: "connect-redis",
        library: "express-session with connect-redis (node-redis or ioredis), its default prefix",
        patterns: &[pattern("sess:{session}", Layout::Json, None)],
    },
    Preset {
        name: "flask-session",
        library: "Flask-Session with SESSION_TYPE = redis, its default prefix; the msgpack value is one variable",
        patterns: &[pattern("session:{session}", Layout::Opaque, None)],
    },
    Preset {
        name: "spring-session",
        library: "Spring Session Data Redis, the default namespace; a session attribute is a variable",
        patterns: &[
            pattern("spring:session:sessions:{session}", Layout::Hash, None),
            pattern("spring:session:sessions:expires:{session}", Layout::Key, Some("expires")),
        ],
    },
    Preset {
        name: "django",
        library: "Django cache sessions on RedisCache or django-redis, empty KEY_PREFIX, VERSION 1; the pickle is one variable",
        patterns: &[pattern(":1:django.contrib.sessions.cache{session}", Layout::Opaque, None)],
    },
    Preset {
        name: "php",
        library: "the session handler of phpredis, its default prefix and its lock key; the text is one variable",
        patterns: &[
            pattern("PHPREDIS_SESSION:{session}", Layout::Opaque, None),
            pattern("PHPREDIS_SESSION:{session}_LOCK", Layout::Key, Some("lock")),
        ],
    },
];

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The names of all presets.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::{KeyMatcher, KeyPattern};

    #[test]
    fn all_presets_together_are_unambiguous() {
        let all = PRESETS.iter().flat_map(|preset| preset.patterns);
        let patterns = all.map(|p| KeyPattern::parse(p.pattern, p.layout, p.variable).unwrap()).collect::<Vec<_>>();
        for (i, a) in patterns.iter().enumerate() {
            for b in patterns.iter().skip(i + 1) {
                assert!(a.collides_with(b).is_none(), "{} and {}", a.text(), b.text());
            }
        }
        let matcher = KeyMatcher::new(patterns);
        let lock = matcher.classify(0, b"PHPREDIS_SESSION:abc_LOCK").unwrap();
        assert_eq!((lock.session, lock.variable), (&b"abc"[..], Some(&b"lock"[..])));
        let shadow = matcher.classify(0, b"spring:session:sessions:expires:1-2").unwrap();
        assert_eq!((shadow.session, shadow.variable), (&b"1-2"[..], Some(&b"expires"[..])));
    }
}
