//! Sets of logical CPUs, as the kernel writes them: `0-3,8,10-11`.

use std::collections::BTreeSet;
use std::fmt;

/// More than any kernel supports; a list that names others is cut off.
const CPUS_MAX: u32 = 1 << 16;

/// Logical CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads the kernel's list format. What is not a CPU number or a range is left out.
    pub fn parse(list: &str) -> Self {
        let mut cpus = BTreeSet::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<u32>()) {
                cpus.extend(first..=last.min(CPUS_MAX - 1));
            }
        }
        Self(cpus)
    }

    /// How many.
    pub fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(CPUS_MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Whether all of these are in `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().filter(|&cpu| cpu < CPUS_MAX).collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_lists() {
        for list in ["", "0", "0-3", "0-3,8,10-11"] {
            assert_eq!(CpuSet::parse(list).to_string(), list);
        }
        let set = CpuSet::parse(" 4 - 5, 7\n");
        assert_eq!((set.to_string().as_str(), set.len()), ("4-5,7", 3));
        let both = set.and(&CpuSet::parse("5-9"));
        assert_eq!(both.to_string(), "5,7");
        assert!(both.is_within(&set) && !set.is_within(&both) && !both.is_empty());
        assert_eq!(CpuSet::from_iter([3, 1, 2]).to_string(), "1-3");
    }

    #[test]
    fn survives_garbage() {
        for list in ["-", "a-b", "3-1", "1--2", "99999999999", ",,,", "\u{0}"] {
            assert!(CpuSet::parse(list).is_empty(), "{list:?}");
        }
        assert_eq!(CpuSet::parse("0-4294967295").len(), CPUS_MAX);
        assert_eq!(CpuSet::parse("x,2").to_string(), "2");
    }
}
