//! Memory as the engine and the transports see it: raw views, and the staging arena.

mod arena;
mod inherited;
mod lend;
mod mapping;
mod process;
mod receive_buffer;
mod socket;
mod span;
mod spares;
mod stream;
#[cfg(any(test, feature = "bench", feature = "fuzzing"))]
#[doc(hidden)]
pub mod testing;

pub use arena::{Arena, Lease};
pub(crate) use inherited::duplicate_inherited;
pub use lend::RawBuffers;
pub(crate) use lend::{Loan, own};
pub use mapping::Mapping;
pub use process::process_generation;
pub(crate) use receive_buffer::ReceiveBuffer;
pub(crate) use socket::{gather_spans, receive_span, send_spans};
pub use span::{Span, SpanMut};
pub(crate) use spares::Spares;
pub use stream::drain_streams;
