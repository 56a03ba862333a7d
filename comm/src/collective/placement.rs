//! Whether two buffers given by address are one: which positions count as in place, and which are
//! a mistake. Rust's borrows cannot overlap; the buffers of other languages can.

use super::{Contract, InPlace, refuse};
use crate::error::Result;

/// Where one buffer lies.
#[derive(Clone, Copy)]
struct Range {
    at: usize,
    bytes: usize,
}

impl Range {
    /// Bytes it shares with `other`.
    fn shared_with(self, other: Self) -> usize {
        let end = (self.at + self.bytes).min(other.at + other.bytes);
        end.saturating_sub(self.at.max(other.at))
    }
}

impl Contract {
    /// Bytes of this rank's input and output, for elements of `size` bytes; 0 where it has none.
    pub fn bytes(&self, size: usize) -> (usize, usize) {
        (self.input.unwrap_or(0) * size, self.output.unwrap_or(0) * size)
    }

    /// Whether a call on buffers at these addresses is in place, for elements of `size` bytes. A
    /// buffer that this rank does not use, or of no element, may lie anywhere, also nowhere (0).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when a buffer is null, passes
    /// the end of the address space, or overlaps the other without lying where [`InPlace`] says.
    pub fn is_in_place(&self, size: usize, input: usize, output: usize) -> Result<bool> {
        let (input_bytes, output_bytes) = self.bytes(size);
        let input = self.range("input", "reads", input, input_bytes)?;
        let output = self.range("output", "writes", output, output_bytes)?;
        let (Some(input), Some(output)) = (input, output) else { return Ok(false) };
        let in_place = match self.in_place {
            InPlace::Same => input.at == output.at,
            InPlace::InputInOutput(elements) => input.at == output.at + elements * size,
            InPlace::OutputInInput(elements) => output.at == input.at + elements * size,
        };
        let shared = input.shared_with(output);
        if in_place || shared == 0 {
            return Ok(in_place);
        }
        let right = match self.in_place {
            InPlace::Same => "the output must start where the input starts".to_owned(),
            InPlace::InputInOutput(elements) => {
                format!("the input must start {} bytes after the output", elements * size)
            }
            InPlace::OutputInInput(elements) => {
                format!("the output must start {} bytes after the input", elements * size)
            }
        };
        let reason = format!(
            "input and output overlap in {shared} bytes; give them memory of their own, or work \
             in place, for which {right}"
        );
        refuse(self.collective, reason)
    }

    fn range(&self, which: &str, verb: &str, at: usize, bytes: usize) -> Result<Option<Range>> {
        if bytes == 0 {
            return Ok(None);
        }
        if at == 0 {
            let reason = format!("the {which} buffer is null, and this call {verb} {bytes} bytes");
            return refuse(self.collective, reason);
        }
        if at.checked_add(bytes).is_none() {
            let reason = format!(
                "the {which} buffer of {bytes} bytes would pass the end of the address space"
            );
            return refuse(self.collective, reason);
        }
        Ok(Some(Range { at, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use crate::collective::{Request, contract};
    use crate::reduce::DType;
    use crate::schedule::Collective;

    /// Rank 1 of 4, three f32 each: 12 bytes, 48 for all.
    fn in_place(collective: Collective, input: usize, output: usize) -> Result<bool, String> {
        let contract = contract(&Request::new(collective, DType::F32, 3).root(1), 1, 4).unwrap();
        contract.is_in_place(4, input, output).map_err(|error| error.to_string())
    }

    #[test]
    fn exact_positions_are_in_place_and_distance_is_not() {
        assert_eq!(in_place(Collective::AllReduce, 1000, 1000), Ok(true));
        assert_eq!(in_place(Collective::AllReduce, 1000, 1012), Ok(false));
        assert_eq!(in_place(Collective::AllReduce, 1012, 1000), Ok(false));
        assert_eq!(in_place(Collective::AllGather, 1012, 1000), Ok(true));
        assert_eq!(in_place(Collective::AllGather, 1048, 1000), Ok(false));
        assert_eq!(in_place(Collective::ReduceScatter, 1000, 1012), Ok(true));
        assert_eq!(in_place(Collective::Scatter, 1000, 1012), Ok(true));
        assert_eq!(in_place(Collective::Gather, 1012, 1000), Ok(true));
        assert_eq!(in_place(Collective::AllToAll, 1000, 1000), Ok(true));
        assert_eq!(in_place(Collective::Barrier, 0, 0), Ok(false));
    }

    #[test]
    fn overlap_is_refused_and_the_right_place_named() {
        let refusal = in_place(Collective::AllReduce, 1000, 1008).unwrap_err();
        assert!(refusal.contains("overlap in 4 bytes"), "{refusal}");
        assert!(refusal.contains("start where the input starts"), "{refusal}");
        let refusal = in_place(Collective::AllGather, 1000, 1000).unwrap_err();
        assert!(refusal.contains("overlap in 12 bytes"), "{refusal}");
        assert!(refusal.contains("start 12 bytes after the output"), "{refusal}");
        let refusal = in_place(Collective::ReduceScatter, 1000, 1000).unwrap_err();
        assert!(refusal.contains("start 12 bytes after the input"), "{refusal}");
    }

    #[test]
    fn nothing_lies_at_null_or_past_the_end() {
        let refusal = in_place(Collective::AllReduce, 0, 1000).unwrap_err();
        assert!(refusal.contains("input buffer is null"), "{refusal}");
        let refusal = in_place(Collective::AllReduce, 1000, 0).unwrap_err();
        assert!(refusal.contains("output buffer is null"), "{refusal}");
        let refusal = in_place(Collective::AllReduce, usize::MAX - 4, 1000).unwrap_err();
        assert!(refusal.contains("end of the address space"), "{refusal}");
    }

    #[test]
    fn what_is_not_used_may_be_null() {
        let request = Request::new(Collective::Reduce, DType::F32, 3).root(0);
        let at_leaf = contract(&request, 1, 4).unwrap();
        assert!(!at_leaf.is_in_place(4, 1000, 0).unwrap());
        let empty = contract(&Request::new(Collective::AllReduce, DType::F32, 0), 1, 4).unwrap();
        assert!(!empty.is_in_place(4, 0, 0).unwrap());
    }
}
