//! Looks rows up in the table of settings: by key, by list, by section.
//!
//! It holds no row itself. Called by whoever calls [`crate::table`], under whose name its functions are known.
//!
//! Invariant: what is not in the table is not found.

use crate::kind::{Kind, Setting};
use crate::table::TABLE;

/// The row of `key`.
pub fn setting(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == key)
}

/// The row of `key`, which is a field of a list of [`Kind::Sources`], written as if there were no list: `http.session.cookie`.
pub(crate) fn field_of_one(key: &str) -> Option<(&'static Setting, &'static Setting)> {
    let (list, leaf) = key.rsplit_once('.')?;
    let list = setting(list).filter(|setting| matches!(setting.kind, Kind::Sources))?;
    Some((list, setting(&format!("{}[].{leaf}", list.key))?))
}

/// The names that may stand directly in `section` (empty: at the top), each once.
pub fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for setting in TABLE {
        let rest = if section.is_empty() {
            Some(setting.key)
        } else {
            setting.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split('.').next()).map(|name| name.trim_end_matches("[]"));
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.push(name);
        }
    }
    names
}
