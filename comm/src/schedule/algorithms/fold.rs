//! Folding any number of ranks into one that butterfly algorithms can work with.

use crate::error::Rank;
use crate::schedule::canonical::left_part;

/// Contiguous groups of ranks, of which the first ones have one rank more than the others. The
/// groups are numbered in mixed radix, and exchange with those that differ in one digit.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) ranks: Rank,
    pub(super) groups: Rank,
    /// Of the groups' numbers, least significant digit first; their product is `groups`.
    pub(super) radices: Vec<Rank>,
}

impl Fold {
    /// As many groups as ranks if their number has no prime factor above `radix`, else the
    /// largest power of `radix`, at least 2, that there are ranks for.
    pub(super) fn new(ranks: Rank, radix: Rank) -> Self {
        let mut radices = Vec::new();
        let mut rest = ranks;
        while let Some(m) = (2..=radix).rev().find(|&m| rest.is_multiple_of(m)) {
            radices.push(m);
            rest /= m;
        }
        if rest == 1 {
            // Powers of two first: only the last digit can be another and keep the order.
            radices.sort_by_key(|m| !m.is_power_of_two());
            return Self { ranks, groups: ranks, radices };
        }
        let digits = ranks.ilog(radix);
        Self { ranks, groups: radix.pow(digits), radices: vec![radix; digits as usize] }
    }

    /// Groups of one or two, as many as the largest power of two that there are ranks for.
    pub(super) fn binary(ranks: Rank) -> Self {
        Self::new(ranks, 2)
    }

    /// Whether some groups have more than one rank.
    pub(super) const fn folds(&self) -> bool {
        self.groups < self.ranks
    }

    /// Number of digits.
    pub(super) fn digits(&self) -> u32 {
        self.radices.len() as u32
    }

    /// Number of ranks in `group`.
    pub(super) const fn size(&self, group: Rank) -> Rank {
        self.ranks / self.groups + (group < self.ranks % self.groups) as Rank
    }

    /// The first rank of `group`; for `groups`, the number of ranks.
    pub(super) fn first_of(&self, group: Rank) -> Rank {
        group * (self.ranks / self.groups) + group.min(self.ranks % self.groups)
    }

    /// The group of `rank` and its number in it.
    pub(super) const fn group_of(&self, rank: Rank) -> (Rank, Rank) {
        let (size, larger) = (self.ranks / self.groups, self.ranks % self.groups);
        let in_larger = larger * (size + 1);
        if rank < in_larger {
            (rank / (size + 1), rank % (size + 1))
        } else {
            (larger + (rank - in_larger) / size, (rank - in_larger) % size)
        }
    }

    /// Messages on the longest chain when the groups exchange digit by digit, from somebody folded
    /// away to somebody folded away. A chain changes every digit, so it can only have both ends
    /// folded if two folded groups differ in all digits.
    pub(super) fn longest_chain(&self) -> u64 {
        let folded =
            if self.ranks >= 2 * self.groups { self.groups } else { self.ranks - self.groups };
        let last_digit = self.groups / self.radices.last().copied().unwrap_or(1);
        u64::from(self.digits()) + u64::from(folded > 0) + u64::from(folded > last_digit)
    }

    /// Whether combining each group, then the groups digit by digit from the least significant,
    /// each in the canonical order, is the canonical tree of all ranks.
    pub(super) fn is_canonical(&self) -> bool {
        let powers = self.radices.iter().rev().skip(1).all(|m| m.is_power_of_two());
        powers && self.groups_match(0, self.groups, self.ranks)
    }

    /// Whether the canonical tree of the `ranks` ranks in `groups` groups from `first` on is that
    /// of the groups.
    fn groups_match(&self, first: Rank, groups: Rank, ranks: Rank) -> bool {
        if groups == ranks || groups == 1 {
            return true;
        }
        let left = left_part(groups);
        let left_ranks = self.first_of(first + left) - self.first_of(first);
        left_ranks == left_part(ranks)
            && self.groups_match(first, left, left_ranks)
            && self.groups_match(first + left, groups - left, ranks - left_ranks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_partition_the_ranks() {
        for (ranks, radix) in (1..70).flat_map(|p| [(p, 2), (p, 3), (p, 4)]) {
            let fold = Fold::new(ranks, radix);
            assert_eq!(fold.radices.iter().product::<u32>(), fold.groups);
            assert_eq!(fold.first_of(fold.groups), ranks);
            for rank in 0..ranks {
                let (group, member) = fold.group_of(rank);
                assert!(member < fold.size(group) && fold.size(group) <= radix);
                assert_eq!(fold.first_of(group) + member, rank);
            }
        }
    }

    #[test]
    fn folding_keeps_the_canonical_tree_for_some_numbers_of_ranks() {
        let canonical: Vec<_> = (1..17).filter(|&p| Fold::binary(p).is_canonical()).collect();
        assert_eq!(canonical, [1, 2, 3, 4, 6, 7, 8, 12, 14, 15, 16]);
        assert!(
            [(8, 4), (12, 4), (3, 3), (6, 3)].iter().all(|&(p, k)| Fold::new(p, k).is_canonical())
        );
        assert!(!Fold::new(9, 3).is_canonical());
    }
}
