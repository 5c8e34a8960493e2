//! Which library wrote the sampled keys: presets tried against names and looks, the best first.
//!
//! It is pure, and what it gives out holds no id: keys are shown as patterns and shapes only, and a text of a key only if the
//! configuration must hold it or several keys share it.
//!
//! ```text
//! presets × (their default options | prefixes that fitting keys share) ─► score ─► best ─► its keys are done ─► again
//! score = Σ strength of the look of each key that it takes + keys beside them; more than half of the keys must look right
//! ```
//! Invariant: the entries of one database do not take the same keys.

use super::sample::{Sample, Seen};
use super::sniff::Look;
use std::collections::BTreeMap;
use wayfarer_settings::presets::{IndexKey, PRESETS, Part, Preset};
use wayfarer_settings::{IdShape, KeyMatcher, KeyPattern, Layout, Word};

/// A text before the id is believed if so many keys share it.
const SHARED_MIN: usize = 3;
/// Shortest id of an unknown library, in bytes.
const ID_BYTES_MIN: usize = 8;
/// Most entries that are found.
const ENTRIES_MAX: usize = 16;
/// Most examples of wrongly taken keys.
const EXAMPLES_MAX: usize = 5;

/// One entry for `state.keys`.
pub(super) struct Found {
    /// As TOML.
    pub entry: String,
    pub preset: Option<&'static Preset>,
    pub database: u32,
    /// Presets that these keys fit as well.
    pub or_else: Vec<&'static str>,
    /// Keys looked at that are sessions, and how many of them expire.
    pub sampled: usize,
    pub expiring: usize,
    /// Estimated for the whole database.
    pub sessions: u64,
    pub bytes_each: u64,
    pub members_each: u64,
    /// Lock and shadow keys looked at.
    pub beside: usize,
    /// Keys that it takes although they look like no session: shape, look, count.
    pub wrong: BTreeMap<(String, Look), usize>,
    /// A pattern that would leave those alone.
    pub narrower: Option<String>,
}

/// How much a look speaks for a preset: 3 tells it from others, 2 fits, 1 is possible, 0 is wrong.
fn strength(preset: &str, look: Look) -> usize {
    use Look::*;
    match (preset, look) {
        ("connect-redis", ExpressJson) | ("fastify-session", FastifyJson) => 3,
        ("connect-redis", FastifyJson) | ("fastify-session", ExpressJson) => 2,
        ("koa-session" | "koa-generic-session", KoaJson) => 3,
        ("django", Pickle5) | ("django-redis", Pickle4) | ("starlette-session", Pickle4 | Pickle5) => 3,
        ("django", Pickle4) | ("django-redis", Pickle5) => 2,
        ("flask-session", MsgpackMap) | ("flask-session-json", FlaskJson) => 3,
        ("starsessions", StarsessionsJson) | ("aiohttp-session", AiohttpJson) => 3,
        ("starsessions" | "aiohttp-session" | "sanic-session", JsonObject) => 2,
        ("php", PhpText) | ("symfony", SymfonyText) | ("laravel", PhpSerialized) => 3,
        ("symfony", PhpText) => 2,
        ("redis-rack", Marshal) | ("jcoleman-tomcat", Java) | ("tower-sessions", MsgpackArray) => 3,
        ("scs", ScsGob) | ("redistore" | "redisstore", Gob) => 3,
        ("scs", Gob) | ("redistore", JsonObject) => 2,
        ("axum-session", AxumJson) => 3,
        ("actix-session" | "axum-session", JsonObject) => 2,
        ("aspnetcore", AspnetHash) | ("redisson-tomcat", TomcatHash) => 3,
        ("redisson-tomcat", Hash) => 2,
        ("spring-session" | "spring-session-indexed", SpringHash) | ("catalyst", Base64) => 3,
        ("connect-redis" | "koa-session" | "koa-generic-session" | "flask-session-json" | "redisstore", JsonObject) => 1,
        ("django-redis" | "jcoleman-tomcat", Bytes) | ("catalyst", Text) => 1,
        _ => 0,
    }
}

