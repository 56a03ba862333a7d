//! How much memory a rank uses besides the caller's buffers, as the kernel counts it.

use syncline::communicator::{Communicator, Options};
use syncline::reduce::ReduceOp;

/// Elements (of 4 bytes) of a buffer: 64 MiB with few ranks, less where many share a machine.
const ELEMENTS: usize = 16 << 20;
const ELEMENTS_OF_MANY: usize = 1 << 20;
const MANY: usize = 5;
/// What is no staging: programs, a thread, pages of the executable that are touched late.
const REST_BYTES_MAX: u64 = 4 << 20;

/// Calls everything with large buffers.
///
/// # Errors
/// More memory was used than the options allow, or a call failed.
pub fn stay_within_the_budget(comm: &Communicator) -> Result<String, String> {
    let ranks = comm.ranks() as usize;
    let wanted = if ranks < MANY { ELEMENTS } else { ELEMENTS_OF_MANY };
    let part = wanted / ranks;
    let (mut whole, mut other) = (vec![1.0_f32; part * ranks], vec![2.0_f32; part * ranks]);
    let calls = |whole: &mut [f32], other: &mut [f32], part: usize| -> syncline::Result<()> {
        comm.all_reduce(whole, ReduceOp::Max)?;
        comm.all_reduce_into(whole, other, ReduceOp::Max)?;
        comm.reduce_scatter(whole, &mut other[..part], ReduceOp::Max)?;
        comm.all_gather(&whole[..part], other)?;
        comm.all_to_all(whole, other)?;
        comm.reduce(whole, other, ReduceOp::Max, 0)?;
        comm.broadcast(whole, 0)
    };
    let text = |error: syncline::Error| error.to_string();
    // The code and everything that does not grow with the buffers.
    calls(&mut whole[..ranks], &mut other[..ranks], 1).map_err(text)?;
    let before = in_memory("VmRSS:")?;
    forget_the_peak()?;
    for _ in 0..2 {
        calls(&mut whole, &mut other, part).map_err(text)?;
    }
    let used = in_memory("VmHWM:")?.saturating_sub(before);
    let allowed = Options::default().staging_bytes_max as u64 + REST_BYTES_MAX;
    let report = format!("{} KiB beside buffers of {} KiB", used >> 10, (part * ranks) >> 8);
    if used <= allowed { Ok(report) } else { Err(format!("{report}: more than {allowed} bytes")) }
}

/// A line of this process's status, in bytes.
fn in_memory(name: &str) -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| format!("no {name} in /proc/self/status"))
}

/// Has the kernel count the peak anew (proc(5), `clear_refs`).
fn forget_the_peak() -> Result<(), String> {
    std::fs::write("/proc/self/clear_refs", "5").map_err(|e| format!("clear_refs: {e}"))
}
