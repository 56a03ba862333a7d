//! `collbench topo`: what this machine is made of, and the numbers the planner starts from.

use syncline_topology::{Constants, Host, Measured};

use crate::failure::{Failure, Outcome};
use crate::report::say;

/// Prints the machine as comments and the planner's constants as TOML: together a file that
/// `--tuning` reads.
pub(crate) fn topo() -> Outcome {
    let constants = Constants::default().with_measured(Measured::now());
    say(document(&Host::discover().to_string(), &constants)?.trim_end())
}

fn document(host: &str, constants: &Constants) -> Outcome<String> {
    let host: String = host.lines().map(|line| format!("# {line}\n")).collect();
    let constants = toml::to_string(constants)
        .map_err(|e| Failure::run(format!("cannot write the constants as TOML: {e}")))?;
    Ok(format!(
        "{host}\n# The planner's constants, in seconds and bytes per second; copy_bytes_per_s and\n\
         # reduce_bytes_per_s were measured just now. To change them: collbench topo > FILE, edit,\n\
         # and give --tuning FILE; lines left out keep their defaults.\n{constants}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_back() {
        let constants = Constants { switch_s: 5e-6, ..Constants::default() };
        let text = document("host a\n  cache", &constants).expect("plain");
        assert!(text.starts_with("# host a\n#   cache\n"), "{text}");
        let directory = tempfile::tempdir().expect("temp");
        let path = directory.path().join("tuning.toml");
        std::fs::write(&path, text).expect("temp");
        assert_eq!(Constants::default().read(&path).expect("valid"), constants);
    }
}
