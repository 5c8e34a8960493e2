//! What an operator wants of a node beyond one life: that it drains, or takes no more sessions.
//!
//! It does nothing itself: the driver lets it hear every input, and feeds what it keeps to the node's next life. Invariant: a
//! drain is never taken back.

use wayfarer_engine::node::Input;

/// What operators want of this node, in whichever life.
#[derive(Clone, Copy, Default)]
pub(super) struct Wish {
    cordoned: bool,
    pub(super) drains: bool,
}

impl Wish {
    /// Takes note of an input that is a wish.
    pub(super) fn hear(&mut self, input: &Input) {
        match input {
            Input::Cordon(on) => self.cordoned = *on,
            Input::Drain => self.drains = true,
            _ => {}
        }
    }

    /// What a new node must be told; a drain says more than a cordon.
    pub(super) fn input(self) -> Option<Input> {
        if self.drains { Some(Input::Drain) } else { self.cordoned.then_some(Input::Cordon(true)) }
    }
}
