//! Point-to-point messages. Between two ranks they arrive in the order in which they were sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::raw::message_bytes;
use super::{Communicator, Inner, fingerprint};
use crate::engine::{Buffers, Counted, Description, OpMeta, Operation, Program};
use crate::error::{Error, Rank, Result};
use crate::memory::Loan;
use crate::reduce::{DType, Element};
use crate::transport::Lane;

/// Most programs kept.
const PROGRAMS_MAX: usize = 1024;

/// One message, ready to go or to come.
pub(super) struct Message {
    pub(super) program: Arc<Program>,
    pub(super) meta: OpMeta,
}

/// What a rank remembers of its messages.
pub(super) struct Messages {
    /// Messages sent to and received from every rank.
    counts: Vec<[AtomicU64; 2]>,
    /// By peer, bytes, and whether it is sent.
    programs: Mutex<HashMap<(Rank, usize, bool), Arc<Program>>>,
}

impl Messages {
    pub(super) fn new(ranks: Rank) -> Self {
        let counts = (0..ranks).map(|_| Default::default()).collect();
        Self { counts, programs: Mutex::default() }
    }

    fn program(&self, peer: Rank, bytes: usize, send: bool) -> Arc<Program> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if programs.len() >= PROGRAMS_MAX {
            programs.clear();
        }
        let make =
            || Arc::new(if send { Program::send(peer, bytes) } else { Program::recv(peer, bytes) });
        Arc::clone(programs.entry((peer, bytes, send)).or_insert_with(make))
    }
}

const fn operation(send: bool) -> Operation {
    if send { Operation::Send } else { Operation::Recv }
}

impl Inner {
    /// Refuses a message to or from what is not a rank.
    pub(super) fn check_peer(&self, peer: Rank, send: bool) -> Result<()> {
        if peer < self.ranks() {
            return Ok(());
        }
        let reason = format!("{peer} is not a rank; there are ranks 0 to {}", self.ranks() - 1);
        Err(Error::InvalidArgument { operation: operation(send).name(), reason })
    }

    /// The next message to or from `peer`.
    pub(super) fn message(
        &self,
        dtype: DType,
        count: usize,
        peer: Rank,
        send: bool,
    ) -> Result<Message> {
        self.check_peer(peer, send)?;
        self.check_process(operation(send).name())?;
        let bytes = message_bytes(operation(send).name(), dtype, count)?;
        let counter = &self.messages.counts[peer as usize][usize::from(send)];
        let sequence = counter.fetch_add(1, Ordering::Relaxed);
        let fingerprint = fingerprint::of_message(dtype, count);
        let description = Description::new(operation(send))
            .data(dtype, count as u64, Counted::Uniform)
            .rank(peer);
        let meta = OpMeta { description, sequence, fingerprint, lane: Lane::PointToPoint };
        let program = self.messages.program(peer, bytes, send);
        Ok(Message { program, meta })
    }
}

impl Communicator {
    /// Sends `data` to `peer`, which must receive as many elements of the same type. Returns when
    /// `data` may be changed; the peer may not have it yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `peer` is not a rank; those of a lost peer or a missed
    /// deadline.
    pub fn send<T: Element>(&self, data: &[T], peer: Rank) -> Result<()> {
        let message = self.inner.message(T::DTYPE, data.len(), peer, true)?;
        self.exchange(&message, &Loan::new(bytemuck::cast_slice(data), &mut []))
    }

    /// Receives into `data` from `peer`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Error::Mismatch`] when the peer sends another type or
    /// number of elements.
    pub fn recv<T: Element>(&self, data: &mut [T], peer: Rank) -> Result<()> {
        let message = self.inner.message(T::DTYPE, data.len(), peer, false)?;
        self.exchange(&message, &Loan::new(&[], bytemuck::cast_slice_mut(data)))
    }

    pub(super) fn exchange(&self, message: &Message, loan: &Loan<'_>) -> Result<()> {
        let buffers = Buffers::separate(loan.input, loan.output);
        let patience = self.inner.patience();
        self.inner.cell.run_blocking(&message.program, buffers, &message.meta, &patience)
    }
}
