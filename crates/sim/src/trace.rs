//! The log of a run: a hash of every line always, the lines themselves when they are wanted.
//!
//! It never decides anything. Two runs of a seed have the same hash, or something in them depends on more than the seed.

use std::fmt::{self, Write};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty log; with `keep` it keeps its lines.
    pub fn new(keep: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new) }
    }

    /// Adds one line.
    pub fn line(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} ms  {what}", at_us as f64 / 1000.0));
        }
        // A hasher never fails to be written to.
        let _ = write!(self, "{at_us} {what}");
    }

    /// FNV-1a of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, if they were kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
