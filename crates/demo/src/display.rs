//! Shows what happens while it happens: a line each second, or a block that is redrawn where standard output is a terminal.
//!
//! It changes nothing and decides nothing. Called by the run. Invariant: without a terminal it writes plain lines and no escape
//! sequences.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::percentile::Durations;
use crate::stage::admin::Side;
use crate::stage::board::Board;
use crate::users::ledger::Ledger;
use crate::world::{Background, Clock};

const EVERY: Duration = Duration::from_secs(1);

/// How to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// Lines.
    Lines,
    /// A block that is redrawn.
    Block,
}

impl Screen {
    /// Lines if `headless` or if standard output is no terminal.
    pub fn choose(headless: bool) -> Self {
        if headless || !std::io::stdout().is_terminal() { Self::Lines } else { Self::Block }
    }

    /// Shows the run from now on, once a second, as long as the returned value lives.
    pub fn follow(self, ledger: Arc<Ledger>, board: Arc<Board>, clock: Clock) -> Background {
        if self == Self::Lines {
            say(Glimpse::HEADER);
        }
        Background::start(async move {
            let mut beat = tokio::time::interval(EVERY);
            beat.tick().await;
            let mut shown = 0;
            let mut drawn = false;
            loop {
                beat.tick().await;
                let glimpse = Glimpse::take(&ledger, &board, &clock, &mut shown);
                match self {
                    Self::Lines => say(&glimpse.line()),
                    Self::Block => {
                        // Up to where the last block began, and clear to the end of the screen.
                        let up = if drawn { format!("\x1b[{}A\x1b[J", Glimpse::BLOCK_LINES) } else { String::new() };
                        say(&format!("{up}{}", glimpse.block()));
                        drawn = true;
                    }
                }
            }
        })
    }
}

/// Writes a line to standard output. A reader that has gone away does not stop the demo: its exit code still tells.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The run at one moment.
struct Glimpse {
    second: i64,
    phase: &'static str,
    requests: usize,
    total: usize,
    errors: u64,
    wrong: u64,
    latencies: Durations,
    owners: String,
    moved: usize,
    fetched_late: u64,
}

impl Glimpse {
    const HEADER: &str = "   time phase     req/s    total errors wrong   p50 ms   p99 ms   moved  fetched late  owners";
    const BLOCK_LINES: usize = 5;

    fn take(ledger: &Ledger, board: &Board, clock: &Clock, shown: &mut usize) -> Self {
        let (phase, total, errors, wrong, latencies) = {
            let counts = ledger.counts();
            let fresh = counts.records.get(*shown..).unwrap_or_default();
            let latencies =
                fresh.iter().map(|record| u64::try_from(record.done_us.saturating_sub(record.due_us)).unwrap_or(0)).collect();
            let wrong = counts.stale_reads + counts.lost_writes + counts.wrong_values;
            (counts.phase.name(), counts.records.len(), counts.errors, wrong, latencies)
        };
        let requests = total.saturating_sub(*shown);
        *shown = total;
        let views = board.views();
        let owner = |(name, view): (&String, &crate::stage::board::View)| match view.gone {
            true => format!("{name} gone"),
            false => format!("{name} {}{}", view.status.sessions, if view.status.state == "accepting" { "" } else { "*" }),
        };
        let owners = views.iter().map(owner).collect::<Vec<_>>().join(", ");
        let opened = |side: &&crate::stage::admin::MoveSide| side.side == Side::Target && side.outcome == "committed";
        let moved = views.values().flat_map(|view| view.moves.iter().filter(opened)).count();
        let fetched_late = views.values().map(|view| view.status.variables_fetched_late).sum();
        let second = clock.now_us() / 1_000_000;
        Self { second, phase, requests, total, errors, wrong, latencies: Durations::of(latencies), owners, moved, fetched_late }
    }

    fn percentile(&self, percent: f64) -> String {
        self.latencies.percentile_ms(percent).map_or_else(|| "-".into(), |ms| format!("{ms:.1}"))
    }

    fn line(&self) -> String {
        let Self { second, phase, requests, total, errors, wrong, owners, moved, fetched_late, .. } = self;
        let (p50, p99) = (self.percentile(50.0), self.percentile(99.0));
        format!(
            "{second:>5} s {phase:<9} {requests:>5} {total:>8} {errors:>6} {wrong:>5} {p50:>8} {p99:>8} {moved:>7} {fetched_late:>13}  {owners}"
        )
    }

    fn block(&self) -> String {
        let Self { second, phase, requests, total, errors, wrong, owners, moved, fetched_late, .. } = self;
        let (p50, p99) = (self.percentile(50.0), self.percentile(99.0));
        [
            format!("  {second} s   phase: {phase}"),
            format!("  requests   {requests}/s, {total} in all, {errors} errors, {wrong} wrong answers"),
            format!("  latency    p50 {p50} ms, p99 {p99} ms, from the time when each was due"),
            format!("  owners     {owners}   (* not accepting)"),
            format!("  moved      {moved} sessions, {fetched_late} variables fetched after their session"),
        ]
        .join("\n")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_its_header_and_the_block_its_height() {
        let glimpse = Glimpse {
            second: 7,
            phase: "during",
            requests: 450,
            total: 3000,
            errors: 0,
            wrong: 0,
            latencies: Durations::of(vec![1500, 2500]),
            owners: "a 100, b 200".into(),
            moved: 12,
            fetched_late: 34,
        };
        assert_eq!(Glimpse::HEADER.find("owners"), glimpse.line().find("a 100"));
        assert_eq!(glimpse.block().lines().count(), Glimpse::BLOCK_LINES);
        assert!(!glimpse.line().contains('\x1b'));
    }
}
