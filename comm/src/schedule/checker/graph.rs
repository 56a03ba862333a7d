//! Which operation may run when: matches the two ends of every message, and orders all
//! operations under rendezvous semantics, in which a message is one event of both its ends.
//!
//! Steps of a rank wait for earlier ones only, links are in order, and nothing else decides, so
//! whether the schedules get stuck does not depend on timing. With buffering (eager semantics) a
//! send waits for less, so schedules that never get stuck here never do there either.

use super::compile::{Kind, NONE, Plan};
use super::violation::{Violation, Wait, Why};

/// The waits of all operations. A message's send stands for both its ends.
pub(super) struct Graph {
    /// The other end, of messages.
    pub(super) partner: Vec<u32>,
    /// The next message on the same link, by sends.
    next: Vec<u32>,
    /// `waits` by earlier end: later ends of `op` are `later[first[op]..first[op + 1]]`.
    first: Vec<u32>,
    later: Vec<u32>,
    /// How much each operation still waits for.
    missing: Vec<u32>,
}

impl Graph {
    pub(super) fn new(plan: &Plan) -> Result<Self, Violation> {
        let mut graph = Self {
            partner: vec![NONE; plan.ops.len()],
            next: vec![NONE; plan.ops.len()],
            first: vec![0; plan.ops.len() + 1],
            later: vec![0; plan.waits.len()],
            missing: vec![0; plan.ops.len()],
        };
        graph.match_messages(plan)?;
        for &(earlier, later) in &plan.waits {
            graph.first[earlier as usize + 1] += 1;
            let later = graph.unit(plan, later) as usize;
            graph.missing[later] += 1;
        }
        for i in 1..graph.first.len() {
            graph.first[i] += graph.first[i - 1];
        }
        let mut fill = graph.first.clone();
        for &(earlier, later) in &plan.waits {
            let at = &mut fill[earlier as usize];
            graph.later[*at as usize] = later;
            *at += 1;
        }
        Ok(graph)
    }

    /// The operation that stands for the event `op` is part of.
    pub(super) fn unit(&self, plan: &Plan, op: u32) -> u32 {
        match plan.ops[op as usize].kind {
            Kind::Recv | Kind::RecvReduce => self.partner[op as usize],
            _ => op,
        }
    }

    fn match_messages(&mut self, plan: &Plan) -> Result<(), Violation> {
        // Sorted by (from, to, position): the k-th send meets the k-th receive.
        let (mut sends, mut recvs) = (Vec::new(), Vec::new());
        for rank in 0..plan.ranks() {
            let ops = plan.first_op[rank as usize]..plan.first_op[rank as usize + 1];
            for op in ops {
                let at = &plan.ops[op as usize];
                match at.kind {
                    Kind::Send => sends.push((rank, at.peer, op)),
                    Kind::Recv | Kind::RecvReduce => recvs.push((at.peer, rank, op)),
                    Kind::Copy | Kind::Reduce => {}
                }
            }
        }
        sends.sort_unstable();
        recvs.sort_unstable();
        let mut previous = (NONE, NONE, NONE);
        for i in 0..sends.len().max(recvs.len()) {
            let send = sends.get(i).copied().unwrap_or((NONE, NONE, NONE));
            let recv = recvs.get(i).copied().unwrap_or((NONE, NONE, NONE));
            if (send.0, send.1) != (recv.0, recv.1) {
                let lone = if (send.0, send.1) < (recv.0, recv.1) { send } else { recv };
                let at = plan.at(lone.2);
                let peer = if at.rank == lone.0 { lone.1 } else { lone.0 };
                return Err(Violation::Leftover { at, peer, send: at.rank == lone.0 });
            }
            check_ends(plan, send.2, recv.2)?;
            self.partner[send.2 as usize] = recv.2;
            self.partner[recv.2 as usize] = send.2;
            if (previous.0, previous.1) == (send.0, send.1) {
                self.next[previous.2 as usize] = send.2;
                self.missing[send.2 as usize] += 1;
            }
            previous = send;
        }
        Ok(())
    }