/// A preset with options, in a database.
struct Candidate {
    preset: &'static Preset,
    /// The option at the front of its pattern, if that is not the default.
    option: Option<(&'static str, String)>,
    database: u32,
    patterns: Vec<KeyPattern>,
    index: Vec<IndexKey>,
}

impl Candidate {
    fn new(preset: &'static Preset, option: Option<(&'static str, String)>, database: u32) -> Option<Candidate> {
        let given = |name: &str| option.as_ref().filter(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let (patterns, index) = (preset.key_patterns(given).ok()?, preset.index_keys(given).ok()?);
        Some(Candidate { preset, option, database, patterns, index })
    }

    /// What a key is to it.
    fn part(&self, sample: &Sample) -> Option<Part> {
        if sample.database != self.database {
            return None;
        }
        let matcher = KeyMatcher::new(self.patterns.clone());
        let found = matcher.classify(self.database, &sample.name)?;
        self.preset.patterns.get(found.pattern).map(|pattern| pattern.part)
    }

    /// Its score among these samples; 0: it is not this one.
    fn score(&self, samples: &[&Sample]) -> usize {
        let matcher = KeyMatcher::new(self.patterns.clone());
        let (mut taken, mut right, mut score, mut best, mut beside) = (0usize, 0usize, 0usize, 0usize, 0usize);
        for sample in samples.iter().filter(|sample| sample.database == self.database) {
            let part = matcher.classify(self.database, &sample.name).and_then(|found| self.preset.patterns.get(found.pattern));
            match part.map(|pattern| pattern.part) {
                None => beside += usize::from(self.index.iter().any(|index| index.takes(&sample.name))),
                Some(Part::Lock | Part::Shadow) => beside += 1,
                Some(Part::Values) => {
                    let strength = strength(self.preset.name, sample.look);
                    (taken, right) = (taken + 1, right + usize::from(strength > 0));
                    (score, best) = (score + strength, best.max(strength));
                }
            }
        }
        if best < 2 || right * 2 <= taken { 0 } else { score + beside }
    }

    fn entry(&self, several: bool) -> String {
        let option = self.option.as_ref().map(|(name, value)| format!(", {name} = {}", quoted(value))).unwrap_or_default();
        format!("{{ preset = {}{option}{} }}", quoted(self.preset.name), in_database(self.database, several))
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn in_database(database: u32, several: bool) -> String {
    if several || database != 0 { format!(", database = {database}") } else { String::new() }
}

/// The entries that fit what was seen, and the samples that none of them takes.
pub(super) fn find(seen: &Seen) -> (Vec<Found>, Vec<&Sample>) {
    let several = seen.databases.len() > 1;
    let mut rest: Vec<&Sample> = seen.samples.iter().collect();
    let mut found = Vec::new();
    while found.len() < ENTRIES_MAX {
        let candidates = candidates(seen, &rest);
        let scored = candidates.iter().map(|candidate| (candidate.score(&rest), candidate));
        // Of equals the first: the table's order, defaults before guesses.
        let Some((best, winner)) = scored.clone().rev().max_by_key(|(score, _)| *score).filter(|(score, _)| *score > 0) else {
            break;
        };
        let texts = |c: &Candidate| c.patterns.iter().map(|p| p.text().to_owned()).collect::<Vec<_>>();
        let same = |(score, c): &(usize, &Candidate)| {
            *score == best && c.database == winner.database && c.preset.name != winner.preset.name && texts(c) == texts(winner)
        };
        let or_else = scored.filter(same).map(|(_, candidate)| candidate.preset.name).collect();
        let (of_it, others) = rest.iter().partition::<Vec<&Sample>, _>(|sample| winner.part(sample).is_some());
        let mut entry = judged(&winner.patterns, &of_it, winner.entry(several), seen, winner.database, |sample| {
            strength(winner.preset.name, sample.look) > 0
        });
        (entry.preset, entry.or_else) = (Some(winner.preset), or_else);
        rest = others;
        rest.retain(|sample| !winner.index.iter().any(|index| sample.database == winner.database && index.takes(&sample.name)));
        found.push(entry);
    }
    unknown(seen, &mut rest, &mut found, several);
    (found, rest)
}

fn candidates(seen: &Seen, samples: &[&Sample]) -> Vec<Candidate> {
    let mut found = Vec::new();
    for database in &seen.databases {
        let defaults = PRESETS.iter().filter_map(|preset| Candidate::new(preset, None, database.number));
        found.extend(defaults);
        for preset in PRESETS {
            let mut shared: BTreeMap<String, usize> = BTreeMap::new();
            let likely = |sample: &&&Sample| {
                let strength = strength(preset.name, sample.look);
                sample.database == database.number && (strength == 3 || (strength == 2 && speaks_of_sessions(&sample.name)))
            };
            let Some((option, tail)) = front_option(preset) else { continue };
            for sample in samples.iter().filter(likely) {
                if let Some(front) = front(&tail, &sample.name) {
                    *shared.entry(front).or_default() += 1;
                }
            }
            let believed = shared.into_iter().filter(|(_, count)| *count >= SHARED_MIN);
            found.extend(believed.filter_map(|(front, _)| Candidate::new(preset, Some((option, front)), database.number)));
        }
    }
    found
}

fn speaks_of_sessions(name: &[u8]) -> bool {
    name.windows(4).any(|window| window.eq_ignore_ascii_case(b"sess"))
}

/// The option with which the pattern of the values begins, and that pattern without it.
fn front_option(preset: &'static Preset) -> Option<(&'static str, KeyPattern)> {
    let pattern = preset.patterns.first()?;
    let option = preset.options.iter().find(|option| pattern.pattern.starts_with(&format!("<{}>", option.name)))?;
    let tail = preset.filled_in(pattern.pattern, |name| (name == option.name).then(String::new)).ok()?;
    Some((option.name, KeyPattern::parse(&tail, Layout::Opaque, None).ok()?))
}

/// What stands before `tail` in a key.
fn front(tail: &KeyPattern, name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok().filter(|text| !text.chars().any(char::is_control))?;
    // The last place from which on the key is one of the tail; for ids of any shape that is the end of the text before them.
    let fixed = tail.session_shape().bytes();
    let starts: Vec<usize> = if fixed.0 == fixed.1 || !tail.text().starts_with('{') {
        text.char_indices().map(|(at, _)| at).rev().collect()
    } else {
        vec![cut(text)?]
    };
    let at = starts.into_iter().find(|at| text.get(*at..).is_some_and(|rest| tail.miss(0, rest.as_bytes()).is_none()))?;
    // Without any text of its own a pattern of ids of every shape would take every key.
    let bare = tail.text().starts_with('{') && tail.session_shape() == IdShape::ANY;
    text.get(..at).filter(|front| (!front.is_empty() || !bare) && front.len() <= 128).map(str::to_owned)
}

/// Where the id of a key begins, if a separator says it and an id follows.
fn cut(text: &str) -> Option<usize> {
    let at = text.rfind([':', '.', '/']).or_else(|| text.rfind('_'))?.checked_add(1)?;
    let id = text.get(at..)?;
    (id.len() >= ID_BYTES_MIN && IdShape::of(id.as_bytes()).is_some()).then_some(at)
}

/// Keys of no known library that speak of sessions and end in an id.
fn unknown(seen: &Seen, rest: &mut Vec<&Sample>, found: &mut Vec<Found>, several: bool) {
    let mut fronts: BTreeMap<(u32, String), Vec<&Sample>> = BTreeMap::new();
    for sample in rest.iter().filter(|sample| sample.look != Look::OtherType && speaks_of_sessions(&sample.name)) {
        let text = std::str::from_utf8(&sample.name).ok().filter(|text| !text.chars().any(char::is_control));
        let front = text.and_then(|text| text.get(..cut(text)?)).filter(|front| speaks_of_sessions(front.as_bytes()));
        if let Some(front) = front {
            fronts.entry((sample.database, front.to_owned())).or_default().push(sample);
        }
    }
    for ((database, front), samples) in fronts.into_iter().filter(|(_, samples)| samples.len() >= SHARED_MIN) {
        let Some(look) = samples.first().map(|sample| sample.look) else { continue };
        let layout = layout_of(look);
        let text = format!("{}{{session}}", front.replace('{', "{{").replace('}', "}}"));
        let Ok(pattern) = KeyPattern::parse(&text, layout, None) else { continue };
        let word = Layout::WORDS.iter().find(|(_, known)| *known == layout).map_or("opaque", |(word, _)| word);
        if found.len() >= ENTRIES_MAX {
            break;
        }
        let entry = format!("{{ pattern = {}, layout = \"{word}\"{} }}", quoted(&text), in_database(database, several));
        let of_it: Vec<&Sample> =
            rest.iter().copied().filter(|s| s.database == database && pattern.miss(0, &s.name).is_none()).collect();
        rest.retain(|s| s.database != database || pattern.miss(0, &s.name).is_some());
        found.push(judged(&[pattern], &of_it, entry, seen, database, |sample| layout_of(sample.look) == layout));
    }
}

fn layout_of(look: Look) -> Layout {
    use Look::*;
    match look {
        ExpressJson | FastifyJson | KoaJson | StarsessionsJson | AiohttpJson | FlaskJson | AxumJson | JsonObject => Layout::Json,
        MsgpackMap => Layout::Msgpack,
        PhpText | SymfonyText => Layout::Php,
        SpringHash | TomcatHash | AspnetHash | Hash => Layout::Hash,
        _ => Layout::Opaque,
    }
}

/// What is to be said of an entry with these patterns that takes these samples.
fn judged(
    patterns: &[KeyPattern],
    of_it: &[&Sample],
    entry: String,
    seen: &Seen,
    database: u32,
    right: impl Fn(&Sample) -> bool,
) -> Found {
    let matcher = KeyMatcher::new(patterns.to_vec());
    let session = |name: &[u8]| matcher.classify(database, name).map(|found| found.session.to_vec());
    // Lock and shadow keys are variables by themselves; whatever is in them is right.
    let values = |name: &[u8]| matcher.classify(database, name).is_some_and(|found| found.layout != Layout::Key);
    let of_values: Vec<&Sample> = of_it.iter().copied().filter(|sample| values(&sample.name)).collect();
    let (good, bad): (Vec<&Sample>, Vec<&Sample>) = of_values.iter().partition(|sample| right(sample));
    let mut wrong: BTreeMap<(String, Look), usize> = BTreeMap::new();
    for sample in &bad {
        let Some(found) = matcher.classify(database, &sample.name) else { continue };
        let shape =
            IdShape::of(found.session).map_or_else(|| format!("{} bytes", found.session.len()), |shape| shape.to_string());
        let text = patterns.get(found.pattern).map_or("", |pattern| pattern.text());
        let shown = match (text.find("{session"), text.rfind('}')) {
            (Some(from), Some(to)) => format!("{}<{shape}>{}", text.get(..from).unwrap_or(""), text.get(to + 1..).unwrap_or("")),
            _ => format!("<{shape}>"),
        };
        let room = wrong.len() < EXAMPLES_MAX;
        let key = (shown, sample.look);
        let last = wrong.keys().next_back().cloned();
        let key = if room || wrong.contains_key(&key) { key } else { last.unwrap_or(key) };
        *wrong.entry(key).or_default() += 1;
    }
    let ids = |samples: &[&Sample]| samples.iter().filter_map(|sample| session(&sample.name)).collect::<Vec<_>>();
    let narrower = patterns.first().filter(|p| !bad.is_empty() && p.session_shape() == IdShape::ANY).and_then(|pattern| {
        let shape = IdShape::of_all(&ids(&good))?;
        let leaves = ids(&bad).iter().all(|id| !shape.fits(id));
        leaves.then(|| pattern.text().replace("{session}", &format!("{{session:{shape}}}")))
    });
    let sum = |of: fn(&Sample) -> u64| good.iter().map(|sample| of(sample)).sum::<u64>();
    let sampled = u64::try_from(good.len()).unwrap_or(1).max(1);
    Found {
        entry,
        preset: None,
        database,
        or_else: Vec::new(),
        sampled: good.len(),
        expiring: good.iter().filter(|sample| sample.expires).count(),
        sessions: estimate(seen, database, values, good.len(), of_values.len()),
        bytes_each: sum(|sample| sample.bytes).div_ceil(sampled),
        members_each: sum(|sample| sample.members).div_ceil(sampled),
        beside: of_it.len().saturating_sub(of_values.len()),
        wrong,
        narrower,
    }
}

/// The sessions of a database: the names that the pattern takes, as far as their looks were right, for all keys.
fn estimate(seen: &Seen, database: u32, values: impl Fn(&[u8]) -> bool, right: usize, looked_at: usize) -> u64 {
    let Some(database) = seen.databases.iter().find(|d| d.number == database) else { return 0 };
    let names = database.names.iter().filter(|name| values(name)).count() as u128;
    let whole = names * u128::from(database.keys) * right as u128;
    u64::try_from(whole / (database.names.len().max(1) as u128 * looked_at.max(1) as u128)).unwrap_or(u64::MAX)
}

/// What else is there, by the text before the first colon where several keys share it: name, samples.
pub(super) fn others(rest: &[&Sample]) -> Vec<(String, usize)> {
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for sample in rest {
        let text = std::str::from_utf8(&sample.name).ok().filter(|text| !text.chars().any(char::is_control));
        let front = text.and_then(|text| text.split_once(':')).map(|(front, _)| front).filter(|front| front.len() <= 64);
        *groups.entry(front.map(|front| format!("{front}:…")).unwrap_or_default()).or_default() += 1;
    }
    // A text that few keys share may be an id.
    let (known, single): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(front, count)| !front.is_empty() && *count >= SHARED_MIN);
    let single: usize = single.iter().map(|(_, count)| count).sum();
    let mut all = known;
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.truncate(20);
    all.extend((single > 0).then(|| ("single keys".to_owned(), single)));
    all
}
