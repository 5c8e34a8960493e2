//! A residual: the values that an origin keeps for a handover until the new owner has confirmed them.
//!
//! It never expires by itself and never changes: a value in it is the one that the manifest of its handover describes.
//! Freed when no location record depends on the handover any more.

use super::{Content, Session, VariableId};
use crate::ids::{Digest, SessionId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Residual {
    /// Whose variables these are.
    pub session: SessionId,
    values: BTreeMap<VariableId, Bytes>,
    bytes: u64,
}

impl Residual {
    /// Keeps all that is here of a session that has left.
    pub fn of(id: SessionId, session: &Session) -> Residual {
        let mut values = BTreeMap::new();
        for key in session.keys() {
            for (name, variable) in key.variables() {
                if let Content::Here(value) = &variable.content {
                    values.insert(VariableId { key: key.name.to_bytes(), name: name.clone() }, value.clone());
                }
            }
        }
        let bytes = values.values().map(|v| v.len() as u64).sum();
        Residual { session: id, values, bytes }
    }

    /// The value of a variable at the time of the handover.
    pub fn get(&self, id: &VariableId) -> Option<&Bytes> {
        self.values.get(id)
    }

    /// Bytes of its values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it holds, for the have-list of a move back.
    pub fn digests(&self) -> impl Iterator<Item = (&VariableId, Digest)> {
        self.values.iter().map(|(id, value)| (id, Digest::of(value)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_residual_holds_what_was_here_and_nothing_else() {
        let id = |name: &'static [u8]| VariableId { key: Bytes::from_static(b"h"), name: Bytes::from_static(name) };
        let mut session = Session::default();
        session.write_field(b"h", b"here", Bytes::from_static(b"1234"), 0);
        session.write_field(b"h", b"later", Bytes::from_static(b"x"), 0);
        let mut manifest = crate::session::manifest::Manifest::of(
            &session,
            crate::ids::HandoverId::LEAST,
            |_, _| crate::session::Class::Carried,
            |_, _, value| Digest::of(value),
        );
        for entry in manifest.keys.iter_mut().flat_map(|k| &mut k.entries).filter(|e| e.name == "later") {
            entry.held = crate::session::manifest::Held::Lost;
        }
        let session = manifest.open(&std::collections::HashMap::new()).unwrap();
        let residual = Residual::of(SessionId::copy_of(b"1"), &session);
        assert_eq!((residual.get(&id(b"here")).unwrap().as_ref(), residual.get(&id(b"later"))), (&b"1234"[..], None));
        assert_eq!(residual.bytes(), 4);
        assert_eq!(residual.digests().collect::<Vec<_>>(), [(&id(b"here"), Digest::of(b"1234"))]);
    }
}