    /// Appends every event to `order`, in an order that respects all waits.
    pub(super) fn order(&mut self, plan: &Plan, order: &mut Vec<u32>) -> Result<(), Violation> {
        let stands = |op: u32, graph: &Self| graph.unit(plan, op) == op;
        let mut ready = (0..plan.ops.len() as u32)
            .filter(|&op| self.missing[op as usize] == 0 && stands(op, self))
            .collect::<Vec<_>>();
        let events = (0..plan.ops.len() as u32).filter(|&op| stands(op, self)).count();
        order.reserve(events);
        while let Some(unit) = ready.pop() {
            order.push(unit);
            for op in self.ends(unit) {
                for i in self.first[op as usize]..self.first[op as usize + 1] {
                    self.release(self.unit(plan, self.later[i as usize]), &mut ready);
                }
            }
            if self.next[unit as usize] != NONE {
                self.release(self.next[unit as usize], &mut ready);
            }
        }
        if order.len() == events { Ok(()) } else { Err(self.deadlock(plan)) }
    }

    /// The operations of an event: one, or a send and its receive.
    pub(super) fn ends(&self, unit: u32) -> impl Iterator<Item = u32> + use<> {
        let partner = self.partner[unit as usize];
        std::iter::once(unit).chain((partner != NONE).then_some(partner))
    }

    /// The operations that wait for memory which `op` touches.
    pub(super) fn later(&self, op: u32) -> &[u32] {
        let (first, end) = (self.first[op as usize], self.first[op as usize + 1]);
        &self.later[first as usize..end as usize]
    }

    fn release(&mut self, unit: u32, ready: &mut Vec<u32>) {
        let missing = &mut self.missing[unit as usize];
        *missing -= 1;
        if *missing == 0 {
            ready.push(unit);
        }
    }

    /// Every stuck event waits for a stuck one: following them ends in a cycle.
    fn deadlock(&self, plan: &Plan) -> Violation {
        let stuck = |op: u32| self.missing[self.unit(plan, op) as usize] > 0;
        let mut blocker = vec![None; plan.ops.len()];
        for (send, &next) in self.next.iter().enumerate() {
            if next != NONE && stuck(send as u32) {
                blocker[next as usize] = Some((next, send as u32, Why::Order));
            }
        }
        for &(earlier, later) in plan.waits.iter().filter(|w| stuck(w.0) && stuck(w.1)) {
            let unit = self.unit(plan, later) as usize;
            blocker[unit] = Some((later, earlier, Why::Memory));
        }
        let Some(start) = blocker.iter().position(Option::is_some) else {
            return Violation::Deadlock { cycle: Vec::new() };
        };
        let mut seen = vec![false; plan.ops.len()];
        let mut unit = start as u32;
        while !std::mem::replace(&mut seen[unit as usize], true) {
            let Some((_, after, _)) = blocker[unit as usize] else { break };
            unit = self.unit(plan, after);
        }
        self.cycle(plan, unit, &blocker)
    }

    fn cycle(&self, plan: &Plan, start: u32, blocker: &[Option<(u32, u32, Why)>]) -> Violation {
        let mut cycle = Vec::new();
        let mut unit = start;
        let mut entered = None;
        let wait = |step, after, why| Wait { step: plan.at(step), after: plan.at(after), why };
        while let Some((step, after, why)) = blocker[unit as usize] {
            if let Some(entry) = entered
                && entry != step
            {
                cycle.push(wait(entry, step, Why::Partner));
            }
            cycle.push(wait(step, after, why));
            entered = Some(after);
            unit = self.unit(plan, after);
            if unit == start {
                if let Some((first, ..)) = blocker[start as usize]
                    && first != after
                {
                    cycle.push(wait(after, first, Why::Partner));
                }
                break;
            }
        }
        Violation::Deadlock { cycle }
    }
}

/// Both ends of a message must name the same blocks and format.
fn check_ends(plan: &Plan, send: u32, recv: u32) -> Result<(), Violation> {
    let (s, r) = (&plan.ops[send as usize], &plan.ops[recv as usize]);
    let (sent, expected) = (plan.tags(s), plan.tags(r));
    if sent != expected {
        let same = sent.iter().zip(expected).take_while(|(a, b)| a == b).count();
        return Err(Violation::MessageBlocks {
            send: plan.at(send),
            recv: plan.at(recv),
            sent: sent.get(same).map(|&tag| plan.untag(tag)),
            expected: expected.get(same).map(|&tag| plan.untag(tag)),
        });
    }
    if s.format != r.format && s.len > 0 {
        return Err(Violation::MessageFormat {
            send: plan.at(send),
            recv: plan.at(recv),
            sent: s.format,
            expected: r.format,
        });
    }
    Ok(())
}
