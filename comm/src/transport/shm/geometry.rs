//! Where everything lies in a segment.
//!
//! ```text
//! page 0        magic, version, geometry
//! pages 1..     one block of two cache lines per rank: doorbell; process
//! then, per lane, per sender, per receiver: one ring
//!               256 bytes of control words, then units of one cache line
//! ```
//!
//! The file is sparse: a ring nobody uses costs addresses, not memory. What a rank can fill is
//! its outgoing rings, and these together stay within its staging budget.

use crate::error::{Error, Result};
use crate::transport::Lane;

/// Bytes of a page; what the parts of a segment are aligned to.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a cache line, the unit in which a ring is dealt out.
pub(super) const LINE_BYTES: usize = 64;
/// Control words at the start of a ring, with a pair of lines for either side.
pub(super) const CONTROL_BYTES: usize = 256;
/// One rank's block.
pub(super) const RANK_BYTES: usize = 128;
/// Smallest ring that still carries frames of a useful size.
const RING_BYTES_MIN: usize = 16 * 1024;
/// What the rings that one rank fills on a lane should have together: that stays in a core's
/// second-level cache, and a ring is used from end to end, however little is in it.
const RINGS_BYTES_USEFUL: usize = 1 << 20;
/// Rings are not made shorter than this for the caches' sake: frames would be too short.
const RING_BYTES_USEFUL: usize = 128 << 10;
/// Frames of this size move at full speed; larger ones only leave the cache.
const FRAME_BYTES_PREFERRED: usize = 128 * 1024;
/// Ranks of one host: twice what the default budget serves.
const LOCAL_RANKS_MAX: u32 = 1024;

/// The sizes of a segment; everything else follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub(super) local_ranks: u32,
    pub(super) ring_bytes: [u32; 3],
}

impl Geometry {
    /// For `local_ranks` ranks of which each fills at most `staging_bytes_max` bytes of memory,
    /// even if it talks to all others on all lanes.
    ///
    /// # Errors
    /// `InvalidArgument` when the budget leaves too little for each peer, saying what would do.
    pub fn new(local_ranks: u32, staging_bytes_max: usize) -> Result<Self> {
        let refuse = |reason| Error::InvalidArgument { operation: "shared memory", reason };
        if local_ranks == 0 || local_ranks > LOCAL_RANKS_MAX {
            let reason = format!(
                "{local_ranks} ranks on one host; shared memory serves 1 to {LOCAL_RANKS_MAX}"
            );
            return Err(refuse(reason));
        }
        let peers = (local_ranks as usize - 1).max(1);
        let peer_bytes = staging_bytes_max / peers;
        let useful = (RINGS_BYTES_USEFUL / peers).max(RING_BYTES_USEFUL);
        // Half for the bulk lane, a quarter for each of the others.
        let share = [peer_bytes / 4, peer_bytes / 2, peer_bytes / 4];
        let bytes: [usize; 3] =
            std::array::from_fn(|lane| share[lane].min(useful) & !(PAGE_BYTES - 1));
        if bytes.iter().any(|&bytes| bytes < RING_BYTES_MIN) {
            let reason = format!(
                "a staging budget of {staging_bytes_max} bytes is too small for {local_ranks} \
                 ranks on one host; allow at least {} bytes",
                4 * RING_BYTES_MIN * peers
            );
            return Err(refuse(reason));
        }
        let ring_bytes = bytes.map(|bytes| u32::try_from(bytes).expect("at most 1 MiB"));
        Ok(Self { local_ranks, ring_bytes })
    }

    /// Whether these are sizes that `new` could have chosen; for what another process wrote.
    pub(super) fn is_sound(&self) -> bool {
        let ranks = (1..=LOCAL_RANKS_MAX).contains(&self.local_ranks);
        ranks
            && self.ring_bytes.iter().all(|&bytes| {
                let sizes = RING_BYTES_MIN..=RINGS_BYTES_USEFUL;
                sizes.contains(&(bytes as usize)) && (bytes as usize).is_multiple_of(PAGE_BYTES)
            })
    }

    /// Length of the segment. At most about 4 TiB, so it cannot overflow.
    pub(super) fn total_bytes(&self) -> usize {
        Lane::ALL.iter().map(|&lane| self.lane_bytes(lane)).sum::<usize>() + self.rings_at()
    }

