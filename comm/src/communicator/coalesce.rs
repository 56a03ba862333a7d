//! Many tensors in one exchange: small ones are packed side by side and reduced together.

use std::sync::PoisonError;

use super::Communicator;
use crate::collective::Request;
use crate::error::Result;
use crate::reduce::{DType, Element, ReduceOp};
use crate::schedule::Collective;

/// Tensors of up to this many bytes are packed; a copy of more costs more than a message.
const PACKED_BYTES_MAX: usize = 128 << 10;
/// Bytes packed into one exchange.
const BUCKET_BYTES_MAX: usize = 2 << 20;

impl Communicator {
    /// All-reduces every tensor in place. Each is a vector of its own length; all ranks give the
    /// same lengths in the same order.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn all_reduce_coalesced<T: Element>(
        &self,
        tensors: &mut [&mut [T]],
        op: ReduceOp,
    ) -> Result<()> {
        let mut bytes: Vec<&mut [u8]> =
            tensors.iter_mut().map(|tensor| bytemuck::cast_slice_mut(tensor)).collect();
        self.all_reduce_buckets(&mut bytes, T::DTYPE, op)
    }

    /// The same on untyped tensors.
    pub(super) fn all_reduce_buckets(
        &self,
        mut tensors: &mut [&mut [u8]],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<()> {
        while !tensors.is_empty() {
            let count = bucket(tensors.iter().map(|tensor| tensor.len()));
            let (now, later) = tensors.split_at_mut(count);
            match now {
                [alone] => self.all_reduce_bytes(alone, dtype, op)?,
                together => self.all_reduce_packed(together, dtype, op)?,
            }
            tensors = later;
        }
        Ok(())
    }

    fn all_reduce_packed(
        &self,
        bucket: &mut [&mut [u8]],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<()> {
        // Kept from call to call, so that a training loop allocates nothing.
        let mut packed = self.inner.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.clear();
        bucket.iter().for_each(|tensor| packed.extend_from_slice(tensor));
        self.all_reduce_bytes(&mut packed, dtype, op)?;
        let mut rest = packed.as_slice();
        for tensor in bucket {
            let (mine, after) = rest.split_at(tensor.len());
            tensor.copy_from_slice(mine);
            rest = after;
        }
        Ok(())
    }

    fn all_reduce_bytes(&self, data: &mut [u8], dtype: DType, op: ReduceOp) -> Result<()> {
        let request = Request::new(Collective::AllReduce, dtype, data.len() / dtype.size()).op(op);
        self.run(&request, None, data)
    }
}

/// How many of the first tensors go together; at least one.
pub(super) fn bucket(tensor_bytes: impl Iterator<Item = usize>) -> usize {
    let mut total = 0;
    let fits = |&bytes: &usize| {
        total += bytes;
        bytes <= PACKED_BYTES_MAX && total <= BUCKET_BYTES_MAX
    };
    tensor_bytes.take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(lengths: &[usize]) -> Vec<usize> {
        let mut rest = lengths;
        let mut counts = Vec::new();
        while !rest.is_empty() {
            counts.push(bucket(rest.iter().copied()));
            rest = &rest[bucket(rest.iter().copied())..];
        }
        counts
    }

    #[test]
    fn small_tensors_go_together_and_large_ones_alone() {
        assert_eq!(buckets(&[10, 20, 0, 30]), [4]);
        assert_eq!(buckets(&[10, PACKED_BYTES_MAX + 1, 20, 30]), [1, 1, 2]);
        assert_eq!(buckets(&[PACKED_BYTES_MAX; 20]), [16, 4]);
    }
}
