//! One rank of a multi-process test: `worker SCENARIO [--transport shm|tcp|auto]`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the test's report")]

use std::process::ExitCode;
use std::time::Duration;

use syncline::communicator::{Communicator, Options, Rendezvous, TransportChoice};
use syncline_tests::{faults, launch, limits, scenarios};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().expect("a scenario");
    let transport = match arguments.next().as_deref() {
        Some("shm") => TransportChoice::Shm,
        Some("tcp") => TransportChoice::Tcp,
        _ => TransportChoice::Auto,
    };
    let number = |name: &str| -> u32 {
        std::env::var(name).expect(name).parse().expect("a number in the environment")
    };
    let file = std::env::var_os(launch::FILE).map(std::path::PathBuf::from);
    if scenario == "fault" {
        let part = arguments.next().expect("a part");
        let timeout_ms = arguments.next().and_then(|ms| ms.parse().ok()).unwrap_or(5000);
        let place = (number(launch::RANK), number(launch::WORLD));
        let timeout = Duration::from_millis(timeout_ms);
        let file = file.expect("a rendezvous file");
        return match faults::play(&part, place, &file, transport, timeout) {
            Ok(()) => {
                faults::say("clean", "");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                eprintln!("{part}: {reason}");
                ExitCode::FAILURE
            }
        };
    }
    if scenario == "limit" {
        let part = arguments.next().expect("a part");
        let place = (number(launch::RANK), number(launch::WORLD));
        let file = file.expect("a rendezvous file");
        return match limits::play(&part, place, &file, transport) {
            Ok(told) => {
                println!("{told}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                eprintln!("{part}: {reason}");
                ExitCode::FAILURE
            }
        };
    }
    let reproducible = scenario == "reproducible";
    let timeout = Duration::from_secs(60);
    let options = Options { transport, timeout, reproducible, ..Options::default() };
    // Without a file it was started by somebody else's launcher.
    let joined = match file {
        Some(file) => {
            let at = Rendezvous::File(file);
            Communicator::init(&at, number(launch::RANK), number(launch::WORLD), options)
        }
        None => Communicator::init_from_environment(options),
    };
    let comm = match joined {
        Ok(comm) => comm,
        Err(error) => {
            eprintln!("init: {error}");
            return ExitCode::FAILURE;
        }
    };
    match scenarios::run(&scenario, &comm) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{scenario}: {reason}");
            ExitCode::FAILURE
        }
    }
}
