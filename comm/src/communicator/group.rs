//! Several operations as one: they go out together and end together.

use super::Communicator;
use super::message::Message;
use crate::engine::{Buffers, Work};
use crate::error::{Rank, Result};
use crate::memory::Loan;
use crate::reduce::{DType, Element, ReduceOp};

/// Collects the operations of one [`Communicator::group`].
pub struct Group<'a> {
    comm: Communicator,
    pending: Vec<Pending<'a>>,
}

/// One operation of a group, not started yet.
enum Pending<'a> {
    Message { dtype: DType, count: usize, peer: Rank, send: bool, loan: Loan<'a> },
    AllReduce { data: &'a mut [u8], dtype: DType, op: ReduceOp },
}

impl<'a> Group<'a> {
    /// Adds a send of `data` to `peer`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when `peer` is not a rank.
    pub fn send<T: Element>(&mut self, data: &'a [T], peer: Rank) -> Result<()> {
        self.comm.inner.check_peer(peer, true)?;
        let loan = Loan::new(bytemuck::cast_slice(data), &mut []);
        let (dtype, count) = (T::DTYPE, data.len());
        self.pending.push(Pending::Message { dtype, count, peer, send: true, loan });
        Ok(())
    }

    /// Adds a receive into `data` from `peer`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn recv<T: Element>(&mut self, data: &'a mut [T], peer: Rank) -> Result<()> {
        self.comm.inner.check_peer(peer, false)?;
        let (dtype, count) = (T::DTYPE, data.len());
        let loan = Loan::new(&[], bytemuck::cast_slice_mut(data));
        self.pending.push(Pending::Message { dtype, count, peer, send: false, loan });
        Ok(())
    }

    /// Adds an in-place all_reduce of `data`. Neighbouring ones of one type and operator are
    /// fused into one exchange.
    pub fn all_reduce<T: Element>(&mut self, data: &'a mut [T], op: ReduceOp) {
        let data = bytemuck::cast_slice_mut(data);
        self.pending.push(Pending::AllReduce { data, dtype: T::DTYPE, op });
    }
}

impl Communicator {
    /// Runs what `collect` adds to the group as one operation: all messages are under way at the
    /// same time, so that no order of sends and receives can block, and neighbouring all_reduces
    /// are fused. Returns when all have ended.
    ///
    /// # Errors
    /// The error of `collect`, and nothing was started; or the first error of an operation.
    pub fn group<'a>(&self, collect: impl FnOnce(&mut Group<'a>) -> Result<()>) -> Result<()> {
        let mut group = Group { comm: self.clone(), pending: Vec::new() };
        collect(&mut group)?;
        let mut reductions = Vec::new();
        let mut started = Started { comm: self, works: Vec::new() };
        for pending in &mut group.pending {
            match pending {
                Pending::Message { dtype, count, peer, send, loan } => {
                    started.start(&self.inner.message(*dtype, *count, *peer, *send)?, loan)?;
                }
                Pending::AllReduce { data, dtype, op } => {
                    reductions.push((&mut **data, *dtype, *op));
                }
            }
        }
        let reduced = self.all_reduce_fused(reductions);
        started.wait().and(reduced)
    }

    /// Fuses runs of equal type and operator.
    fn all_reduce_fused(&self, reductions: Vec<(&mut [u8], DType, ReduceOp)>) -> Result<()> {
        let mut run: Vec<&mut [u8]> = Vec::new();
        let mut kind = None;
        for (data, dtype, op) in reductions {
            if let Some((dtype, op)) = kind.replace((dtype, op)).filter(|&k| k != (dtype, op)) {
                self.all_reduce_buckets(&mut run, dtype, op)?;
                run.clear();
            }
            run.push(data);
        }
        match kind {
            Some((dtype, op)) => self.all_reduce_buckets(&mut run, dtype, op),
            None => Ok(()),
        }
    }
}

/// Messages under way on borrowed memory: it must not go before they have ended.
struct Started<'a> {
    comm: &'a Communicator,
    works: Vec<Work>,
}

impl Started<'_> {
    fn start(&mut self, message: &Message, loan: &Loan<'_>) -> Result<()> {
        let inner = &self.comm.inner;
        let buffers = Buffers::separate(loan.input, loan.output);
        let patience = inner.patience();
        let keep = Box::new(());
        let work = inner.cell.start(&message.program, buffers, &message.meta, keep, &patience)?;
        self.works.push(work);
        Ok(())
    }

    fn wait(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let mut first = Ok(());
        for work in self.works.drain(..) {
            // Without a deadline the wait ends with the operation.
            let ended = work.wait(&self.comm.inner.patience()).unwrap_or(Ok(()));
            first = first.and(ended);
        }
        first
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        // After an error the first one was reported; what matters here is that all have ended.
        let _ = self.end();
    }
}
