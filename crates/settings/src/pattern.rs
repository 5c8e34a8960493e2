//! One key pattern, such as `sess:{session:uuid}`: read from text, and asked whether it takes a key.
//!
//! It never allocates or fails on a key. [`crate::keys::KeyMatcher`] asks it on the hot path; `overlap` and `explain` look
//! into its parts.
//!
//! ```text
//! pattern = text (placeholder text)*      placeholder = {session} | {variable} | {any}, each perhaps with :shape
//! ```
//! `{{` and `}}` stand for braces of the key. The first text begins the key and the last one ends it. In between, a placeholder
//! ends where the text behind it stands for the first time (behind as many bytes as its shape has at least; a shape of one
//! length ends there and nowhere else), and the last one takes what is left. So each byte of the key is compared with each byte
//! of the pattern at most once, and nothing is tried twice.
//! Invariant: session and captured variable are never empty.

use crate::mistake::{Complaint, nearest, shown};
use crate::shape::IdShape;
use wayfarer_engine::session::Layout;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Most placeholders of one pattern.
pub const PLACEHOLDERS_MAX: usize = 8;
/// Longest name of a variable in the configuration, in bytes.
pub const VARIABLE_BYTES_MAX: usize = 128;
/// The name of the variable of an opaque key where the configuration gives none, and of a value that cannot be divided.
pub const OPAQUE_VARIABLE: &str = "session";

/// What a placeholder stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Session,
    Variable,
    Any,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Session => "{session}",
            Role::Variable => "{variable}",
            Role::Any => "{any}",
        }
    }
}

/// A placeholder and the text behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    pub role: Role,
    pub shape: IdShape,
    pub after: String,
}

/// Where the name of the variable of a key comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Naming {
    /// From the value: a hash field, a member of a map. The name is for a value that cannot be divided; a hash always can.
    ByValue(&'static str),
    /// From the configuration.
    Fixed(String),
    /// From the key.
    Captured,
}

/// One pattern, read and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPattern {
    text: String,
    layout: Layout,
    database: Option<u32>,
    preset: Option<&'static str>,
    /// Whether all behind the first text is the session's id: the most frequent pattern has a short way.
    is_plain: bool,
    merges: bool,
    pub(crate) prefix: String,
    /// At least one.
    pub(crate) holes: Vec<Hole>,
    naming: Naming,
}

