//! Ctrl-C, SIGTERM and SIGHUP as something a poll loop can wait for.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use crate::failure::{Failure, Outcome};

/// From now on Ctrl-C and its like no longer end this process but the job it waits for. Whoever
/// makes something that must be removed again calls this first.
pub(crate) fn heed_signals() -> Outcome {
    stop_requests().map(drop)
}

/// A stream that becomes readable, for good, when the user wants to stop.
pub(crate) fn stop_requests() -> Outcome<&'static UnixStream> {
    static STREAM: OnceLock<Result<UnixStream, String>> = OnceLock::new();
    STREAM.get_or_init(install).as_ref().map_err(|reason| Failure::run(reason.clone()))
}

fn install() -> Result<UnixStream, String> {
    let (reader, writer) = UnixStream::pair().map_err(|e| format!("no socket pair: {e}"))?;
    ctrlc::set_handler(move || {
        // The stream is never read, so one byte wakes every later wait too.
        let _ = (&writer).write(b"!");
    })
    .map_err(|e| format!("cannot handle signals: {e}"))?;
    Ok(reader)
}
