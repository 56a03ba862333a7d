//! One chunk of a frame, by each codec.

use std::ops::Range;

use super::{CHUNK_ELEMENTS, ElementType, Elements, ElementsMut, FrameError, Frames, Shape};
use crate::block::Block;
use crate::bounded::{self, Finish, Step};
use crate::cast;
use crate::descriptor::{Bound, BoundMode, Codec, Rounding};
use crate::error::{DecodeError, DescriptorError, corrupt};
use crate::filter::{self, Grid};
use crate::lossless::{self, Width};
use crate::philox::Philox;
use crate::sparse;

/// The most elements of a sparse frame, so that its one chunk has less than 2^32 bytes.
const SPARSE_ELEMENTS_MAX: usize = (1 << 30) - 1024;

/// Whether frames of such tensors can have the codec.
pub(super) fn check(codec: Codec, shape: Shape) -> Result<(), FrameError> {
    let name = codec.name();
    match codec {
        Codec::None | Codec::Lossless => Ok(()),
        Codec::Auto { .. } => Err(FrameError::NoLink(name)),
        _ if shape.element_type != ElementType::F32 => {
            Err(FrameError::Type { codec: name, element_type: shape.element_type.name() })
        }
        Codec::TopK { .. } | Codec::Threshold { .. } if shape.elements > SPARSE_ELEMENTS_MAX => {
            Err(FrameError::TooMany(shape.elements))
        }
        Codec::Block { bits, group } => Ok(Block::new(bits, group).map(drop)?),
        _ => Ok(()),
    }
}

/// Whether the codec's bound is in the unit of the data, as in a frame.
pub(super) fn is_absolute(codec: Codec) -> bool {
    match codec {
        Codec::Bounded { bound } | Codec::FilterSr { step: bound, .. } => {
            bound.mode() == BoundMode::Abs
        }
        _ => true,
    }
}

/// Elements per chunk: a sparse tensor is one.
pub(super) fn elements(codec: Codec, elements: usize) -> usize {
    match codec {
        Codec::TopK { .. } | Codec::Threshold { .. } => elements.clamp(1, SPARSE_ELEMENTS_MAX),
        _ => CHUNK_ELEMENTS,
    }
}

fn width(element_type: ElementType) -> Width {
    if element_type == ElementType::F32 { Width::Four } else { Width::Two }
}

/// The most bytes of a chunk. The codec was checked.
pub(super) fn worst_case_bytes(codec: Codec, element_type: ElementType, elements: usize) -> usize {
    match codec {
        Codec::Cast { format, .. } => cast::encoded_bytes(format, elements),
        Codec::Bounded { .. } => bounded::worst_case_bytes(elements, 1),
        Codec::Block { bits, group } => {
            Block::new(bits, group).map_or(0, |block| block.encoded_bytes(elements))
        }
        Codec::Lossless => {
            let width = width(element_type);
            lossless::worst_case_bytes(width, elements, lossless::CHUNK_ELEMENTS)
        }
        Codec::TopK { fraction } => {
            sparse::worst_case_bytes(elements, sparse::kept(fraction, elements))
        }
        Codec::Threshold { .. } => sparse::worst_case_bytes(elements, elements),
        Codec::FilterSr { .. } => filter::worst_case_bytes(elements, filter::CHUNK_ELEMENTS),
        Codec::None | Codec::Auto { .. } => elements * element_type.bytes(),
    }
}

/// The numbers that a frame's stochastic rounding uses.
fn philox(seed: u64) -> Philox {
    Philox { seed, stream: 0 }
}

/// A grid from a descriptor with an absolute step.
fn grid(step: Bound, drop: f64) -> Result<Grid, DescriptorError> {
    Grid::new(step.value() as f32, drop as f32)
}

