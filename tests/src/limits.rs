//! What a rank does in a test of a system that has run out of something.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use syncline::communicator::{Communicator, Options, Rendezvous, TransportChoice};
use syncline::error::Rank;
use syncline::reduce::ReduceOp;

/// Plays the part called `name`; returns what it was told.
///
/// # Errors
/// What went wrong in the test itself.
pub fn play(
    name: &str,
    (rank, ranks): (Rank, Rank),
    file: &Path,
    transport: TransportChoice,
) -> Result<String, String> {
    // Whoever waits for the other gives up last.
    let timeout = Duration::from_secs(if name == "apart" && rank == 0 { 12 } else { 4 });
    let options = Options { transport, timeout, ..Options::default() };
    let at = Rendezvous::File(file.to_owned());
    let made = Communicator::init(&at, rank, ranks, options);
    let comm = match (name, made) {
        ("init" | "apart", Err(error)) => return Ok(format!("refused: {error}")),
        (_, Err(error)) => return Err(error.to_string()),
        (_, Ok(comm)) => comm,
    };
    match name {
        "init" | "apart" => sum(&comm, 1000).map(|()| "worked".to_owned()),
        "threads" => threads(&comm),
        "descriptors" => descriptors(&comm),
        "accept" => accept(&comm),
        other => Err(format!("no part {other}")),
    }
}

fn sum(comm: &Communicator, count: usize) -> Result<(), String> {
    let mut data = vec![1.0f64; count];
    comm.all_reduce(&mut data, ReduceOp::Sum).map_err(|e| e.to_string())?;
    let right = data.iter().all(|&x| x == f64::from(comm.ranks()));
    if right { Ok(()) } else { Err("a wrong sum".to_owned()) }
}

/// The first non-blocking call of a process that may start no more threads; the communicator
/// goes on to work, and starts operations when it may.
fn threads(comm: &Communicator) -> Result<String, String> {
    sum(comm, 10)?;
    let before = limit(Resource::Nproc, 0)?;
    let refused = match comm.start_all_reduce(vec![1.0f32; 8], ReduceOp::Sum) {
        Ok(_) => return Err("a thread was started beyond the limit".to_owned()),
        Err(error) => error.to_string(),
    };
    restore(Resource::Nproc, before)?;
    let work = comm.start_all_reduce(vec![1.0f32; 8], ReduceOp::Sum).map_err(|e| e.to_string())?;
    let data = work.wait().map_err(|e| e.to_string())?;
    sum(comm, 100_000)?;
    let right = data.iter().all(|&x| f64::from(x) == f64::from(comm.ranks()));
    if right { Ok(format!("refused: {refused}")) } else { Err("a wrong sum".to_owned()) }
}

/// Non-blocking and first calls of a process that gets no more descriptors.
fn descriptors(comm: &Communicator) -> Result<String, String> {
    let before = limit(Resource::Nofile, 0)?;
    let started = comm.start_all_reduce(vec![1.0f32; 8], ReduceOp::Sum);
    let ended = started.and_then(syncline::communicator::Work::wait);
    restore(Resource::Nofile, before)?;
    match ended {
        Ok(data) if data.iter().all(|&x| f64::from(x) == f64::from(comm.ranks())) => {
            sum(comm, 100_000).map(|()| "worked".to_owned())
        }
        Ok(_) => Err("a wrong sum".to_owned()),
        Err(error) => Ok(format!("refused: {error}")),
    }
}

/// Rank 1 gets no more descriptors, and so cannot take the connection that rank 0's message needs.
fn accept(comm: &Communicator) -> Result<String, String> {
    let mut data = [1.0f32; 8];
    // What the barriers need is open from the first one on; messages have a pipe of their own.
    comm.barrier().map_err(|e| e.to_string())?;
    let before = getrlimit(Resource::Nofile);
    if comm.rank() == 1 {
        limit(Resource::Nofile, 0)?;
    }
    comm.barrier().map_err(|e| e.to_string())?;
    let ended = if comm.rank() == 0 {
        comm.send(&data, 1).and_then(|()| comm.barrier())
    } else {
        comm.recv(&mut data, 0)
    };
    restore(Resource::Nofile, before)?;
    match ended {
        Ok(()) => Err("the message came without a connection".to_owned()),
        Err(error) => Ok(format!("refused: {error}")),
    }
}

/// Lowers a soft limit; answers what it was.
fn limit(resource: Resource, to: u64) -> Result<Rlimit, String> {
    let before = getrlimit(resource);
    let lowered = Rlimit { current: Some(to), ..before };
    setrlimit(resource, lowered).map_err(|e| e.to_string())?;
    Ok(before)
}

fn restore(resource: Resource, to: Rlimit) -> Result<(), String> {
    setrlimit(resource, to).map_err(|e| e.to_string())
}
