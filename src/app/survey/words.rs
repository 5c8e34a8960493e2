//! A survey as it crosses between members: the arguments of an operation on no session.
//!
//! It asks and answers nothing. What it does not understand is of a later version, and its asker is told so. Called by the survey.
//!
//! | arguments behind the name | asks |
//! |---|---|
//! | `moves` | how often sessions have changed their owner here, and how many are about to |
//! | `size` database | how many keys |
//! | `keys` database pattern | which keys |
//! | `scan` database part count (0 or 1 pattern) (0 or 1 type) | which keys of a part |
//! | `flush`, perhaps a database | to end what is here |

use crate::state_face::Survey;
use bytes::Bytes;
use wayfarer_engine::command::Op;
use wayfarer_engine::wire::resp::parse_integer;

/// The name of a question between members.
pub(in crate::app) const NAME: &[u8] = b"wayfarer:survey";

/// What a member is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::app) enum Question {
    /// What has moved: two integers.
    Moves,
    /// What is here.
    Survey(Survey),
}

/// A question as an operation.
pub(super) fn op_of(question: &Question) -> Op {
    let number = |n: u64| Bytes::from(n.to_string());
    let mut args = vec![Bytes::from_static(NAME)];
    match question {
        Question::Moves => args.push(Bytes::from_static(b"moves")),
        Question::Survey(Survey::Size { database }) => args.extend([Bytes::from_static(b"size"), number(u64::from(*database))]),
        Question::Survey(Survey::Keys { database, pattern }) => {
            args.extend([Bytes::from_static(b"keys"), number(u64::from(*database)), pattern.clone()]);
        }
        Question::Survey(Survey::Scan { database, cursor, count, pattern, kind }) => {
            args.extend([Bytes::from_static(b"scan"), number(u64::from(*database)), number(*cursor), number(*count as u64)]);
            for of in [pattern, kind] {
                args.push(number(u64::from(of.is_some())));
                args.extend(of.iter().cloned());
            }
        }
        Question::Survey(Survey::Flush { database }) => {
            args.push(Bytes::from_static(b"flush"));
            args.extend(database.map(|database| number(u64::from(database))));
        }
    }
    Op::question(args)
}

/// The question of another member; `None`: this version does not know it.
pub(in crate::app) fn understand(arguments: &[Bytes]) -> Option<Question> {
    let (kind, rest) = arguments.get(1..)?.split_first()?;
    let number = |at: usize| rest.get(at).and_then(|text| parse_integer(text)).and_then(|n| u64::try_from(n).ok());
    let database = || number(0).and_then(|n| u8::try_from(n).ok());
    let survey = match kind.as_ref() {
        b"moves" => return Some(Question::Moves),
        b"size" => Survey::Size { database: database()? },
        b"keys" => Survey::Keys { database: database()?, pattern: rest.get(1)?.clone() },
        b"scan" => {
            let mut at = 3;
            let mut optional = || {
                let there = number(at)? == 1;
                at += if there { 2 } else { 1 };
                Some(if there { Some(rest.get(at - 1)?.clone()) } else { None })
            };
            let (pattern, kind) = (optional()?, optional()?);
            Survey::Scan { database: database()?, cursor: number(1)?, count: usize::try_from(number(2)?).ok()?, pattern, kind }
        }
        b"flush" => Survey::Flush { database: database() },
        _ => return None,
    };
    Some(Question::Survey(survey))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_understood() {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let scan =
            |pattern: Option<Bytes>, kind: Option<Bytes>| Survey::Scan { database: 3, cursor: 7, count: 10, pattern, kind };
        let surveys = [
            Survey::Size { database: 1 },
            Survey::Keys { database: 15, pattern: text("s:*") },
            scan(None, None),
            scan(Some(text("a*")), None),
            scan(None, Some(text("hash"))),
            scan(Some(text("")), Some(text("string"))),
            Survey::Flush { database: None },
            Survey::Flush { database: Some(2) },
        ];
        for question in surveys.map(Question::Survey).into_iter().chain([Question::Moves]) {
            assert_eq!(understand(op_of(&question).args()), Some(question));
        }
        assert_eq!(understand(&[Bytes::from_static(NAME), text("weather")]), None);
        assert_eq!(understand(&[Bytes::from_static(NAME), text("keys"), text("1")]), None);
        assert_eq!(understand(&[Bytes::from_static(NAME)]), None);
    }
}
