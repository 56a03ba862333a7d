//! The order in which a small program can be walked straight through.

use super::Program;
use super::code::Kind;

/// Largest operand of a step in a program that is walked straight through: any transport takes
/// it in one frame, or says so.
const STEP_BYTES_MAX: usize = 4 << 10;
/// Most steps of such a program.
const STEPS_MAX: usize = 64;

impl Program {
    /// An order of all steps in which each comes after those it waits for, messages on a pipe
    /// keep theirs, and nothing is sent later than it must; or none, where the program is not
    /// small enough for it to matter.
    pub(super) fn express_order(&self) -> Vec<u32> {
        let steps = self.steps.len();
        if steps > STEPS_MAX || self.scratch_bytes > 0 || !self.is_plain() {
            return Vec::new();
        }
        let mut order = Vec::with_capacity(steps);
        let mut done = vec![false; steps];
        while order.len() < steps {
            let free = |step: &u32| !done[*step as usize] && self.is_free(*step, &done);
            let mut able = (0..steps as u32).filter(free);
            let sends = |step: &u32| !self.steps[*step as usize].kind.receives();
            let Some(next) = able.clone().find(sends).or_else(|| able.next()) else {
                debug_assert!(false, "steps wait in a circle");
                return Vec::new();
            };
            done[next as usize] = true;
            order.push(next);
        }
        order
    }

    /// Whether every step is one small run of elements.
    fn is_plain(&self) -> bool {
        let ends = self.steps.iter().skip(1).map(|code| code.pieces);
        let ends = ends.chain([self.pieces.len() as u32]);
        self.steps.iter().zip(ends).all(|(code, end)| {
            let width = code.dst.width.max(code.a.width).max(code.b.width);
            code.elements > 0 && end == code.pieces + 1 && code.elements * width <= STEP_BYTES_MAX
        })
    }

    /// Whether all that `step` waits for is done.
    fn is_free(&self, step: u32, done: &[bool]) -> bool {
        let code = &self.steps[step as usize];
        let edges = &self.edges[code.edges.0 as usize..code.edges.1 as usize];
        let link = self.links.iter().find(|link| link.peer == code.peer);
        let (at, end) = match (code.kind, link) {
            (Kind::Send, Some(link)) => link.sends,
            (kind, Some(link)) if kind.receives() => link.recvs,
            _ => (0, 0),
        };
        let pipe = &self.queue[at as usize..end as usize];
        edges.iter().all(|edge| done[edge.pred as usize])
            && pipe.iter().take_while(|other| **other != step).all(|other| done[*other as usize])
    }
}
