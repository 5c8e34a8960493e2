//! Which variables of a session go now, behind, later or not at all: policy rules, under a budget of bytes.
//!
//! It never looks at a value, only at names and sizes. The origin makes a plan when it proposes a handover and again at the
//! freeze, on what the session is then. Prediction comes later and only after rules.
//!
//! 1. The first rule whose pattern matches the variable's name gives its class; else the default class.
//! 2. A key that is read whole (a split string) is one unit: all its parts get the most urgent class among them.
//! 3. If the carried values exceed the budget, the largest are demoted to `deferred` until they fit.

pub mod share;

use crate::session::{Class, Content, Key, Kind, Session, VariableId, layout};
use std::collections::HashMap;

/// How much an old copy hurts; gives the deadline of synchronisation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Impact {
    /// Before the acknowledgement.
    Critical,
    /// 50 ms.
    High,
    /// 1 s.
    Medium,
    /// 30 s.
    Low,
}

/// What a read of a variable that was declared lost gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLost {
    /// A clear error.
    Error,
    /// As if it had been deleted.
    Absent,
}

/// What policy says of a variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Treatment {
    /// Its class in a move.
    pub class: Class,
    /// How much an old copy of it hurts.
    pub impact: Impact,
    /// What a read gets when it is lost.
    pub on_lost: OnLost,
}

/// One rule: the first that matches decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// A name, with `*` for any run of characters and `?` for one.
    pub pattern: String,
    /// What it says.
    pub treatment: Treatment,
}

/// The rules and what is left to them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// In order.
    pub rules: Vec<Rule>,
    /// For a variable that no rule matches.
    pub default: Treatment,
}

impl Default for Policy {
    fn default() -> Policy {
        let default = Treatment { class: Class::Streamed, impact: Impact::High, on_lost: OnLost::Error };
        Policy { rules: Vec::new(), default }
    }
}

impl Policy {
    /// What it says of a variable by its plain name.
    pub fn of(&self, name: &[u8]) -> Treatment {
        self.rules.iter().find(|r| matches(r.pattern.as_bytes(), name)).map_or(self.default, |r| r.treatment)
    }

    /// The same for a variable of a key. The members of a set or a list are data, not names: they follow the default.
    pub fn of_variable(&self, key: &Key, name: &[u8]) -> Treatment {
        match key.kind {
            Kind::String => self.of(&layout::plain_name(key.layout, name)),
            Kind::Hash => self.of(name),
            Kind::Set | Kind::SortedSet | Kind::List => self.default,
        }
    }
}

/// Whether a pattern with `*` and `?` matches a name; linear in both but for the last `*`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while let Some(&byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == byte => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

/// The classes of the variables of one session for one move.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    classes: HashMap<VariableId, Class>,
    /// Bytes of the values that are carried.
    pub carried_bytes: u64,
    /// How many variables were demoted for the budget.
    pub demoted: usize,
}

impl Plan {
    /// Plans the move of `session` with at most `carried_bytes_max` carried.
    pub fn of(session: &Session, policy: &Policy, carried_bytes_max: u64) -> Plan {
        let mut plan = Plan::default();
        let mut units: Vec<(u64, Vec<VariableId>)> = Vec::new();
        for key in session.keys() {
            let here = key.variables().filter_map(|(name, v)| match &v.content {
                Content::Here(value) => Some((name, value.len() as u64)),
                Content::Elsewhere(_) | Content::Lost => None,
            });
            let id = |name: &bytes::Bytes| VariableId { key: key.name.to_bytes(), name: name.clone() };
            if key.kind == Kind::String {
                let class = key.variables().map(|(name, _)| policy.of_variable(key, name).class).min().unwrap_or(Class::Streamed);
                let (ids, sizes): (Vec<_>, Vec<_>) = here.map(|(name, size)| (id(name), size)).unzip();
                plan.classes.extend(ids.iter().map(|id| (id.clone(), class)));
                if class == Class::Carried {
                    units.push((sizes.iter().sum(), ids));
                }
            } else {
                for (name, size) in here {
                    let class = policy.of_variable(key, name).class;
                    plan.classes.insert(id(name), class);
                    if class == Class::Carried {
                        units.push((size, vec![id(name)]));
                    }
                }
            }
        }
        plan.carried_bytes = units.iter().map(|(size, _)| size).sum();
        units.sort();
        while plan.carried_bytes > carried_bytes_max {
            let Some((size, ids)) = units.pop() else { break };
            plan.carried_bytes -= size;
            plan.demoted += ids.len();
            plan.classes.extend(ids.into_iter().map(|id| (id, Class::Deferred)));
        }
        plan
    }

    /// The class of a variable; one that the plan has not seen streams.
    pub fn class(&self, key: &Key, name: &bytes::Bytes) -> Class {
        let id = VariableId { key: key.name.to_bytes(), name: name.clone() };
        self.classes.get(&id).copied().unwrap_or(Class::Streamed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::session::Layout;
    use bytes::Bytes;

    fn rule(pattern: &str, class: Class) -> Rule {
        Rule { pattern: pattern.into(), treatment: Treatment { class, ..Policy::default().default } }
    }

    #[test]
    fn patterns() {
        for (p, n, yes) in [
            ("a*", "auth", true),
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
            ("*_x*y", "a_x_xzy", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(matches(p.as_bytes(), n.as_bytes()), yes, "{p} {n}");
        }
    }

    #[test]
    fn rules_units_and_budget() {
        let mut s = Session::default();
        s.write_string(b"j", Layout::Json, b"", Bytes::from_static(br#"{"auth":1,"big":2}"#));
        s.write_field(b"h", b"cart", Bytes::from(vec![1; 100]), 0);
        s.write_field(b"h", b"user", Bytes::from(vec![1; 10]), 0);
        s.write_field(b"h", b"tmp", Bytes::from(vec![1; 10]), 0);
        let rules = vec![
            rule("auth", Class::Carried),
            rule("cart", Class::Carried),
            rule("user", Class::Carried),
            rule("tmp", Class::Dropped),
        ];
        let policy = Policy { rules, ..Policy::default() };
        let plan = Plan::of(&s, &policy, 60);
        let class = |key: &[u8], name: &'static [u8]| plan.class(s.key(key, 0).unwrap(), &Bytes::from_static(name));
        assert_eq!(class(b"j", b"\"big\""), Class::Carried, "a split string is one unit");
        assert_eq!(class(b"h", b"cart"), Class::Deferred, "the largest is demoted");
        assert_eq!(class(b"h", b"user"), Class::Carried);
        assert_eq!(class(b"h", b"tmp"), Class::Dropped);
        assert_eq!((plan.carried_bytes, plan.demoted), (28, 1));
    }
}
