//! Options of communicators and of calls.

use std::ffi::c_char;
use std::mem::offset_of;
use std::time::Duration;

use comm::communicator::Options;

use crate::sized::{self, Versioned};
use crate::status::{Failure, Outcome};
use crate::text;
use crate::types::{self, syncline_transport_t};

/// Options of a communicator. Set `size` to sizeof(syncline_options_t), or begin with
/// SYNCLINE_OPTIONS_INIT; every other field may stay 0, which means its default. Every rank must
/// give the same, apart from `network_interface`, `ports` and `dump_dir`; rank 0's `tuning_file`
/// counts. Texts are copied.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct syncline_options_t {
    /// sizeof(syncline_options_t).
    pub size: usize,
    /// Seconds a call waits without anything moving before it fails and names who has not come,
    /// and seconds the rendezvous may take. 0: 300. INFINITY: for ever.
    pub timeout_s: f64,
    /// Most bytes of staging memory of this process for the communicator. 0: 32 MiB.
    pub staging_bytes_max: u64,
    /// Which wires to use: one of enum syncline_transport. 0: automatic.
    pub transport: syncline_transport_t,
    /// 1: results depend on the inputs by rank, op, type and number of ranks only, to the last
    /// bit. 0: no.
    pub reproducible: i32,
    /// Use this algorithm wherever it serves. NULL: the planner's choice.
    pub algorithm: *const c_char,
    /// Network interfaces for connections between hosts: a comma-separated list of names (`eth0`,
    /// or `ib*` for all that begin so), addresses and subnets (`10.1.0.0/16`); `^` before an item
    /// excludes it, before the first the whole list. NULL: the one that routes to the job's root.
    pub network_interface: *const c_char,
    /// Link constants to use instead of measuring: a TOML file as `collbench topo` prints. NULL:
    /// measure.
    pub tuning_file: *const c_char,
    /// TCP ports to listen on, such as "20000-20999"; a host needs one for each of its ranks. NULL:
    /// any that is free.
    pub ports: *const c_char,
    /// 1: encrypt everything that goes over TCP. 0: no. Shared memory stays as it is.
    pub encrypt: i32,
    /// How many of its last operations a communicator remembers, 64 bytes each. 0: 256.
    pub flight_records: u32,
    /// Folder that syncline_comm_dump's text is written to when an error ends the communicator.
    /// NULL: none is written.
    pub dump_dir: *const c_char,
    /// Seconds a host may be silent before its ranks count as lost; processes that end are noticed
    /// at once. 0: 5. INFINITY: as long as the kernel can be told to wait, 36 hours.
    pub host_timeout_s: f64,
}

// SAFETY: sizes, numbers and pointers, for which 0 is valid; 4-byte fields come in a pair.
unsafe impl Versioned for syncline_options_t {
    const NAME: &'static str = "syncline_options_t";
    const FIRST_BYTES: usize = offset_of!(Self, dump_dir) + size_of::<*const c_char>();
}

/// Options of one call. Set `size` to sizeof(syncline_call_options_t), or begin with
/// SYNCLINE_CALL_OPTIONS_INIT; every other field may stay 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct syncline_call_options_t {
    /// sizeof(syncline_call_options_t).
    pub size: usize,
    /// This rank's factor of SYNCLINE_PREMUL_SUM; other operators do not read it.
    pub premul_factor: f64,
}

// SAFETY: a size and a number.
unsafe impl Versioned for syncline_call_options_t {
    const NAME: &'static str = "syncline_call_options_t";
    const FIRST_BYTES: usize = offset_of!(Self, premul_factor) + size_of::<f64>();
}

/// # Safety
/// `at` is null, or an options struct of the size it says, with null or valid texts.
pub(crate) unsafe fn options(at: *const syncline_options_t) -> Outcome<Options> {
    // SAFETY: the function's contract.
    let given = unsafe { sized::read(at) }?;
    let defaults = Options::default();
    let staging = usize::try_from(given.staging_bytes_max).unwrap_or(usize::MAX);
    Ok(Options {
        transport: types::transport(given.transport)?,
        timeout: seconds(given.timeout_s, "timeout_s", defaults.timeout)?,
        host_timeout: seconds(given.host_timeout_s, "host_timeout_s", defaults.host_timeout)?,
        staging_bytes_max: if staging == 0 { defaults.staging_bytes_max } else { staging },
        reproducible: switch(given.reproducible, "reproducible")?,
        // SAFETY: the function's contract.
        algorithm: unsafe { text::optional(given.algorithm, "algorithm") }?,
        // SAFETY: the function's contract.
        interface: unsafe { text::optional(given.network_interface, "network_interface") }?,
        // SAFETY: the function's contract.
        tuning_file: unsafe { text::path(given.tuning_file) },
        // SAFETY: the function's contract.
        ports: match unsafe { text::optional(given.ports, "ports") }? {
            Some(ports) => ports.parse()?,
            None => defaults.ports,
        },
        encrypt: switch(given.encrypt, "encrypt")?,
        // SAFETY: the function's contract.
        dump_dir: unsafe { text::path(given.dump_dir) },
        flight_records: match given.flight_records {
            0 => defaults.flight_records,
            records => records as usize,
        },
    })
}

