//! What every transport must do, as tests that run against each of them.
//!
//! ```ignore
//! fn fabric(ranks: Rank) -> Fabric { .. }
//! conformance_tests!(conformance, fabric);                       // a simulated wire
//! conformance_tests!(conformance, fabric, sleep: [Futex, Poll]); // one that can be slept on
//! ```
//!
//! The tests of the first form poll all ranks from one thread, so that a transport on a virtual
//! clock fits as well as one between processes. Those that sleep give every rank its thread.

mod faults;
mod flow;
mod sleeping;
mod wires;

pub(crate) use faults::*;
pub(crate) use sleeping::*;
pub(crate) use wires::*;

use crate::transport::Transport;

/// The ends of `n` ranks, all in this process, each connected to all others.
pub(crate) struct Fabric {
    /// One end per rank, ranks 0 to n - 1 in this order.
    pub(crate) ends: Vec<Box<dyn Transport>>,
    /// Called when a round of polling over all ends moved nothing. A simulated wire advances its
    /// clock here; a real one gives the kernel a moment.
    pub(crate) idle: Box<dyn FnMut()>,
}

/// Makes a test module `$name` that runs the suite against the fabrics that `$factory`, a
/// `fn(Rank) -> Fabric`, makes.
macro_rules! conformance_tests {
    ($name:ident, $factory:expr) => {
        mod $name {
            use super::*;
            $crate::transport::conformance::conformance_tests!(@each $factory;
                empty_frames, tiny_frames, largest_frames, more_than_a_pipe_holds,
                a_full_pipe_refuses_and_recovers, lanes_are_independent, peers_are_independent,
                many_peers, elements_are_never_split, reading_and_viewing_mix,
                random_traffic, a_frame_is_seen_before_it_is_taken,
                a_view_without_a_minimum_shows_what_is_here,
                what_was_sent_survives_the_sender, sending_to_the_gone_fails
            );
        }
    };
    ($name:ident, $factory:expr, sleep: [$($how:ident),+]) => {
        $crate::transport::conformance::conformance_tests!($name, $factory);
        mod sleeping {
            use super::*;
            const HOW: &[$crate::transport::Sleep] = &[$($crate::transport::Sleep::$how),+];

            #[test]
            fn an_arrival_ends_a_sleep() {
                $crate::transport::conformance::an_arrival_ends_a_sleep($factory, HOW);
            }

            #[test]
            fn room_ends_a_sleep() {
                $crate::transport::conformance::room_ends_a_sleep($factory, HOW);
            }

            #[test]
            fn a_departure_ends_a_sleep() {
                $crate::transport::conformance::a_departure_ends_a_sleep($factory, HOW);
            }
        }
    };
    (@each $factory:expr; $($test:ident),+) => {
        $(
            #[test]
            fn $test() {
                $crate::transport::conformance::$test($factory);
            }
        )+
    };
}
pub(crate) use conformance_tests;