impl Frames {
    /// Encodes the elements of `range`; bytes written. There is room for the worst case.
    pub(super) fn encode(
        &mut self,
        codec: Codec,
        data: Elements<'_>,
        range: Range<usize>,
        out: &mut [u8],
    ) -> Result<usize, FrameError> {
        let element_type = data.shape().element_type;
        let size = element_type.bytes();
        let bytes = &data.bytes()[range.start * size..range.end * size];
        let first = range.start as u64;
        let Elements::F32(data) = data else {
            return self.encode_any(codec, element_type, bytes, out);
        };
        let data = &data[range];
        Ok(match codec {
            Codec::Cast { format, rounding } => {
                let rounding = match rounding {
                    Rounding::Nearest => cast::Rounding::Nearest,
                    Rounding::Stochastic { seed } => {
                        cast::Rounding::Stochastic { philox: philox(seed), first }
                    }
                };
                cast::encode(format, rounding, data, out)?.bytes
            }
            Codec::Bounded { bound } => {
                bounded::encode(data, Step::new(bound.value())?, out)?.bytes
            }
            Codec::Block { bits, group } => Block::new(bits, group)?.encode(data, out)?,
            Codec::TopK { fraction } => {
                let kept = sparse::kept(fraction, data.len());
                self.sparse.encode_largest(data, kept, out)?
            }
            Codec::Threshold { value } => self.sparse.encode_above(data, value as f32, out)?,
            Codec::FilterSr { step, drop, seed } => {
                let (grid, chunk) = (grid(step, drop)?, filter::CHUNK_ELEMENTS);
                self.filter.encode(grid, philox(seed), first, data, chunk, out)?
            }
            Codec::None | Codec::Lossless | Codec::Auto { .. } => {
                self.encode_any(codec, element_type, bytes, out)?
            }
        })
    }

    /// Encodes elements of any type.
    fn encode_any(
        &mut self,
        codec: Codec,
        element_type: ElementType,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<usize, FrameError> {
        match codec {
            Codec::Lossless => {
                let chunk = lossless::CHUNK_ELEMENTS;
                Ok(self.lossless.encode(width(element_type), bytes, chunk, out)?)
            }
            Codec::None => {
                out[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => Err(FrameError::Type { codec: codec.name(), element_type: element_type.name() }),
        }
    }

    /// Decodes a chunk to the elements of `range`.
    pub(super) fn decode(
        &mut self,
        codec: Codec,
        encoded: &[u8],
        out: &mut ElementsMut<'_>,
        range: Range<usize>,
    ) -> Result<(), DecodeError> {
        let unusable = |_| corrupt(0, "the codec's parameters are out of range");
        let element_type = out.shape().element_type;
        let size = element_type.bytes();
        let bytes = range.start * size..range.end * size;
        match codec {
            Codec::Lossless => {
                return self.lossless.decode(width(element_type), encoded, &mut out.bytes()[bytes]);
            }
            Codec::None if encoded.len() == bytes.len() => {
                out.bytes()[bytes].copy_from_slice(encoded);
                return Ok(());
            }
            Codec::None => return Err(corrupt(0, "a chunk does not have the size of its data")),
            _ => {}
        }
        let ElementsMut::F32(out) = out else {
            return Err(corrupt(0, "the codec is not for elements of this type"));
        };
        let out = &mut out[range];
        match codec {
            Codec::Cast { format, .. } => cast::decode(format, encoded, out),
            Codec::Bounded { bound } => {
                let step = Step::new(bound.value()).map_err(unusable)?;
                bounded::decode(encoded, step, Finish::Sum, out)
            }
            Codec::Block { bits, group } => {
                Block::new(bits, group).map_err(unusable)?.decode(encoded, out)
            }
            Codec::TopK { .. } | Codec::Threshold { .. } => sparse::decode(encoded, out),
            Codec::FilterSr { .. } => self.filter.decode(encoded, out),
            Codec::None | Codec::Lossless | Codec::Auto { .. } => {
                Err(corrupt(0, "the codec is not for frames"))
            }
        }
    }
}
