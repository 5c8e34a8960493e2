//! Takes settings out of the gathered raw values by key: typed, checked, with a mistake for each that is wrong.
//!
//! It decides nothing about settings together (`checks` does). Called by `assemble`, once for the whole and once for each
//! entry of a list.
//!
//! A wrong value is reported and replaced by its default, so that reading goes on and finds the other mistakes; what was
//! read is thrown away in the end.
//! Invariant: a key that is not in the table is a mistake too, never a silent zero.

use crate::gather::{Fields, Layer, Located, Origin, Raw};
use crate::listen::{ListenAt, file_mode};
use crate::mistake::{Complaint, Mistake};
use crate::secret::{IdKey, Secret, can_be_read, read_secret_file};
use crate::table::{Kind, setting};
use crate::values;
use crate::words::Word;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use wayfarer_identity::SECRETS_MAX;

/// See the head of the file.
pub(crate) struct Reader<'a> {
    fields: &'a Fields,
    mistakes: &'a mut Vec<Mistake>,
    /// The keys whose value is not as it was written, because that was wrong.
    pub wrong: BTreeSet<&'static str>,
    /// What is right but surprising.
    pub warnings: Vec<Mistake>,
    /// Each key that was asked for.
    #[cfg(test)]
    pub asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(fields: &'a Fields, mistakes: &'a mut Vec<Mistake>) -> Reader<'a> {
        Reader {
            fields,
            mistakes,
            wrong: BTreeSet::new(),
            warnings: Vec::new(),
            #[cfg(test)]
            asked: Vec::new(),
        }
    }

    /// The raw value of `key` and where it stands.
    pub(crate) fn located(&self, key: &str) -> Option<&'a Located> {
        self.fields.get(key)
    }

    /// Where the entry's `key` stands, else `other`.
    pub(crate) fn origin_or(&self, key: &str, other: &Origin) -> Origin {
        self.located(key).map_or_else(|| other.clone(), |located| located.origin.clone())
    }

    pub(crate) fn report(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The value of `key`, if it is set and right.
    fn optional<T>(&mut self, key: &'static str, read: impl Fn(&Raw, Kind) -> Option<Result<T, Complaint>>) -> Option<T> {
        #[cfg(test)]
        self.asked.push(key);
        let located = self.fields.get(key);
        let outcome = match (setting(key), located) {
            (Some(setting), Some(located)) => read(&located.raw, setting.kind),
            (Some(_), None) => return None,
            (None, _) => None,
        };
        match (outcome, located) {
            (Some(Ok(value)), _) => Some(value),
            (Some(Err(complaint)), Some(located)) => {
                self.mistakes.push(located.origin.mistake(complaint.message, complaint.remedy));
                self.wrong.insert(key);
                None
            }
            _ => {
                let origin = Origin { layer: Layer::Default, file: "defaults".to_owned(), line: None, key: key.to_owned() };
                self.mistakes.push(origin.mistake("the table of settings does not fit the program", "report this as a defect"));
                None
            }
        }
    }

    /// The value of `key`; if it is wrong (which is reported), the default.
    fn required<T>(&mut self, key: &'static str, read: impl Fn(&Raw, Kind) -> Option<Result<T, Complaint>>, else_value: T) -> T {
        if let Some(value) = self.optional(key, &read) {
            return value;
        }
        let default = setting(key).and_then(|setting| Some((setting.kind, Raw::Bare(setting.default?.to_owned()))));
        default.and_then(|(kind, raw)| read(&raw, kind)?.ok()).unwrap_or(else_value)
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> bool {
        self.required(key, |raw, kind| matches!(kind, Kind::Flag).then(|| values::flag(raw)), false)
    }

    pub(crate) fn number(&mut self, key: &'static str) -> u64 {
        self.required(key, number, 0)
    }

    pub(crate) fn count(&mut self, key: &'static str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    pub(crate) fn optional_number(&mut self, key: &'static str) -> Option<u64> {
        self.optional(key, number)
    }

    pub(crate) fn text(&mut self, key: &'static str) -> String {
        self.required(key, shaped, String::new())
    }

    pub(crate) fn optional_text(&mut self, key: &'static str) -> Option<String> {
        self.optional(key, shaped)
    }

    /// Text that may be empty.
    pub(crate) fn optional_empty_text(&mut self, key: &'static str) -> Option<String> {
        self.optional(key, |raw, kind| match (values::text(raw), kind) {
            (Ok(""), Kind::Text { .. }) => Some(Ok(String::new())),
            _ => shaped(raw, kind),
        })
    }

    /// The text of a pattern or glob, which has a reader of its own.
    pub(crate) fn parsed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        self.optional(key, |raw, kind| match kind {
            Kind::Pattern | Kind::Glob | Kind::Directory | Kind::Events => Some(values::text(raw).and_then(&parse)),
            _ => None,
        })
    }

    pub(crate) fn choice<T: Word>(&mut self, key: &'static str) -> Option<T> {
        self.optional(key, |raw, kind| match kind {
            Kind::Choice { words, later } => {
                let word = values::word(raw, &words(), later);
                Some(word.and_then(|word| T::from_word(word).ok_or_else(|| Complaint::new("is not known", ""))))
            }
            _ => None,
        })
    }

    /// The name of a preset.
    pub(crate) fn choice_word(&mut self, key: &'static str) -> Option<String> {
        self.optional(key, |raw, kind| match kind {
            Kind::Choice { words, later } => Some(values::word(raw, &words(), later).map(str::to_owned)),
            _ => None,
        })
    }

    pub(crate) fn listen(&mut self, key: &'static str) -> SocketAddr {
        self.required(key, listen, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn optional_listen(&mut self, key: &'static str) -> Option<SocketAddr> {
        self.optional(key, listen)
    }

    /// Where the state face listens.
    pub(crate) fn listen_at(&mut self, key: &'static str) -> ListenAt {
        self.required(key, listen_at, ListenAt::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    pub(crate) fn optional_listen_at(&mut self, key: &'static str) -> Option<ListenAt> {
        self.optional(key, listen_at)
    }

    /// A file that can be opened now.
    pub(crate) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        self.optional(key, |raw, kind| matches!(kind, Kind::File).then(|| values::text(raw).and_then(can_be_read)))
    }

    /// The mode of a file; 0 grants nothing.
    pub(crate) fn mode(&mut self, key: &'static str) -> u32 {
        self.required(key, |raw, kind| matches!(kind, Kind::Mode).then(|| file_mode(raw)), 0)
    }

    pub(crate) fn networks(&mut self, key: &'static str) -> Vec<IpNet> {
        let read = |raw: &Raw, kind| matches!(kind, Kind::Networks).then(|| values::networks(raw));
        self.required(key, read, Vec::new())
    }

    /// Users; none, if it is not set.
    pub(crate) fn users(&mut self, key: &'static str) -> Vec<String> {
        let read = |raw: &Raw, kind| matches!(kind, Kind::Users).then(|| values::users(raw));
        self.optional(key, read).unwrap_or_default()
    }

    pub(crate) fn instance(&mut self, key: &'static str) -> ListenAt {
        let read = |raw: &Raw, kind| matches!(kind, Kind::Instance).then(|| values::instance(raw));
        self.required(key, read, ListenAt::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    /// A secret from `key` or from the file that `file_key` names, whichever has the later source; read by `parse`.
    pub(crate) fn secret<T>(
        &mut self,
        key: &'static str,
        file_key: &'static str,
        parse: impl Fn(&Secret) -> Result<T, Complaint>,
    ) -> Option<T> {
        let direct = self.optional(key, |raw, kind| match kind {
            Kind::Secret | Kind::IdKey | Kind::Upstream => Some(values::text(raw).and_then(|text| match text {
                "" => Err(Complaint::new("is empty", "give it a value, or remove it")),
                text => Ok(Secret::new(text)),
            })),
            _ => None,
        });
        let path = self.optional(file_key, |raw, kind| match kind {
            Kind::SecretFile => Some(values::text(raw).map(str::to_owned)),
            _ => None,
        });
        let layer = |key: &str| self.located(key).map(|located| located.origin.layer);
        let (secret, from) = match (direct, path) {
            (None, None) => return None,
            (Some(_), Some(_)) if layer(key) == layer(file_key) => {
                let origin = self.located(file_key)?.origin.clone();
                self.report(origin.mistake(format!("{key} is set too"), "keep one of the two"));
                return None;
            }
            (Some(secret), None) => (Ok(secret), key),
            (Some(secret), Some(_)) if layer(key) > layer(file_key) => (Ok(secret), key),
            (_, Some(path)) => (read_secret_file(&path), file_key),
        };
        match secret.and_then(|secret| parse(&secret)) {
            Ok(value) => Some(value),
            Err(complaint) => {
                let origin = self.located(from)?.origin.clone();
                self.report(origin.mistake(complaint.message, complaint.remedy));
                self.wrong.insert(from);
                None
            }
        }
    }

    /// Secrets from `key`, or from the lines of the file that `file_key` names.
    pub(crate) fn secrets(&mut self, key: &'static str, file_key: &'static str) -> Vec<Secret> {
        let direct = self.optional(key, |raw, kind| match (kind, raw) {
            (Kind::Secrets, Raw::Texts(texts)) => Some(Ok(texts.clone())),
            (Kind::Secrets, raw) => Some(values::text(raw).map(|text| vec![text.to_owned()])),
            _ => None,
        });
        let path = self.optional(file_key, |raw, kind| match kind {
            Kind::SecretFile => Some(values::text(raw).map(str::to_owned)),
            _ => None,
        });
        let (texts, from) = match (direct, path) {
            (None, None) => return Vec::new(),
            (Some(_), Some(_)) => (Err(Complaint::new(format!("{key} is set too"), "keep one of the two")), file_key),
            (Some(texts), None) => (Ok(texts), key),
            (None, Some(path)) => {
                let lines = |secret: Secret| secret.expose().lines().map(str::to_owned).collect();
                (read_secret_file(&path).map(lines), file_key)
            }
        };
        let texts: Result<Vec<String>, Complaint> = texts.and_then(|texts| match texts.len() {
            1..=SECRETS_MAX if texts.iter().all(|text| !text.is_empty()) => Ok(texts),
            1..=SECRETS_MAX => Err(Complaint::new("has an empty secret", "give each a value, or remove it")),
            count => Err(Complaint::new(format!("has {count} secrets"), format!("write 1 to {SECRETS_MAX}"))),
        });
        match texts {
            Ok(texts) => texts.into_iter().map(Secret::new).collect(),
            Err(complaint) => {
                if let Some(located) = self.located(from) {
                    let mistake = located.origin.mistake(complaint.message, complaint.remedy);
                    self.report(mistake);
                }
                self.wrong.insert(from);
                Vec::new()
            }
        }
    }

    pub(crate) fn id_key(&mut self) -> Option<IdKey> {
        self.secret("admin.id_key", "admin.id_key_file", |secret| IdKey::parse(secret.expose()))
    }
}

fn number(raw: &Raw, kind: Kind) -> Option<Result<u64, Complaint>> {
    match kind {
        Kind::Number { unit, min, max } => Some(values::number(raw, unit, min, max)),
        _ => None,
    }
}

fn shaped(raw: &Raw, kind: Kind) -> Option<Result<String, Complaint>> {
    match kind {
        Kind::Text { shape, bytes_max } => Some(values::shaped(raw, shape, bytes_max)),
        _ => None,
    }
}

fn listen_at(raw: &Raw, kind: Kind) -> Option<Result<ListenAt, Complaint>> {
    matches!(kind, Kind::ListenAt).then(|| values::listen_at(raw))
}

fn listen(raw: &Raw, kind: Kind) -> Option<Result<SocketAddr, Complaint>> {
    match kind {
        Kind::Listen { beyond_loopback } => Some(values::listen(raw, beyond_loopback)),
        _ => None,
    }
}
