//! The algorithms a communicator can choose from: the flat ones, and those composed for its
//! hosts.

use std::ops::Deref;
use std::sync::Arc;

use syncline_topology::Topology;

use crate::error::Result;
use crate::schedule::hierarchy::{Hierarchical, Hierarchy, Level, Mode};
use crate::schedule::{ALGORITHMS, Algorithm, Shape};

/// A flat algorithm, or one composed for this communicator's hosts.
#[derive(Clone)]
pub(super) enum AlgorithmRef {
    Flat(&'static dyn Algorithm),
    Composed(Mode, Arc<Hierarchical>),
}

impl Deref for AlgorithmRef {
    type Target = dyn Algorithm;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Flat(algorithm) => *algorithm,
            Self::Composed(_, algorithm) => &**algorithm,
        }
    }
}

impl AlgorithmRef {
    /// What it is called when it serves `shape`: of a composed one, what each phase runs.
    pub(super) fn label(&self, shape: &Shape) -> String {
        match self {
            Self::Flat(algorithm) => algorithm.name().to_owned(),
            Self::Composed(_, algorithm) => algorithm.label(shape),
        }
    }
}

/// What works inside a group, and what across groups: names in order of preference. One serves
/// latency, the others bandwidth; the cost model tells which is wanted.
const INSIDE: [&[&str]; 2] = [
    &["direct", "one_shot", "two_shot", "binomial_tree", "dissemination"],
    &["recursive_halving", "recursive_doubling", "sparbit", "binomial_tree"],
];
const ACROSS: [&[&str]; 4] = [
    &["recursive_doubling", "sparbit", "recursive_halving", "binomial_tree", "dissemination"],
    &["circulant", "sparbit", "scatter_all_gather", "two_shot", "binomial_tree"],
    &["ring", "chain", "binomial_tree"],
    &["two_shot", "direct", "scatter_all_gather", "binomial_tree"],
];

/// The registered algorithms of these names, in the order of the names.
fn named(names: &[&str]) -> Vec<&'static dyn Algorithm> {
    let of = |name: &&str| ALGORITHMS.iter().copied().filter(|a| a.name() == *name).collect();
    names.iter().flat_map(|name| -> Vec<&'static dyn Algorithm> { of(name) }).collect()
}

/// Everything the planner may choose from on `topology`.
///
/// # Errors
/// Those of [`Hierarchical::new`], which never come from a topology.
pub(super) fn candidates(topology: &Topology) -> Result<Vec<AlgorithmRef>> {
    let mut all: Vec<AlgorithmRef> = ALGORITHMS.iter().copied().map(AlgorithmRef::Flat).collect();
    if topology.hosts().is_trivial() {
        return Ok(all);
    }
    let hierarchy = Hierarchy::by_key(topology.hosts().ids())?;
    for mode in [Mode::Leader, Mode::SplitRail] {
        for inside in INSIDE {
            for across in ACROSS {
                let levels = vec![Level::new(named(inside)), Level::new(named(across))];
                let composed = Hierarchical::new(mode, &hierarchy, levels)?;
                all.push(AlgorithmRef::Composed(mode, Arc::new(composed)));
            }
        }
    }
    Ok(all)
}
