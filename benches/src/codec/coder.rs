//! Every codec behind one face: encode, decode, add.

use syncline_codecs::block::Block;
use syncline_codecs::bounded::{self, Finish, Step};
use syncline_codecs::cast;
use syncline_codecs::descriptor::{CastFormat, Codec, Rounding};
use syncline_codecs::filter::{self, FilterSr, Grid};
use syncline_codecs::lossless::{self, Lossless, Width};
use syncline_codecs::philox::Philox;
use syncline_codecs::sparse::{self, Sparse};

/// What goes wrong in a codec, as text.
type Result<T> = std::result::Result<T, String>;

/// A codec whose bound is an absolute one, with the memory it needs.
pub(super) enum Coder {
    None,
    Cast(CastFormat, cast::Rounding),
    Bounded { step: Step, operand: Vec<u8> },
    Block(Block),
    Lossless { coder: Box<Lossless>, decoded: Vec<f32> },
    TopK(Sparse, f64),
    Threshold(Sparse, f32),
    Filter(Box<FilterSr>, Grid, Philox),
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Coder {
    pub(super) fn new(codec: Codec) -> Result<Self> {
        Ok(match codec {
            Codec::None => Self::None,
            Codec::Cast { format, rounding } => {
                let rounding = match rounding {
                    Rounding::Nearest => cast::Rounding::Nearest,
                    Rounding::Stochastic { seed } => {
                        cast::Rounding::Stochastic { philox: Philox { seed, stream: 0 }, first: 0 }
                    }
                };
                Self::Cast(format, rounding)
            }
            Codec::Bounded { bound } => {
                let step = Step::new(bound.value()).map_err(text)?;
                Self::Bounded { step, operand: Vec::new() }
            }
            Codec::Block { bits, group } => Self::Block(Block::new(bits, group).map_err(text)?),
            Codec::Lossless => Self::Lossless { coder: Box::default(), decoded: Vec::new() },
            Codec::TopK { fraction } => Self::TopK(Sparse::new(), fraction),
            Codec::Threshold { value } => Self::Threshold(Sparse::new(), value as f32),
            Codec::FilterSr { step, drop, seed } => {
                let grid = Grid::new(step.value() as f32, drop as f32).map_err(text)?;
                Self::Filter(Box::default(), grid, Philox { seed, stream: 0 })
            }
            Codec::Auto { .. } => return Err("auto needs a link".to_owned()),
        })
    }

    /// The largest error an element may have, where the codec promises one for all.
    pub(super) fn bound(&self) -> Option<f64> {
        match self {
            Self::None | Self::Lossless { .. } => Some(0.0),
            Self::Bounded { step, .. } => Some(step.bound()),
            Self::Filter(_, grid, _) => Some(grid.error_max()),
            Self::Threshold(_, value) => Some(f64::from(*value)),
            Self::Cast(..) | Self::Block(_) | Self::TopK(..) => None,
        }
    }

    /// The most bytes of an encoding, or of the sum of two.
    pub(super) fn worst_case_bytes(&self, elements: usize) -> usize {
        match self {
            Self::None => 4 * elements,
            Self::Cast(format, _) => cast::encoded_bytes(*format, elements),
            Self::Bounded { .. } => bounded::worst_case_bytes(elements, 2),
            Self::Block(block) => block.encoded_bytes(elements),
            Self::Lossless { .. } => {
                lossless::worst_case_bytes(Width::Four, elements, lossless::CHUNK_ELEMENTS)
            }
            Self::TopK(..) | Self::Threshold(..) => sparse::worst_case_bytes(elements, elements),
            Self::Filter(..) => filter::worst_case_bytes(elements, filter::CHUNK_ELEMENTS),
        }
    }

    /// Encodes `x`; bytes written.
    pub(super) fn encode(&mut self, x: &[f32], out: &mut [u8]) -> Result<usize> {
        match self {
            Self::None => {
                out[..4 * x.len()].copy_from_slice(bytemuck::cast_slice(x));
                Ok(4 * x.len())
            }
            Self::Cast(format, rounding) => {
                cast::encode(*format, *rounding, x, out).map(|done| done.bytes).map_err(text)
            }
            Self::Bounded { step, .. } => {
                bounded::encode(x, *step, out).map(|done| done.bytes).map_err(text)
            }
            Self::Block(block) => block.encode(x, out).map_err(text),
            Self::Lossless { coder, .. } => {
                let (data, chunk) = (bytemuck::cast_slice(x), lossless::CHUNK_ELEMENTS);
                coder.encode(Width::Four, data, chunk, out).map_err(text)
            }
            Self::TopK(coder, fraction) => {
                coder.encode_largest(x, sparse::kept(*fraction, x.len()), out).map_err(text)
            }
            Self::Threshold(coder, value) => coder.encode_above(x, *value, out).map_err(text),
            Self::Filter(coder, grid, random) => {
                coder.encode(*grid, *random, 0, x, filter::CHUNK_ELEMENTS, out).map_err(text)
            }
        }
    }

    /// Decodes `bytes`.
    pub(super) fn decode(&mut self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        match self {
            Self::None => {
                bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
                Ok(())
            }
            Self::Cast(format, _) => cast::decode(*format, bytes, out).map_err(text),
            Self::Bounded { step, .. } => {
                bounded::decode(bytes, *step, Finish::Sum, out).map_err(text)
            }
            Self::Block(block) => block.decode(bytes, out).map_err(text),
            Self::Lossless { coder, .. } => {
                coder.decode(Width::Four, bytes, bytemuck::cast_slice_mut(out)).map_err(text)
            }
            Self::TopK(..) | Self::Threshold(..) => sparse::decode(bytes, out).map_err(text),
            Self::Filter(coder, ..) => coder.decode(bytes, out).map_err(text),
        }
    }

    /// Adds what `bytes` stand for to `sum`; `bounded` adds it to itself, encoded, into `scratch`.
    pub(super) fn add(&mut self, bytes: &[u8], sum: &mut [f32], scratch: &mut [u8]) -> Result<()> {
        match self {
            Self::None => {
                for (place, x) in sum.iter_mut().zip(bytes.as_chunks().0) {
                    *place += f32::from_le_bytes(*x);
                }
                Ok(())
            }
            Self::Cast(format, _) => cast::decode_add(*format, bytes, sum).map_err(text),
            Self::Bounded { step, operand } => {
                // Another place in memory, as another rank's would be.
                if operand.len() != bytes.len() {
                    operand.clear();
                    operand.extend_from_slice(bytes);
                }
                bounded::add(bytes, operand, sum.len(), *step, scratch).map(drop).map_err(text)
            }
            Self::Block(block) => block.decode_add(bytes, sum).map_err(text),
            Self::Lossless { coder, decoded } => {
                decoded.resize(sum.len(), 0.0);
                coder
                    .decode(Width::Four, bytes, bytemuck::cast_slice_mut(decoded))
                    .map_err(text)?;
                sum.iter_mut().zip(decoded).for_each(|(place, x)| *place += *x);
                Ok(())
            }
            Self::TopK(..) | Self::Threshold(..) => sparse::decode_add(bytes, sum).map_err(text),
            Self::Filter(coder, ..) => coder.decode_add(bytes, sum).map_err(text),
        }
    }
}
