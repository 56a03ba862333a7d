//! Several operations as one: they go out together and end together.

use std::sync::Arc;

use super::coalesce::bucket;
use super::message::Message;
use super::{Communicator, RawWork};
use crate::collective::Request;
use crate::engine::{Buffers, Work};
use crate::error::{Rank, Result};
use crate::memory::{Loan, RawBuffers};
use crate::reduce::{DType, Element, ReduceOp};
use crate::schedule::Collective;

/// Collects the operations of one [`Communicator::group`].
pub struct Group<'a> {
    comm: Communicator,
    pending: Vec<Pending<'a>>,
}

/// One operation of a group, not started yet.
enum Pending<'a> {
    Message {
        dtype: DType,
        count: usize,
        peer: Rank,
        send: bool,
        loan: Loan<'a>,
    },
    /// An input beside the output is copied there first.
    AllReduce {
        dtype: DType,
        op: ReduceOp,
        loan: Loan<'a>,
    },
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
        let loan = Loan::new(&[], bytemuck::cast_slice_mut(data));
        self.pending.push(Pending::AllReduce { dtype: T::DTYPE, op, loan });
    }

    /// Adds a send (`send`) of `count` elements at `at` to `peer`, or a receive from it.
    ///
    /// # Errors
    /// As [`Communicator::send_raw`] and [`Communicator::recv_raw`], of what is wrong at once.
    pub fn message_raw(
        &mut self,
        (dtype, count): (DType, usize),
        peer: Rank,
        send: bool,
        at: RawBuffers,
    ) -> Result<()> {
        self.comm.inner.check_peer(peer, send)?;
        let loan = self.comm.inner.lend_message(dtype, count, send, at)?;
        self.pending.push(Pending::Message { dtype, count, peer, send, loan });
        Ok(())
    }

    /// Adds an all_reduce of `count` elements at `at`.
    ///
    /// # Errors
    /// As [`Communicator::run_raw`], of what is wrong at once.
    pub fn all_reduce_raw(
        &mut self,
        (dtype, count): (DType, usize),
        op: ReduceOp,
        at: RawBuffers,
    ) -> Result<()> {
        let request = Request::new(Collective::AllReduce, dtype, count).op(op);
        let (loan, _in_place) = self.comm.lend(&request, at)?;
        self.pending.push(Pending::AllReduce { dtype, op, loan });
        Ok(())
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
                Pending::AllReduce { dtype, op, loan } => {
                    loan.output.copy_from(loan.input);
                    reductions.push((loan.slices().1, *dtype, *op));
                }
            }
        }
        let reduced = self.all_reduce_fused(reductions);
        started.wait().and(reduced)
    }

    /// Starts what `collect` adds to the group, fused as [`group`](Self::group) does it: the two
    /// may meet each other.
    ///
    /// # Errors
    /// The error of `collect`, and nothing was started; or what kept an operation from starting.
    pub fn start_group(
        &self,
        collect: impl FnOnce(&mut Group<'static>) -> Result<()>,
    ) -> Result<RawWork> {
        let mut group = Group { comm: self.clone(), pending: Vec::new() };
        collect(&mut group)?;
        let mut work = RawWork::new(Arc::clone(&self.inner));
        match self.start_pending(&mut work, group.pending) {
            Ok(()) => Ok(work),
            Err(error) => {
                // What was started uses the caller's memory until it has ended.
                let _ended = work.wait(None);
                Err(error)
            }
        }
    }

    fn start_pending(&self, work: &mut RawWork, pending: Vec<Pending<'static>>) -> Result<()> {
        let mut reductions = Vec::new();
        for pending in pending {
            match pending {
                Pending::Message { dtype, count, peer, send, loan } => {
                    work.start_message(&self.inner.message(dtype, count, peer, send)?, &loan)?;
                }
                Pending::AllReduce { dtype, op, loan } => {
                    loan.output.copy_from(loan.input);
                    reductions.push((dtype, op, loan));
                }
            }
        }
        start_fused(work, reductions)
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

/// The buckets of [`Communicator::group`], started.
fn start_fused(
    work: &mut RawWork,
    mut reductions: Vec<(DType, ReduceOp, Loan<'static>)>,
) -> Result<()> {
    while let Some(&(dtype, op, _)) = reductions.first() {
        let alike = reductions.iter().take_while(|&&(d, o, _)| (d, o) == (dtype, op));
        let count = bucket(alike.map(|(_, _, loan)| loan.output.len()));
        let later = reductions.split_off(count);
        let now = std::mem::replace(&mut reductions, later);
        let bytes: usize = now.iter().map(|(_, _, loan)| loan.output.len()).sum();
        let request = Request::new(Collective::AllReduce, dtype, bytes / dtype.size()).op(op);
        let mut loans: Vec<Loan<'static>> = now.into_iter().map(|(_, _, loan)| loan).collect();
        match &mut loans[..] {
            [alone] => work.start_in_place(&request, alone)?,
            together => {
                let mut packed = Vec::with_capacity(bytes);
                together.iter_mut().for_each(|loan| packed.extend_from_slice(loan.slices().1));
                work.start_packed(&request, packed, loans)?;
            }
        }
    }
    Ok(())
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
