//! What of a session will be wanted soon, and how often its variables have been read: for those who look ahead.
//!
//! It changes nothing, and counts no access. Called for requests that arrive, before their instance asks. Invariant: a shard is held for as long as
//! one session's variables are looked through, and no longer.

use super::Store;
use bytes::Bytes;
use wayfarer_engine::session::{Class, Content, VariableId};

impl Store {
    /// The variables of a session here that have not arrived and will be wanted soon: those that stream, and of the others those of which
    /// `needed` (by key and name) says so; where it does not know, those that were read at least half as often as the one that was read
    /// most. `None`: the session is not open here.
    pub fn wanted_early(&self, session: &[u8], needed: impl Fn(&Bytes, &Bytes) -> Option<bool>) -> Option<Vec<VariableId>> {
        let held = self.residents.get(session).filter(|held| held.resident.is_open())?;
        let resident = &held.resident;
        let mut missing = Vec::new();
        if resident.session.missing_count() > 0 {
            let keys = || resident.session.keys().iter();
            let most = keys().flat_map(|key| key.variables()).map(|(_, variable)| variable.access.reads).max().unwrap_or(0);
            for key in keys() {
                let of = key.name.to_bytes();
                for (name, variable) in key.variables() {
                    let often = || variable.access.reads > 0 && variable.access.reads >= most.div_ceil(2);
                    if let Content::Elsewhere(remote) = &variable.content
                        && (remote.class == Class::Streamed || needed(&of, name).unwrap_or_else(often))
                    {
                        missing.push(VariableId { key: of.clone(), name: name.clone() });
                    }
                }
            }
        }
        Some(missing)
    }

    /// How often each variable of a session here has been read so far, by key and name in order. `None`: the session is not open here,
    /// or has more than `most` variables.
    pub fn reads(&self, session: &[u8], most: usize) -> Option<Vec<(Bytes, Bytes, u16)>> {
        let held = self.residents.get(session).filter(|held| held.resident.is_open())?;
        let mut reads = Vec::new();
        for key in held.resident.session.keys().iter() {
            let variables = key.variables();
            if reads.len() + variables.len() > most {
                return None;
            }
            reads.extend(variables.map(|(name, variable)| (key.name.to_bytes(), name.clone(), variable.access.reads)));
        }
        reads.sort_unstable();
        Some(reads)
    }
}
