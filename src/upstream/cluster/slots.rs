//! Which slot a key has, and which node serves a slot.
//!
//! It never asks a node: [`super::Cluster`] does, and hands the answer to `CLUSTER SLOTS` in. Whoever routes a command, and whoever
//! names a guard, asks for a slot.
//!
//! `slot = CRC16/XMODEM(tag) mod 16384`; the tag is what stands between the first `{` and the next `}`, if that is not empty, else
//! the whole key.
//! Invariant: masters stand in the order of their first slots, so a failover gives a master's number to its heir.

use crc::{CRC_16_XMODEM, Crc};
use std::sync::LazyLock;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::parse_integer;
use wayfarer_settings::HostPort;

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;
const CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
/// Ranges of one answer, nodes of a range, facts of a node.
const PARTS_MAX: usize = SLOTS as usize;

/// What Redis hashes of a key with a tag.
pub fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|b| *b == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|b| *b == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

/// The slot of a key.
pub fn slot_of(key: &[u8]) -> u16 {
    CHECKSUM.checksum(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// A decimal number whose slot is this one: a tag for what must have the slot of a key that cannot be a tag itself.
pub fn tag_of_slot(slot: u16) -> u32 {
    static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let mut tags = vec![u32::MAX; usize::from(SLOTS)];
        let mut missing = tags.len();
        for number in 0..u32::MAX {
            if let Some(tag) = tags.get_mut(usize::from(slot_of(number.to_string().as_bytes()))).filter(|tag| **tag == u32::MAX) {
                *tag = number;
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        tags
    });
    TAGS.get(usize::from(slot)).copied().unwrap_or(0)
}

/// Who serves which slots.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SlotMap {
    masters: Vec<HostPort>,
    replicas: Vec<HostPort>,
    /// The place in `masters`, for each slot.
    owners: Vec<Option<u16>>,
}

impl SlotMap {
    /// Reads an answer to `CLUSTER SLOTS` in RESP2; a node that is not named is the one that was asked.
    pub(super) fn read(reply: &[u8], asked: &HostPort) -> Option<SlotMap> {
        let mut ranges = Vec::new();
        for range in elements(reply, PARTS_MAX)? {
            let parts = elements(range, PARTS_MAX)?;
            let [first, last, nodes @ ..] = parts.as_slice() else { return None };
            let (first, last) = (slot(first)?, slot(last)?);
            let nodes: Vec<HostPort> = nodes.iter().map(|node| place(node, asked)).collect::<Option<_>>()?;
            ranges.push((first, last, nodes));
        }
        ranges.sort_by_key(|(first, ..)| *first);
        let mut map = SlotMap { owners: vec![None; usize::from(SLOTS)], ..SlotMap::default() };
        for (first, last, nodes) in ranges {
            let Some((master, replicas)) = nodes.split_first() else { continue };
            let number = map.number_of(master);
            for slot in first..=last {
                map.owners.get_mut(usize::from(slot)).into_iter().for_each(|owner| *owner = number);
            }
            for replica in replicas {
                if !map.replicas.contains(replica) {
                    map.replicas.push(replica.clone());
                }
            }
        }
        Some(map)
    }

    fn number_of(&mut self, master: &HostPort) -> Option<u16> {
        let at = self.masters.iter().position(|known| known == master).unwrap_or_else(|| {
            self.masters.push(master.clone());
            self.masters.len() - 1
        });
        u16::try_from(at).ok()
    }

    /// The master of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&HostPort> {
        let number = (*self.owners.get(usize::from(slot))?)?;
        self.masters.get(usize::from(number))
    }

    /// All masters that serve slots, by their first ones.
    pub(super) fn masters(&self) -> &[HostPort] {
        &self.masters
    }

    /// Everybody who can say where the slots are.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &HostPort> {
        self.masters.iter().chain(&self.replicas)
    }

    /// A node has said that another serves a slot. The order of masters stays until the next answer.
    pub(super) fn moved(&mut self, slot: u16, to: &HostPort) {
        let number = self.number_of(to);
        self.owners.get_mut(usize::from(slot)).into_iter().for_each(|owner| *owner = number);
    }
}

