//! Shows what happens while it happens: a line each second, or a block that is redrawn where standard output is a terminal.
//!
//! It changes nothing and decides nothing. Called by the run. Invariant: without a terminal it writes plain lines and no escape
//! sequences.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::percentile::Durations;
use crate::stage::admin::Side;
use crate::stage::board::Board;
use crate::users::ledger::Ledger;
use crate::world::{Background, Clock};

const EVERY: Duration = Duration::from_secs(1);
/// The width of a terminal that does not tell its own.
const COLUMNS_UNKNOWN: usize = 80;

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
}

/// What is shown of one run.
///
/// On a terminal, lines that are kept stand above the block: the block is wiped, the line written, and the block written again.
#[derive(Debug)]
pub struct Display {
    screen: Screen,
    /// The block as it stands on the terminal; empty before the first.
    block: Mutex<Vec<String>>,
}

impl Display {
    /// Nothing shown yet.
    pub fn new(screen: Screen) -> Self {
        Self { screen, block: Mutex::new(Vec::new()) }
    }

    /// Writes a line that stays.
    pub fn keep(&self, line: &str) {
        match self.screen {
            Screen::Lines => say(line),
            Screen::Block => self.draw(&[line.to_owned()], None),
        }
    }

    /// Shows the run from now on, once a second, as long as the returned value lives.
    pub fn follow(self: &Arc<Self>, ledger: Arc<Ledger>, board: Arc<Board>, clock: Clock) -> Background {
        let display = Arc::clone(self);
        if display.screen == Screen::Lines {
            say(Glimpse::HEADER);
        }
        Background::start(async move {
            let mut beat = tokio::time::interval(EVERY);
            beat.tick().await;
            let mut shown = 0;
            let mut phase = None;
            loop {
                beat.tick().await;
                let glimpse = Glimpse::take(&ledger, &board, &clock, &mut shown);
                match display.screen {
                    Screen::Lines => say(&glimpse.line()),
                    Screen::Block => {
                        // The first second of each phase stays.
                        let kept = match phase.replace(glimpse.phase) {
                            None => vec![Glimpse::HEADER.to_owned(), glimpse.line()],
                            Some(last) if last != glimpse.phase => vec![glimpse.line()],
                            Some(_) => Vec::new(),
                        };
                        display.draw(&kept, Some(glimpse.block()));
                    }
                }
            }
        })
    }

    /// Writes `kept` where the block stands, and below it the block, or the new one if there is one.
    fn draw(&self, kept: &[String], fresh: Option<Vec<String>>) {
        let columns = columns();
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = fresh.as_ref().unwrap_or(&block).iter().map(|line| cut(line, columns)).collect();
        write_out(&redrawn(&block, kept, &new, columns));
        *block = new;
    }
}

/// The text that turns the block `old`, which the cursor stands below, into the lines `kept` and the block `new`.
fn redrawn(old: &[String], kept: &[String], new: &[String], columns: usize) -> String {
    // A terminal that has become narrower since has broken the lines that no longer fit.
    let rows: usize = old.iter().map(|line| line.chars().count().div_ceil(columns).max(1)).sum();
    // Up to where the old block began, and clear to the end of the screen.
    let mut text = if rows > 0 { format!("\x1b[{rows}A\x1b[J") } else { String::new() };
    for line in kept.iter().chain(new) {
        text.push_str(&cut(line, columns));
        text.push('\n');
    }
    text
}

/// The beginning of `line` that fits, for a line that breaks takes more rows than the next redraw wipes.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// Columns of the terminal at this moment, at least one.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS_UNKNOWN)
}

/// Writes a line to standard output. A reader that has gone away does not stop the demo: its exit code still tells.
pub fn say(line: &str) {
    write_out(&format!("{line}\n"));
}

fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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

    fn block(&self) -> Vec<String> {
        let Self { second, phase, requests, total, errors, wrong, owners, moved, fetched_late, .. } = self;
        let (p50, p99) = (self.percentile(50.0), self.percentile(99.0));
        vec![
            format!("  {second} s   phase: {phase}"),
            format!("  requests   {requests}/s, {total} in all, {errors} errors, {wrong} wrong answers"),
            format!("  latency    p50 {p50} ms, p99 {p99} ms, from the time when each was due"),
            format!("  owners     {owners}   (* not accepting)"),
            format!("  moved      {moved} sessions, {fetched_late} variables fetched after their session"),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_its_header() {
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
        assert!(glimpse.block().iter().all(|line| !line.contains('\n')), "a line of the block is one row");
        assert!(!glimpse.line().contains('\x1b'));
    }

    #[test]
    fn kept_lines_stand_above_the_block_and_no_line_breaks() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (old, new) = (lines(&["one", "two"]), lines(&["three", "four"]));
        assert_eq!(redrawn(&[], &lines(&["event"]), &[], 80), "event\n", "before the first block nothing is wiped");
        assert_eq!(redrawn(&old, &lines(&["event"]), &new, 80), "\x1b[2A\x1b[Jevent\nthree\nfour\n");
        assert_eq!(redrawn(&old, &[], &new, 4), "\x1b[2A\x1b[Jthre\nfour\n");
        // The terminal is now two columns wide: each of the old lines takes two rows.
        assert_eq!(redrawn(&old, &[], &new, 2), "\x1b[4A\x1b[Jth\nfo\n");
    }
}
