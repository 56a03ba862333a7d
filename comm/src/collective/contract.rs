//! How large a rank's buffers are, and how they may share memory.

use super::refuse;
use crate::error::Result;
use crate::schedule::Collective;

/// How input and output lie when the caller gives one buffer for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// They are the same memory.
    Same,
    /// The input starts at this element of the output (all_gather, gather at the root).
    InputInOutput(usize),
    /// The output starts at this element of the input (reduce_scatter, scatter at the root).
    OutputInInput(usize),
}

/// The buffers of one rank for one request, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The collective, for errors.
    pub collective: Collective,
    /// Elements of input; `None` where this rank gives none.
    pub input: Option<usize>,
    /// Elements of output; `None` where this rank gets none.
    pub output: Option<usize>,
    /// How one buffer serves as both.
    pub in_place: InPlace,
}

impl Contract {
    /// Elements of the one buffer of an in-place call.
    pub fn in_place_elements(&self) -> usize {
        self.input.unwrap_or(0).max(self.output.unwrap_or(0))
    }

    /// Checks the lengths of separate buffers, in elements. A buffer this rank does not use may
    /// have any length.
    pub fn check_lengths(&self, input: usize, output: usize) -> Result<()> {
        self.check_one("input", self.input, input)?;
        self.check_one("output", self.output, output)
    }

    /// Checks the length of the one buffer of an in-place call, in elements.
    pub fn check_in_place_length(&self, buffer: usize) -> Result<()> {
        self.check_one("in-place", Some(self.in_place_elements()), buffer)
    }

    /// Checks the buffers' lengths, in bytes, for elements of `size` bytes; `input: None` is in
    /// place.
    pub fn check_bytes(&self, size: usize, input: Option<usize>, output: usize) -> Result<()> {
        for bytes in [input.unwrap_or(0), output] {
            if !bytes.is_multiple_of(size) {
                let reason =
                    format!("a buffer of {bytes} bytes does not hold whole elements of {size}");
                return refuse(self.collective, reason);
            }
        }
        match input {
            Some(input) => self.check_lengths(input / size, output / size),
            None => self.check_in_place_length(output / size),
        }
    }

    fn check_one(&self, which: &str, needed: Option<usize>, given: usize) -> Result<()> {
        match needed {
            Some(needed) if needed != given => refuse(
                self.collective,
                format!("the {which} buffer has {given} elements, but this call needs {needed}"),
            ),
            _ => Ok(()),
        }
    }
}
