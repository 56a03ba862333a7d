//! The collectives with typed buffers. Lengths are in elements.
//!
//! Each call blocks until this rank's part is done. All ranks must make the same calls in the
//! same order. Errors: [`Error::InvalidArgument`](crate::Error::InvalidArgument) before anything
//! is sent; afterwards those of a lost peer, a missed deadline or a mismatch, after which the
//! communicator is of no further use.

use super::Communicator;
use crate::collective::{Counts, Request};
use crate::error::{Rank, Result};
use crate::reduce::{Element, ReduceOp};
use crate::schedule::Collective;

fn bytes<T: Element>(data: &[T]) -> &[u8] {
    bytemuck::cast_slice(data)
}

fn bytes_mut<T: Element>(data: &mut [T]) -> &mut [u8] {
    bytemuck::cast_slice_mut(data)
}

fn request<T: Element>(collective: Collective, count: usize) -> Request {
    Request::new(collective, T::DTYPE, count)
}

fn uneven<T: Element>(collective: Collective, counts: &[usize]) -> Request {
    Request { counts: Counts::PerRank(counts.to_vec()), ..request::<T>(collective, 0) }
}

impl Communicator {
    /// Replaces `data` (n) by the reduction of all ranks' `data`.
    pub fn all_reduce<T: Element>(&self, data: &mut [T], op: ReduceOp) -> Result<()> {
        let request = request::<T>(Collective::AllReduce, data.len()).op(op);
        self.run(&request, None, bytes_mut(data))
    }

    /// The reduction of all ranks' `input` (n) in `output` (n).
    pub fn all_reduce_into<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        let request = request::<T>(Collective::AllReduce, input.len()).op(op);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Block r of the reduction of all ranks' `input` (p·n), in rank r's `output` (n).
    pub fn reduce_scatter<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        let request = request::<T>(Collective::ReduceScatter, output.len()).op(op);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Like [`reduce_scatter`](Self::reduce_scatter) with blocks of `counts[r]` elements.
    pub fn reduce_scatter_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
        op: ReduceOp,
    ) -> Result<()> {
        let request = uneven::<T>(Collective::ReduceScatter, counts).op(op);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Every rank's `input` (n), in rank order, in `output` (p·n).
    pub fn all_gather<T: Element>(&self, input: &[T], output: &mut [T]) -> Result<()> {
        let request = request::<T>(Collective::AllGather, input.len());
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Like [`all_gather`](Self::all_gather) with blocks of `counts[r]` elements.
    pub fn all_gather_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
    ) -> Result<()> {
        let request = uneven::<T>(Collective::AllGather, counts);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Replaces every rank's `data` (n) by the root's.
    pub fn broadcast<T: Element>(&self, data: &mut [T], root: Rank) -> Result<()> {
        let request = request::<T>(Collective::Broadcast, data.len()).root(root);
        self.run(&request, None, bytes_mut(data))
    }

    /// The reduction of all ranks' `input` (n) in the root's `output` (n); other ranks may pass
    /// an empty `output`.
    pub fn reduce<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        op: ReduceOp,
        root: Rank,
    ) -> Result<()> {
        let request = request::<T>(Collective::Reduce, input.len()).op(op).root(root);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Every rank's `input` (n), in rank order, in the root's `output` (p·n); other ranks may
    /// pass an empty `output`.
    pub fn gather<T: Element>(&self, input: &[T], output: &mut [T], root: Rank) -> Result<()> {
        let request = request::<T>(Collective::Gather, input.len()).root(root);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Like [`gather`](Self::gather) with blocks of `counts[r]` elements.
    pub fn gather_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
        root: Rank,
    ) -> Result<()> {
        let request = uneven::<T>(Collective::Gather, counts).root(root);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Block r of the root's `input` (p·n) in rank r's `output` (n); other ranks may pass an
    /// empty `input`.
    pub fn scatter<T: Element>(&self, input: &[T], output: &mut [T], root: Rank) -> Result<()> {
        let request = request::<T>(Collective::Scatter, output.len()).root(root);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Like [`scatter`](Self::scatter) with blocks of `counts[r]` elements.
    pub fn scatter_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
        root: Rank,
    ) -> Result<()> {
        let request = uneven::<T>(Collective::Scatter, counts).root(root);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Block r of every rank's `input` (p·n), in rank order, in rank r's `output` (p·n).
    pub fn all_to_all<T: Element>(&self, input: &[T], output: &mut [T]) -> Result<()> {
        let request = request::<T>(Collective::AllToAll, input.len() / self.ranks() as usize);
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Like [`all_to_all`](Self::all_to_all): `send[r]` elements go to rank r, `receive[r]` come
    /// from it, packed in rank order.
    pub fn all_to_all_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        send: &[usize],
        receive: &[usize],
    ) -> Result<()> {
        let counts = Counts::PerPair { send: send.to_vec(), receive: receive.to_vec() };
        let request = Request { counts, ..request::<T>(Collective::AllToAll, 0) };
        self.run(&request, Some(bytes(input)), bytes_mut(output))
    }

    /// Replaces `data` (n) on rank r by the reduction over ranks 0 to r.
    pub fn scan<T: Element>(&self, data: &mut [T], op: ReduceOp) -> Result<()> {
        let request = request::<T>(Collective::Scan, data.len()).op(op);
        self.run(&request, None, bytes_mut(data))
    }

    /// Replaces `data` (n) on rank r > 0 by the reduction over ranks 0 to r-1; rank 0 keeps its
    /// own.
    pub fn exscan<T: Element>(&self, data: &mut [T], op: ReduceOp) -> Result<()> {
        let request = request::<T>(Collective::ExScan, data.len()).op(op);
        self.run(&request, None, bytes_mut(data))
    }

    /// Returns when every rank has called it.
    pub fn barrier(&self) -> Result<()> {
        self.run(&request::<u8>(Collective::Barrier, 0), None, &mut [])
    }
}
