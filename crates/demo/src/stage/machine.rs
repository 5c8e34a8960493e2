//! Who had the processors of this machine during a run: the demo with its nodes, others, or the host of a virtual machine.
//!
//! It judges nothing. Called by the run at its start and when its nodes have ended, for only then the kernel has added their
//! time to that of this process.
//!
//! ```text
//! all    = every field of the first line of /proc/stat, guests counted once      stolen = its 8th
//! busy   = all − idle − waiting for a disk − stolen
//! own    = utime + stime + cutime + cstime of /proc/self/stat                    others = busy − own
//! ```
//! Invariant: what the kernel does not tell is no figure, rather than a wrong one.

/// Ticks of all processors since the machine was started, and of this process and the children that it has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
}

/// Parts of all processor time between two moments, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// The demo, its nodes and their instances.
    pub own: f64,
    /// Every other process of this machine.
    pub others: f64,
    /// What the host gave to other machines while this one wanted to run.
    pub stolen: f64,
}

impl Ticks {
    /// Those of now; `None`: the kernel does not tell.
    pub fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").ok()?, &std::fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn read(machine: &str, process: &str) -> Option<Self> {
        let fields = machine.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let fields: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
        let [user, nice, system, idle, waiting, interrupts, softirqs, stolen, ..] = *fields.as_slice() else { return None };
        let busy = user.checked_add(nice)?.checked_add(system)?.checked_add(interrupts)?.checked_add(softirqs)?;
        let all = busy.checked_add(idle)?.checked_add(waiting)?.checked_add(stolen)?;
        // The name stands in brackets and may hold anything; utime is the 12th field behind it.
        let (_, rest) = process.rsplit_once(')')?;
        let times: Vec<u64> =
            rest.split_ascii_whitespace().skip(11).take(4).map(|time| time.parse().ok()).collect::<Option<_>>()?;
        let [user_of_own, system_of_own, user_of_children, system_of_children] = *times.as_slice() else { return None };
        let of_children = user_of_children.checked_add(system_of_children)?;
        let own = user_of_own.checked_add(system_of_own)?.checked_add(of_children)?;
        Some(Self { all, busy, stolen, own })
    }

    /// What became of the time since `earlier`.
    pub fn since(&self, earlier: &Self) -> Option<Shares> {
        let all = self.all.checked_sub(earlier.all).filter(|all| *all > 0)?;
        let own = self.own.checked_sub(earlier.own)?;
        // Both counts are rounded to ticks.
        let others = self.busy.checked_sub(earlier.busy)?.saturating_sub(own);
        let percent = |ticks: u64| (ticks as f64 / all as f64 * 1000.0).round() / 10.0;
        Some(Shares { own: percent(own), others: percent(others), stolen: percent(self.stolen.checked_sub(earlier.stolen)?) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn time_is_divided_among_those_who_had_it() {
        let process = |own: u64| format!("7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 {own} 1 2 3 20 0");
        let before = Ticks::read("cpu  100 0 50 800 10 5 5 30 7 0\ncpu0 1\n", &process(10)).unwrap();
        let after = Ticks::read("cpu  150 0 80 900 10 10 10 40 9 0\n", &process(70)).unwrap();
        assert_eq!(after.since(&before), Some(Shares { own: 30.0, others: 15.0, stolen: 5.0 }));
        assert_eq!(before.since(&after), None);
        assert_eq!(before.since(&before), None);
    }

    #[test]
    fn what_is_not_told_is_no_figure() {
        let process = "7 (a) S 1 1 1 0 -1 0 0 0 0 0 1 1 2 3 20 0";
        for machine in ["", "cpu  1 2 3", "cpu  1 2 3 4 5 6 7 x", "intr 1"] {
            assert_eq!(Ticks::read(machine, process), None, "{machine}");
        }
        assert_eq!(Ticks::read("cpu  1 0 0 0 0 0 0 0", "7 (a) S 1"), None);
        assert!(Ticks::now().is_some());
    }
}