/// # Safety
/// `at` is null, or an options struct of the size it says.
pub(crate) unsafe fn call_options(
    at: *const syncline_call_options_t,
) -> Outcome<Option<syncline_call_options_t>> {
    // SAFETY: the function's contract.
    let given = unsafe { sized::read(at) }?;
    Ok((!at.is_null()).then_some(given))
}

fn switch(value: i32, name: &str) -> Outcome<bool> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(Failure::argument(format!("{name} is {value}; it must be 0 or 1"))),
    }
}

/// A duration; 0 is the default, infinite is for ever.
fn seconds(value: f64, name: &str, default: Duration) -> Outcome<Duration> {
    if value == 0.0 {
        return Ok(default);
    }
    if value == f64::INFINITY {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|_| value > 0.0)
        .ok_or_else(|| Failure::argument(format!("{name} is {value}; it must be seconds above 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> syncline_options_t {
        // SAFETY: null is allowed.
        let zero: syncline_options_t = unsafe { sized::read(std::ptr::null()) }.unwrap();
        syncline_options_t { size: size_of::<syncline_options_t>(), ..zero }
    }

    fn read(given: &syncline_options_t) -> Outcome<Options> {
        // SAFETY: a whole struct with null or static texts.
        unsafe { options(given) }
    }

    #[test]
    fn zero_is_the_default() {
        let (read, default) = (read(&given()).unwrap(), Options::default());
        assert_eq!(format!("{read:?}"), format!("{default:?}"));
    }

    #[test]
    fn fields_arrive() {
        let options = read(&syncline_options_t {
            timeout_s: 1.5,
            staging_bytes_max: 1 << 20,
            transport: 2,
            reproducible: 1,
            algorithm: c"ring".as_ptr(),
            network_interface: c"lo".as_ptr(),
            tuning_file: c"/tmp/links.toml".as_ptr(),
            ports: c"20000-20010".as_ptr(),
            encrypt: 1,
            flight_records: 64,
            dump_dir: c"/tmp".as_ptr(),
            host_timeout_s: 2.5,
            ..given()
        })
        .unwrap();
        assert_eq!(options.timeout, Duration::from_millis(1500));
        assert_eq!(options.staging_bytes_max, 1 << 20);
        assert_eq!(options.transport.name(), "tcp");
        assert!(options.reproducible);
        assert_eq!(options.algorithm.as_deref(), Some("ring"));
        assert_eq!(options.interface.as_deref(), Some("lo"));
        assert_eq!(options.tuning_file.as_deref(), Some("/tmp/links.toml".as_ref()));
        assert_eq!(options.ports, "20000-20010".parse().unwrap());
        assert!(options.encrypt);
        assert_eq!(options.flight_records, 64);
        assert_eq!(options.dump_dir.as_deref(), Some("/tmp".as_ref()));
        assert_eq!(options.host_timeout, Duration::from_millis(2500));
        let for_ever = syncline_options_t { timeout_s: f64::INFINITY, ..given() };
        assert_eq!(read(&for_ever).unwrap().timeout, Duration::MAX);
    }

    /// A program compiled before the field was there passes a struct without it.
    #[test]
    fn an_older_program_gets_the_default_for_what_it_does_not_know() {
        let older = syncline_options_t {
            size: syncline_options_t::FIRST_BYTES,
            timeout_s: 1.5,
            host_timeout_s: -1.0,
            ..given()
        };
        let options = read(&older).unwrap();
        assert_eq!(options.timeout, Duration::from_millis(1500));
        assert_eq!(options.host_timeout, Options::default().host_timeout);
    }

    #[test]
    fn nonsense_is_refused() {
        let text = |given: syncline_options_t| read(&given).unwrap_err().text;
        assert!(text(syncline_options_t { size: 0, ..given() }).contains("size is 0"));
        assert!(text(syncline_options_t { timeout_s: -1.0, ..given() }).contains("is -1"));
        assert!(text(syncline_options_t { timeout_s: f64::NAN, ..given() }).contains("NaN"));
        let host_timeout = syncline_options_t { host_timeout_s: -2.0, ..given() };
        assert!(text(host_timeout).contains("host_timeout_s is -2"));
        assert!(text(syncline_options_t { reproducible: 7, ..given() }).contains("0 or 1"));
        assert!(text(syncline_options_t { encrypt: -1, ..given() }).contains("encrypt is -1"));
        let backwards = c"2-1".as_ptr();
        assert!(
            text(syncline_options_t { ports: backwards, ..given() }).contains("range of ports")
        );
        assert!(text(syncline_options_t { transport: 7, ..given() }).contains("transport 7"));
        let latin1 = c"\xe9".as_ptr();
        assert!(text(syncline_options_t { algorithm: latin1, ..given() }).contains("UTF-8"));
    }
}
