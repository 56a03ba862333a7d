//! Along which lines news travels.
//!
//! Every member passes news on to those 1, 2, 4, ... places after and before it on a circle, or
//! the next present ones in those directions: a circulant graph, as broadcasts in logarithmic
//! time use it (Träff and Ripke 2005). The next two present ones on both sides always belong to
//! it, so news reaches everybody however many are gone, as long as each knows its neighbours, and
//! goes around one that hears nothing; the longer jumps make that quick.

use std::collections::BTreeSet;

/// How many of those that follow are watched: one more than may be stopped in a row.
const WATCHED: usize = 2;

/// The neighbours of place `me` among `places`, where only those that are `present` count.
pub(super) fn neighbours(
    me: usize,
    places: usize,
    present: impl Fn(usize) -> bool,
) -> BTreeSet<usize> {
    let mut found: BTreeSet<usize> = successors(me, places, &present).collect();
    let backwards = (1..places).map(|by| (me + places - by) % places);
    found.extend(backwards.filter(|at| present(*at)).take(WATCHED));
    let mut jump = 4;
    while jump < places {
        found.extend((jump..places).map(|by| (me + by) % places).find(|at| present(*at)));
        found.extend((jump..places).map(|by| (me + places - by) % places).find(|at| present(*at)));
        jump *= 2;
    }
    found
}

/// The present places after `me` on the circle that it watches, the next one first.
pub(super) fn successors(
    me: usize,
    places: usize,
    present: impl Fn(usize) -> bool,
) -> impl Iterator<Item = usize> {
    (1..places).map(move |by| (me + by) % places).filter(move |at| present(*at)).take(WATCHED)
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
    fn news_goes_around_one_that_hears_nothing() {
        for places in 1..12 {
            for gone in 0..1u32 << places {
                let present = |at: usize| gone >> at & 1 == 0;
                for deaf in (0..places).filter(|at| present(*at)) {
                    let hears = |at: &usize| *at != deaf;
                    let all: Vec<_> = (0..places).filter(|at| present(*at)).filter(hears).collect();
                    let Some(&start) = all.first() else { continue };
                    let mut reached = BTreeSet::from([start]);
                    let mut next = vec![start];
                    while let Some(at) = next.pop() {
                        let told = neighbours(at, places, present).into_iter().filter(hears);
                        next.extend(told.filter(|n| reached.insert(*n)));
                    }
                    assert_eq!(reached.len(), all.len(), "{places} places, {gone:b} gone, {deaf}");
                }
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