/// Where an error sends a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Redirect {
    /// From now on.
    Moved(u16, HostPort),
    /// This once.
    Ask(HostPort),
    /// Nowhere: in a moment it can be answered here.
    Later,
}

impl Redirect {
    /// Reads an error of a node; `None`: it is another error, or no error.
    pub(super) fn read(reply: &[u8], from: &HostPort) -> Option<Redirect> {
        let text = std::str::from_utf8(reply.strip_prefix(b"-")?.strip_suffix(b"\r\n")?).ok()?;
        let mut words = text.split(' ');
        let kind = words.next()?;
        if kind == "TRYAGAIN" {
            return Some(Redirect::Later);
        }
        if !matches!(kind, "MOVED" | "ASK") {
            return None;
        }
        let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let host = if host.is_empty() { from.host.clone() } else { host.to_owned() };
        let place = HostPort { host, port: port.parse().ok()? };
        Some(if kind == "MOVED" { Redirect::Moved(slot, place) } else { Redirect::Ask(place) })
    }
}

fn slot(element: &[u8]) -> Option<u16> {
    u16::try_from(integer(element)?).ok().filter(|slot| *slot < SLOTS)
}

fn integer(element: &[u8]) -> Option<i64> {
    parse_integer(element.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// Host, port, and what else is said of a node.
fn place(node: &[u8], asked: &HostPort) -> Option<HostPort> {
    let facts = elements(node, PARTS_MAX)?;
    let [host, port, ..] = facts.as_slice() else { return None };
    let port = u16::try_from(integer(port)?).ok()?;
    let text = host.split(|b| *b == b'\n').nth(1).and_then(|text| std::str::from_utf8(text.strip_suffix(b"\r")?).ok());
    let host = text.filter(|host| !host.is_empty() && *host != "?").unwrap_or(&asked.host).to_owned();
    Some(HostPort { host, port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` says.
        for (key, slot) in [("foo", 12182), ("123456789", 12739), ("{user1000}.following", 3443), ("user1000", 3443)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(slot_of(b"foo{}{bar}"), CHECKSUM.checksum(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        for slot in 0..SLOTS {
            assert_eq!(slot_of(tag_of_slot(slot).to_string().as_bytes()), slot);
        }
    }

    #[test]
    fn the_map_is_read_and_corrected() {
        let node = |host: &str, port: u16| format!("*3\n{host}\n:{port}\n$2\nid\n");
        let text = format!("*2\n*4\n:8000\n:16383\n{}{}*3\n:0\n:7999\n{}", node("$1\nb", 2), node("$1\nc", 3), node("$-1", 1));
        let mut map = SlotMap::read(text.replace('\n', "\r\n").as_bytes(), &at("a", 9)).unwrap();
        assert_eq!(map.masters(), [at("a", 1), at("b", 2)]);
        assert_eq!((map.owner(7999), map.owner(8000), map.owner(SLOTS)), (Some(&at("a", 1)), Some(&at("b", 2)), None));
        assert_eq!(map.nodes().count(), 3);
        map.moved(5, &at("d", 4));
        assert_eq!((map.owner(5), map.owner(6)), (Some(&at("d", 4)), Some(&at("a", 1))));
        for wrong in ["", "*1\r\n:1\r\n", "-ERR x\r\n", "*1\r\n*2\r\n:0\r\n:16384\r\n", "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n:1\r\n"] {
            assert_eq!(SlotMap::read(wrong.as_bytes(), &at("a", 9)), None, "{wrong}");
        }
    }

    #[test]
    fn a_redirect_names_a_slot_and_a_place() {
        let read = |text: &str| Redirect::read(format!("-{text}\r\n").as_bytes(), &at("me", 1));
        assert_eq!(read("MOVED 5 10.0.0.1:7000"), Some(Redirect::Moved(5, at("10.0.0.1", 7000))));
        assert_eq!(read("ASK 5 ::1:7000"), Some(Redirect::Ask(at("::1", 7000))));
        assert_eq!(read("MOVED 5 :7000"), Some(Redirect::Moved(5, at("me", 7000))));
        assert_eq!(read("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Redirect::Later));
        for none in ["ERR MOVED", "MOVED", "MOVED x h:1", "MOVED 16384 h:1", "MOVED 1 h", "ASK 1 h:x"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
