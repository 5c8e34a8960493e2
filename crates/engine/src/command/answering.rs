//! `CLIENT REPLY`: which commands of a connection are answered.
//!
//! It never keeps a reply back itself: whoever writes replies asks it. [`super::connection`] gives it the orders, the state face
//! says when a command begins.
//!
//! | order | its own reply | the next command | those after it |
//! |---|---|---|---|
//! | `ON` | `OK` | answered | answered |
//! | `OFF` | none | not answered | not answered |
//! | `SKIP` | none | not answered | answered |
//!
//! After `OFF` a `SKIP` changes nothing. Invariant: what nobody asked for (messages, confirmations of subscriptions) is no answer
//! and always comes.

/// Which commands are answered; all by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answering {
    off: bool,
    skips: Skips,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Skips {
    #[default]
    None,
    Next,
    This,
}

impl Answering {
    /// A command begins. True: it is not answered.
    pub fn begin(&mut self) -> bool {
        self.skips = if self.skips == Skips::Next { Skips::This } else { Skips::None };
        self.is_silent()
    }

    /// Whether the present command is not answered.
    pub fn is_silent(self) -> bool {
        self.off || self.skips == Skips::This
    }

    /// Takes an order. `Some(true)`: `OK` is its reply, `Some(false)`: it has none, `None`: there is no such order.
    pub(super) fn order(&mut self, order: &[u8]) -> Option<bool> {
        match order.to_ascii_lowercase().as_slice() {
            b"on" => *self = Answering::default(),
            b"off" => self.off = true,
            b"skip" if self.off => {}
            b"skip" => self.skips = Skips::Next,
            _ => return None,
        }
        Some(order.eq_ignore_ascii_case(b"on"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_for_one_command_and_off_until_on() {
        let mut answering = Answering::default();
        let mut silent = Vec::new();
        for order in ["", "skip", "skip", "", "", "off", "skip", "", "bla", "on", "", "skip", "on", ""] {
            let begins = answering.begin();
            let answer = if order.is_empty() { None } else { answering.order(order.as_bytes()) };
            silent.push((begins, answer == Some(false) || answering.is_silent()));
        }
        let expected: Vec<bool> = "nyyynyyyynnynn".chars().map(|c| c == 'y').collect();
        assert_eq!(silent.iter().map(|(_, silent)| *silent).collect::<Vec<_>>(), expected);
    }
}