    /// Where the block of `rank` starts.
    pub(super) fn rank_at(&self, rank: u32) -> usize {
        assert!(rank < self.local_ranks, "local rank out of range");
        PAGE_BYTES + rank as usize * RANK_BYTES
    }

    /// Where the ring from `from` to `to` starts.
    pub(super) fn ring_at(&self, lane: Lane, from: u32, to: u32) -> usize {
        assert!(from < self.local_ranks && to < self.local_ranks && from != to, "no such ring");
        let before: usize =
            Lane::ALL[..lane as usize].iter().map(|&lane| self.lane_bytes(lane)).sum();
        let peers = self.local_ranks as usize - 1;
        let pair = from as usize * peers + to as usize - usize::from(to > from);
        self.rings_at() + before + pair * self.ring_bytes[lane as usize] as usize
    }

    /// Largest payload of a frame on any lane.
    pub(super) fn frame_bytes_max(&self) -> usize {
        let smallest = self.ring_bytes.iter().min().expect("three lanes");
        let units = (*smallest as usize - CONTROL_BYTES) / LINE_BYTES;
        (super::ring::frame_units_max(units) - 1) * LINE_BYTES
    }

    /// What messages are best cut into.
    pub(super) fn frame_bytes_preferred(&self) -> usize {
        let bytes_max = self.frame_bytes_max();
        FRAME_BYTES_PREFERRED.min(1 << bytes_max.ilog2())
    }

    fn rings_at(&self) -> usize {
        PAGE_BYTES + (self.local_ranks as usize * RANK_BYTES).next_multiple_of(PAGE_BYTES)
    }

    fn lane_bytes(&self, lane: Lane) -> usize {
        let ranks = self.local_ranks as usize;
        ranks * (ranks - 1) * self.ring_bytes[lane as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 32 << 20;

    #[test]
    fn rings_neither_overlap_nor_leave_the_segment() {
        for ranks in [2, 3, 7] {
            let geometry = Geometry::new(ranks, BUDGET).expect("the default budget");
            let mut ranges = vec![(0, geometry.rings_at())];
            for lane in Lane::ALL {
                let bytes = geometry.ring_bytes[lane as usize] as usize;
                for from in 0..ranks {
                    for to in (0..ranks).filter(|&to| to != from) {
                        let at = geometry.ring_at(lane, from, to);
                        ranges.push((at, at + bytes));
                    }
                }
            }
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ranks} ranks");
            assert_eq!(ranges.last().expect("rings").1, geometry.total_bytes());
            assert!(geometry.rank_at(ranks - 1) + RANK_BYTES <= geometry.rings_at());
        }
    }

    #[test]
    fn every_rank_stays_within_its_budget() {
        for ranks in [1, 2, 3, 8, 64, 128, 300, 512] {
            let geometry = Geometry::new(ranks, BUDGET).expect("the default budget");
            assert!(geometry.is_sound());
            let outgoing: usize = geometry.ring_bytes.iter().map(|&bytes| bytes as usize).sum();
            assert!(outgoing * (ranks as usize - 1) <= BUDGET, "{ranks} ranks");
            assert!(geometry.frame_bytes_preferred() <= geometry.frame_bytes_max());
            assert!(geometry.frame_bytes_preferred() >= 2048);
        }
        let two = Geometry::new(2, BUDGET).expect("the default budget");
        assert!(two.ring_bytes[Lane::Bulk as usize] >= 1 << 20);
        assert_eq!(two.frame_bytes_preferred(), FRAME_BYTES_PREFERRED);
        let nine = Geometry::new(9, BUDGET).expect("the default budget");
        assert_eq!(nine.ring_bytes, [RING_BYTES_USEFUL as u32; 3]);
    }

    #[test]
    fn a_budget_too_small_is_refused_with_one_that_does() {
        let text = Geometry::new(5, 100_000).expect_err("too small").to_string();
        assert!(text.contains("allow at least 262144 bytes"), "{text}");
        Geometry::new(5, 262_144).expect("what the message said");
        assert!(Geometry::new(0, BUDGET).is_err() && Geometry::new(5000, usize::MAX).is_err());
    }
}
