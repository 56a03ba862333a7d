//! Along which lines news travels.
//!
//! Every member passes news on to those 1, 2, 4, ... places after and before it on a circle, or
//! the next present ones in those directions: a circulant graph, as broadcasts in logarithmic
//! time use it (Träff and Ripke 2005). The next present neighbours on both sides always belong to
//! it, so news reaches everybody however many are gone, as long as each knows its neighbours; the
//! longer jumps make that quick, and go around neighbours that hear nothing.

use std::collections::BTreeSet;

/// The neighbours of place `me` among `places`, where only those that are `present` count.
pub(super) fn neighbours(
    me: usize,
    places: usize,
    present: impl Fn(usize) -> bool,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut jump = 1;
    while jump < places {
        found.extend((jump..places).map(|by| (me + by) % places).find(|at| present(*at)));
        found.extend((jump..places).map(|by| (me + places - by) % places).find(|at| present(*at)));
        jump *= 2;
    }
    found
}

/// The next present place after `me` on the circle.
pub(super) fn successor(
    me: usize,
    places: usize,
    present: impl Fn(usize) -> bool,
) -> Option<usize> {
    (1..places).map(|by| (me + by) % places).find(|at| present(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_reaches_everybody_whoever_is_gone() {
        for places in 1..14 {
            for gone in 0..1u32 << places {
                let present = |at: usize| gone >> at & 1 == 0;
                let Some(start) = (0..places).find(|at| present(*at)) else { continue };
                let mut reached = BTreeSet::from([start]);
                let mut next = vec![start];
                while let Some(at) = next.pop() {
                    next.extend(
                        neighbours(at, places, present).into_iter().filter(|n| reached.insert(*n)),
                    );
                }
                assert!(reached.iter().all(|at| present(*at)));
                assert_eq!(reached.len(), (0..places).filter(|at| present(*at)).count());
            }
        }
    }

    #[test]
    fn few_neighbours_and_few_hops() {
        let places = 1000;
        assert!(neighbours(17, places, |_| true).len() <= 20);
        let mut reached = BTreeSet::from([0]);
        let mut hops = 0;
        while reached.len() < places {
            let next: Vec<usize> =
                reached.iter().flat_map(|at| neighbours(*at, places, |_| true)).collect();
            reached.extend(next);
            hops += 1;
        }
        assert!(hops <= 6, "{hops}");
    }
}