impl KeyPattern {
    /// Reads `text`; `variable` is the fixed name of the variable, for the layouts `key` and `opaque`.
    pub fn parse(text: &str, layout: Layout, variable: Option<&str>) -> Result<KeyPattern, Complaint> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(Complaint::new(format!("is longer than {PATTERN_BYTES_MAX} bytes"), "shorten it"));
        }
        let (prefix, holes) = parts(text)?;
        if !holes.iter().any(|hole| hole.role == Role::Session) {
            let remedy = "put {session} where the session's id stands, as in `sess:{session}`";
            return Err(Complaint::new(format!("{} has no {{session}}", shown(text)), remedy));
        }
        let captures = holes.iter().any(|hole| hole.role == Role::Variable);
        let naming = naming(layout, captures, variable)?;
        let is_plain = matches!(holes.as_slice(), [only] if only.shape == IdShape::ANY && only.after.is_empty());
        Ok(KeyPattern {
            text: text.to_owned(),
            layout,
            database: None,
            preset: None,
            is_plain,
            merges: false,
            prefix,
            holes,
            naming,
        })
    }

    /// The same, for keys of this database only.
    pub fn in_database(self, database: Option<u32>) -> KeyPattern {
        KeyPattern { database, ..self }
    }

    /// The same, whose values are merged if they can be divided into members.
    pub fn merging(self) -> KeyPattern {
        KeyPattern { merges: self.layout.is_divided(), ..self }
    }

    /// Whether writes at a time of different members both survive.
    pub fn merges(&self) -> bool {
        self.merges
    }

    /// The same, as part of this preset.
    pub(crate) fn of_preset(self, name: &'static str) -> KeyPattern {
        KeyPattern { preset: Some(name), ..self }
    }

    /// The preset that it belongs to; `None`: the configuration holds it as it is.
    pub fn preset(&self) -> Option<&'static str> {
        self.preset
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes every key whole: nothing stands around `{session}`, so each key is a session of its own.
    pub fn takes_every_key(&self) -> bool {
        self.text == "{session}" && self.database.is_none()
    }

    /// Whether its keys hold more than the session's id: a variable, or a part that is skipped.
    pub(crate) fn has_captured(&self) -> bool {
        self.holes.iter().any(|hole| hole.role != Role::Session)
    }

    /// How the value of its keys is divided into variables.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The only database in which it takes keys; `None`: it takes them in all.
    pub fn database(&self) -> Option<u32> {
        self.database
    }

    /// The name of its variable, as far as the configuration gives it: the one of the key, or for the layouts `json`, `msgpack`
    /// and `php` of a value that cannot be divided. `None`: from the key, or from the fields of a hash.
    pub fn variable(&self) -> Option<&str> {
        match &self.naming {
            Naming::Fixed(name) => Some(name),
            Naming::ByValue(name) => Some(*name).filter(|name| !name.is_empty()),
            Naming::Captured => None,
        }
    }

    /// Whether each variable of its keys has a name of its own in the value.
    pub fn is_divided(&self) -> bool {
        matches!(self.naming, Naming::ByValue(_))
    }

    /// The shape of the session's id.
    pub fn session_shape(&self) -> IdShape {
        self.holes.iter().find(|hole| hole.role == Role::Session).map_or(IdShape::ANY, |hole| hole.shape)
    }

    /// The text that ends the key.
    pub(crate) fn suffix(&self) -> &str {
        self.holes.last().map_or("", |hole| hole.after.as_str())
    }

    /// What decides between two patterns that take the same key; the greater wins: text at both ends, text in between, shapes,
    /// a database.
    pub(crate) fn specificity(&self) -> (usize, usize, usize, bool) {
        let outer = self.prefix.len() + self.suffix().len();
        let inner: usize = self.holes.iter().map(|hole| hole.after.len()).sum::<usize>() - self.suffix().len();
        let strictness = self.holes.iter().map(|hole| hole.shape.strictness()).sum();
        (outer, inner, strictness, self.database.is_some())
    }

    /// The session and the captured variable of `key`; `None`: it is not one of this pattern.
    #[inline]
    pub(crate) fn take<'a>(&'a self, database: u32, key: &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?;
        if self.database.is_some_and(|only| only != database) {
            return None;
        }
        if self.is_plain {
            return (!rest.is_empty()).then(|| (rest, self.named(None)));
        }
        let (session, variable) = self.divide(rest)?;
        Some((session, self.named(variable)))
    }

    /// The name of the variable, of which the key held `captured`.
    #[inline]
    fn named<'a>(&'a self, captured: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match &self.naming {
            Naming::Captured => captured,
            Naming::Fixed(name) => Some(name.as_bytes()),
            Naming::ByValue("") => None,
            Naming::ByValue(name) => Some(name.as_bytes()),
        }
    }

    /// The session and the captured variable in what stands behind the first text.
    fn divide<'a>(&self, rest: &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let (last, before) = self.holes.split_last()?;
        let mut rest = rest.strip_suffix(last.after.as_bytes())?;
        let (mut session, mut variable) = (None, None);
        for hole in before {
            let (part, behind) = hole.divide(rest)?;
            hole.keep(part, &mut session, &mut variable)?;
            rest = behind;
        }
        last.keep(rest, &mut session, &mut variable)?;
        Some((session?, variable))
    }
}

impl Hole {
    /// The part that this placeholder takes of `rest`, and what is behind the text behind it.
    fn divide<'a>(&self, rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let end = self.end(rest)?;
        let (part, behind) = rest.split_at_checked(end)?;
        Some((part, behind.strip_prefix(self.after.as_bytes())?))
    }

    /// Where the part of `rest` that this placeholder takes ends.
    pub(crate) fn end(&self, rest: &[u8]) -> Option<usize> {
        if let Some(bytes) = self.shape.fixed_bytes() {
            return Some(bytes);
        }
        let (least, _) = self.shape.bytes();
        let after = self.after.as_bytes();
        rest.get(least..)?.windows(after.len()).position(|window| window == after)?.checked_add(least)
    }

    /// Notes the part if it has the shape.
    fn keep<'a>(&self, part: &'a [u8], session: &mut Option<&'a [u8]>, variable: &mut Option<&'a [u8]>) -> Option<()> {
        if !self.shape.fits(part) {
            return None;
        }
        match self.role {
            Role::Session => *session = Some(part),
            Role::Variable => *variable = Some(part),
            Role::Any => {}
        }
        Some(())
    }
}

