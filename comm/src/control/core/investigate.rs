//! Who is to blame when an operation cannot go on.
//!
//! An engine sees only its own pipes. A pipe that broke may mean that the peer is dead, that it
//! left because the communicator failed for a reason that this rank has yet to hear, that it left
//! in good order, or that the connection alone is broken. So the peer is asked before anybody is
//! blamed, and a cause that it knows is adopted: the rank that really failed is named, not the
//! one that went because of it. The first investigation that ends tells everybody what it found,
//! which ends the others.
//!
//! The inquiry after a stall is in [`super::stall`].

use std::time::Duration;

use super::group::Group;
use super::local::Local;
use super::roster::Departure;
use super::stall::StallInquiry;
use super::{Answer, Cause, Message, Mismatch, Operation, Progress, Stall};
use crate::error::Rank;

/// Most inquiries of one communicator at a time; the first one that ends ends all.
const INQUIRIES_MAX: usize = 64;

/// A question that is not answered yet.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) query: u64,
    pub(super) peer: Rank,
    /// When not to wait any longer.
    pub(super) until: Duration,
    /// The peer left the job: no answer will come. But news of why may be on its way.
    pub(super) left: bool,
}

impl Question {
    /// Asks `peer`, if it is there to be asked.
    pub(super) fn ask(
        local: &mut Local,
        comm: u64,
        peer: Rank,
        operation: Option<Operation>,
    ) -> Self {
        let query = local.next_query();
        local.send(peer, Message::Ask { comm, query, operation });
        let mut question = Self { query, peer, until: local.answer_by(), left: false };
        if matches!(local.roster.departure(peer), Some(Departure::Left { .. })) {
            question.lose(local);
        }
        question
    }

    /// Whether an answer from `from` with this number is to this question.
    pub(super) fn is(&self, from: Rank, query: u64) -> bool {
        (self.peer, self.query) == (from, query)
    }

    /// The peer left the job.
    pub(super) fn lose(&mut self, local: &Local) {
        self.left = true;
        self.until = self.until.min(local.now + local.timings.farewell_max);
    }
}

/// One attempt to find out who is to blame.
#[derive(Debug)]
pub(super) enum Inquiry {
    /// The pipe to a peer broke.
    Broken { question: Question, how: String },
    /// A peer called something else.
    Mismatch { question: Question, mismatch: Mismatch },
    /// Nothing moves.
    Stall(StallInquiry),
}

impl Inquiry {
    pub(super) fn next_tick(&self) -> Option<Duration> {
        match self {
            Self::Broken { question, .. } | Self::Mismatch { question, .. } => Some(question.until),
            Self::Stall(stall) => stall.next_tick(),
        }
    }

    /// The cause, if the answer to question `query` tells.
    fn answer(
        &mut self,
        local: &mut Local,
        group: &Asked<'_>,
        (from, query): (Rank, u64),
        answer: &Answer,
    ) -> Option<Cause> {
        match self {
            Self::Broken { question, how } if question.is(from, query) => {
                Some(broken((local.me, question.peer), how, answer))
            }
            Self::Mismatch { question, mismatch } if question.is(from, query) => {
                Some(mismatched(local.me, mismatch, answer))
            }
            Self::Stall(stall) => stall.answer(local, group, (from, query), answer),
            Self::Broken { .. } | Self::Mismatch { .. } => None,
        }
    }

    /// The cause, if time is up.
    fn tick(&mut self, local: &mut Local, group: &Asked<'_>) -> Option<Cause> {
        match self {
            Self::Broken { question, how } if local.now >= question.until => {
                let rank = question.peer;
                Some(match question.left {
                    true => Cause::Left { rank },
                    false => Cause::Lost { rank, how: format!("{how}; it does not answer") },
                })
            }
            Self::Mismatch { question, mismatch } if local.now >= question.until => {
                Some(mismatched(local.me, mismatch, &Answer::Unknown))
            }
            Self::Stall(stall) => stall.tick(local, group),
            Self::Broken { .. } | Self::Mismatch { .. } => None,
        }
    }
}

/// The communicator that is investigated.
pub(super) struct Asked<'a> {
    pub(super) comm: u64,
    pub(super) members: &'a [Rank],
}

