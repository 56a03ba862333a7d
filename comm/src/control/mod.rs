//! Who is still there, and why a communicator failed.
//!
//! Every member of a job takes part in one control protocol beside the data: it notices members
//! that are gone, finds out who is to blame when an operation cannot go on, tells everybody the
//! same cause, and lets the survivors agree. [`core`] is the protocol as a state machine without
//! I/O, driven by the control thread in production and by the simulator in tests.

pub mod core;