/// Divides the text of a pattern; complaints say at which character of it.
fn parts(text: &str) -> Result<(String, Vec<Hole>), Complaint> {
    let wrong = |at: usize, message: String, remedy: &str| {
        let character = text.get(..at).unwrap_or(text).chars().count().saturating_add(1);
        Err(Complaint::new(format!("at character {character} of {}: {message}", shown(text)), remedy))
    };
    let (mut prefix, mut holes): (String, Vec<Hole>) = (String::new(), Vec::new());
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let literal = if rest.starts_with("{{") || rest.starts_with("}}") {
            at += 2;
            rest.get(..1)
        } else if rest.starts_with('}') {
            return wrong(at, "a brace closes that none opened".to_owned(), "remove it; write }} for a brace of the key");
        } else if let Some(inside) = rest.strip_prefix('{') {
            let Some((inside, _)) = inside.split_once('}') else {
                return wrong(at, "this brace is not closed".to_owned(), "close it; write {{ for a brace of the key");
            };
            let (role, shape) = match placeholder(inside) {
                Ok(read) => read,
                Err(complaint) => return wrong(at, complaint.message, &complaint.remedy),
            };
            if role != Role::Any && holes.iter().any(|hole| hole.role == role) {
                return wrong(at, format!("a second {}", role.word()), "write it once; {any} skips a part of the key");
            }
            if holes.last().is_some_and(|hole| hole.after.is_empty() && hole.shape.fixed_bytes().is_none()) {
                let message = "nothing stands between two placeholders".to_owned();
                let remedy = "put the text between them that stands in the keys, as in `{session}:{variable}`, or give the \
                              first a length, as in {session:hex:32}";
                return wrong(at, message, remedy);
            }
            if holes.len() == PLACEHOLDERS_MAX {
                return wrong(at, format!("more than {PLACEHOLDERS_MAX} placeholders"), "use fewer");
            }
            holes.push(Hole { role, shape, after: String::new() });
            at += inside.len() + 2;
            continue;
        } else {
            let len = rest.chars().next().map_or(1, char::len_utf8);
            at += len;
            rest.get(..len)
        };
        holes.last_mut().map_or(&mut prefix, |hole| &mut hole.after).push_str(literal.unwrap_or_default());
    }
    Ok((prefix, holes))
}

/// What stands between the braces.
fn placeholder(inside: &str) -> Result<(Role, IdShape), Complaint> {
    let (word, shape) = inside.split_once(':').map_or((inside, None), |(word, shape)| (word, Some(shape)));
    let role = match word {
        "session" => Role::Session,
        "variable" => Role::Variable,
        "any" => Role::Any,
        _ => {
            let near = nearest(word, ["session", "variable", "any"]);
            let near = near.map(|near| format!("did you mean {{{near}}}? ")).unwrap_or_default();
            let remedy = format!("{near}possible: {{session}}, {{variable}}, {{any}}; {{{{ is a brace of the key");
            return Err(Complaint::new(format!("{{{}}} is no placeholder", crate::mistake::plain(word)), remedy));
        }
    };
    Ok((role, shape.map_or(Ok(IdShape::ANY), IdShape::parse)?))
}

/// Which name the variables of a key have, or why layout, `{variable}` and fixed name do not go together.
fn naming(layout: Layout, captures: bool, variable: Option<&str>) -> Result<Naming, Complaint> {
    if let Some(name) = variable
        && (name.is_empty() || name.len() > VARIABLE_BYTES_MAX)
    {
        let message = format!("the name of the variable has {} bytes", name.len());
        return Err(Complaint::new(message, format!("give it 1 to {VARIABLE_BYTES_MAX} bytes")));
    }
    let by_value = match layout {
        Layout::Hash => Some(""),
        Layout::Json | Layout::Msgpack | Layout::Php => Some(OPAQUE_VARIABLE),
        Layout::Key | Layout::Opaque => None,
    };
    match (layout, captures, variable) {
        (Layout::Key, true, None) => Ok(Naming::Captured),
        (Layout::Key, true, Some(_)) => Err(Complaint::new(
            "the variable is named twice: by {variable} in the pattern and by `variable`",
            "keep one of the two",
        )),
        (_, true, _) => Err(Complaint::new(
            "{variable} is only for layout = \"key\"",
            "set layout = \"key\", or take {variable} out of the pattern",
        )),
        (Layout::Key, false, None) => Err(Complaint::new(
            "layout = \"key\" needs the name of its variable",
            "add variable = \"…\", or {variable} to the pattern",
        )),
        (_, false, Some(_)) if by_value.is_some() => Err(Complaint::new(
            "`variable` has no meaning here: each field or member of the value is a variable",
            "remove it, or set layout = \"key\"",
        )),
        (_, false, Some(name)) => Ok(Naming::Fixed(name.to_owned())),
        (_, false, None) => Ok(by_value.map_or_else(|| Naming::Fixed(OPAQUE_VARIABLE.to_owned()), Naming::ByValue)),
    }
}