/// Why the pipe between `by` and `peer` broke, now that `peer` has answered.
fn broken((by, peer): (Rank, Rank), how: &str, answer: &Answer) -> Cause {
    match answer {
        Answer::Failed(cause) => cause.clone(),
        Answer::Left => Cause::Left { rank: peer },
        Answer::Well | Answer::At { .. } => Cause::Disconnected { by, peer, how: how.to_owned() },
        Answer::Unknown => {
            let how = format!("{how}; the second of them does not have this communicator");
            Cause::Disconnected { by, peer, how }
        }
    }
}

/// What `mismatch` was, now that the peer has answered.
fn mismatched(me: Rank, mismatch: &Mismatch, answer: &Answer) -> Cause {
    let (sequence, fingerprint) = mismatch.theirs;
    let (told, mut theirs) = match answer {
        Answer::Failed(cause) => return cause.clone(),
        Answer::At { progress, .. } => match progress {
            Progress::Running { description, .. } | Progress::Done { description } => {
                (true, description.clone())
            }
            Progress::NotEntered { last: Some(last), .. } => (false, last.clone()),
            Progress::NotEntered { last: None, .. } | Progress::Unknown => {
                (false, format!("operation #{sequence}"))
            }
        },
        Answer::Well | Answer::Left | Answer::Unknown => (false, format!("operation #{sequence}")),
    };
    if !told || theirs == mismatch.description {
        theirs.push_str(&format!(" (fingerprint {fingerprint:016x})"));
    }
    Cause::Mismatch {
        operation: mismatch.operation,
        one: (me, mismatch.description.clone()),
        other: (mismatch.peer, theirs),
    }
}

impl Group {
    /// Starts an inquiry unless there is no need for one more.
    fn investigate(&mut self, local: &mut Local, open: impl FnOnce(&mut Local) -> Inquiry) {
        if self.is_well() && self.inquiries.len() < INQUIRIES_MAX {
            self.inquiries.push(open(local));
        }
    }

    pub(super) fn suspect(&mut self, local: &mut Local, peer: Rank, how: &str) {
        let known = |inquiry: &Inquiry| match inquiry {
            Inquiry::Broken { question, .. } => question.peer == peer,
            _ => false,
        };
        if self.inquiries.iter().any(known) {
            return;
        }
        let (comm, how) = (self.id, how.to_owned());
        self.investigate(local, |local| Inquiry::Broken {
            question: Question::ask(local, comm, peer, None),
            how,
        });
    }

    pub(super) fn mismatch(&mut self, local: &mut Local, mismatch: Mismatch) {
        let comm = self.id;
        self.investigate(local, |local| Inquiry::Mismatch {
            question: Question::ask(local, comm, mismatch.peer, Some(mismatch.operation)),
            mismatch,
        });
    }

    pub(super) fn stalled(&mut self, local: &mut Local, stall: Stall) {
        let asked = Asked { comm: self.id, members: &self.members.clone() };
        self.investigate(local, |local| Inquiry::Stall(StallInquiry::open(local, &asked, stall)));
        self.tick_inquiries(local);
    }

    /// Whether this member looks for those who hold an operation up.
    pub(super) fn investigates(&self) -> bool {
        self.inquiries.iter().any(|inquiry| matches!(inquiry, Inquiry::Stall(_)))
    }

    pub(super) fn answered(&mut self, local: &mut Local, from: Rank, query: u64, answer: &Answer) {
        let asked = Asked { comm: self.id, members: &self.members };
        let mut inquiries = self.inquiries.iter_mut();
        let cause = inquiries.find_map(|i| i.answer(local, &asked, (from, query), answer));
        if let Some(cause) = cause {
            self.fail(local, cause, None);
        }
    }

    pub(super) fn tick_inquiries(&mut self, local: &mut Local) {
        let asked = Asked { comm: self.id, members: &self.members };
        let mut inquiries = self.inquiries.iter_mut();
        if let Some(cause) = inquiries.find_map(|inquiry| inquiry.tick(local, &asked)) {
            self.fail(local, cause, None);
        }
    }

    /// `rank` left the job.
    pub(super) fn inquiries_lose(&mut self, local: &mut Local, rank: Rank) {
        for inquiry in &mut self.inquiries {
            match inquiry {
                Inquiry::Broken { question, .. } | Inquiry::Mismatch { question, .. } => {
                    if question.peer == rank {
                        question.lose(local);
                    }
                }
                Inquiry::Stall(stall) => stall.lose(local, rank),
            }
        }
    }
}
