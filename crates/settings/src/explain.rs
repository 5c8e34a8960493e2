//! Why a key is not one of a pattern: for `wayfarer check --key`.
//!
//! Never on the hot path, and never in a log: what it says may quote the key, which its caller has typed.
//! Invariant: there is a [`Miss`] exactly where [`KeyPattern::take`] takes nothing (a property test).

use crate::mistake::shown;
use crate::pattern::{KeyPattern, Role};

/// How far a key fitted a pattern, and what was wrong there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Miss {
    /// So many bytes at the front of the key fitted.
    pub fitted_bytes: usize,
    /// What did not, as a sentence about the key.
    pub why: String,
}

impl KeyPattern {
    /// Why `key` of `database` is not taken; `None`: it is.
    pub fn miss(&self, database: u32, key: &[u8]) -> Option<Miss> {
        let miss = |fitted_bytes: usize, why: String| Some(Miss { fitted_bytes, why });
        let alike = key.iter().zip(self.prefix.bytes()).take_while(|(a, b)| **a == *b).count();
        let Some(mut rest) = key.strip_prefix(self.prefix.as_bytes()) else {
            return miss(alike, format!("the key does not begin with {}", shown(&self.prefix)));
        };
        let Some(only) = self.database().filter(|only| *only != database) else {
            let Some(stripped) = rest.strip_suffix(self.suffix().as_bytes()) else {
                return miss(alike, format!("the key does not end in {}", shown(self.suffix())));
            };
            rest = stripped;
            return self.miss_inside(rest, alike);
        };
        miss(alike, format!("the pattern is for database {only}, and this is {database}"))
    }

    /// The key in which the values of `session` are; a variable in it, or a part that is skipped, stands as its placeholder. The
    /// error says why the id can be in none.
    pub fn key_of(&self, session: &[u8]) -> Result<Vec<u8>, String> {
        let mut key = self.prefix.clone().into_bytes();
        for hole in &self.holes {
            match hole.role {
                Role::Session => match hole.shape.objection(session) {
                    Some(objection) => return Err(format!("the id does not fit: {objection}")),
                    None => key.extend_from_slice(session),
                },
                Role::Variable | Role::Any => key.extend_from_slice(hole.role.word().as_bytes()),
            }
            key.extend_from_slice(hole.after.as_bytes());
        }
        Ok(key)
    }

    /// The same as [`KeyPattern::miss`], for what is between the first and the last text.
    fn miss_inside(&self, mut rest: &[u8], mut fitted_bytes: usize) -> Option<Miss> {
        let last = self.holes.len().saturating_sub(1);
        for (index, hole) in self.holes.iter().enumerate() {
            let what = match hole.role {
                Role::Session => "the session's id",
                Role::Variable => "the name of the variable",
                Role::Any => "the part at {any}",
            };
            let end = if index == last { Some(rest.len()) } else { hole.end(rest) };
            let Some((part, behind)) = end.and_then(|end| rest.split_at_checked(end)) else {
                let text = if hole.after.is_empty() { "enough bytes".to_owned() } else { shown(&hole.after) };
                return Some(Miss { fitted_bytes, why: format!("{text} does not stand behind {}", hole.role.word()) });
            };
            if let Some(objection) = hole.shape.objection(part) {
                let fits = part.iter().enumerate().take_while(|(at, byte)| hole.shape.takes(*at, **byte)).count();
                let fitted_bytes = fitted_bytes.saturating_add(fits);
                return Some(Miss { fitted_bytes, why: format!("{what} does not fit: {objection}") });
            }
            fitted_bytes = fitted_bytes.saturating_add(part.len()).saturating_add(hole.after.len());
            if index < last {
                let Some(behind) = behind.strip_prefix(hole.after.as_bytes()) else {
                    return Some(Miss { fitted_bytes, why: format!("{} does not stand behind {what}", shown(&hole.after)) });
                };
                rest = behind;
            }
        }
        None
    }
}
