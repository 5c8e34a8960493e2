//! Who gives how many sessions to whom, so that each accepting member has its share.
//!
//! Pure arithmetic on counts; which sessions go is the giver's choice. Called by the node that was told to rebalance.

use crate::ids::Incarnation;

/// One gift: `count` sessions from one member to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gift {
    /// Who gives.
    pub from: Incarnation,
    /// Who gets.
    pub to: Incarnation,
    /// How many.
    pub count: u64,
}

/// The fewest gifts in order of incarnation after which the counts of all members differ by at most one. The remainder stays
/// with those who have most, so that nothing moves without need.
pub fn even(counts: &[(Incarnation, u64)]) -> Vec<Gift> {
    let members = counts.len() as u64;
    if members == 0 {
        return Vec::new();
    }
    let total: u64 = counts.iter().map(|(_, n)| n).sum();
    let (share, mut remainder) = (total / members, total % members);
    let mut order: Vec<_> = counts.to_vec();
    order.sort_by_key(|(who, n)| (std::cmp::Reverse(*n), *who));
    let (mut givers, mut takers) = (Vec::new(), Vec::new());
    for (who, n) in order {
        let mine = share + u64::from(remainder > 0);
        remainder = remainder.saturating_sub(1);
        if n > mine {
            givers.push((who, n - mine));
        } else if n < mine {
            takers.push((who, mine - n));
        }
    }
    let mut gifts = Vec::new();
    let mut takers = takers.into_iter();
    let mut taker = takers.next();
    for (from, mut spare) in givers {
        while let (Some((to, wants)), true) = (&mut taker, spare > 0) {
            let count = spare.min(*wants);
            gifts.push(Gift { from, to: *to, count });
            spare -= count;
            *wants -= count;
            if *wants == 0 {
                taker = takers.next();
            }
        }
    }
    gifts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn check(counts: &[u64], gifts: &[(u64, u64, u64)]) {
        let counts: Vec<_> = counts.iter().enumerate().map(|(i, n)| (Incarnation(Epoch(i as u64)), *n)).collect();
        let found: Vec<_> = even(&counts).iter().map(|g| (g.from.0.0, g.to.0.0, g.count)).collect();
        assert_eq!(found, gifts);
    }

    #[test]
    fn shares() {
        check(&[], &[]);
        check(&[5], &[]);
        check(&[10, 0], &[(0, 1, 5)]);
        check(&[1, 0], &[]);
        check(&[6, 6, 0], &[(0, 2, 2), (1, 2, 2)]);
        check(&[0, 9, 0], &[(1, 0, 3), (1, 2, 3)]);
        check(&[4, 4, 3], &[]);
    }
}
