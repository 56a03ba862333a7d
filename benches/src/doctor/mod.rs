//! `collbench doctor`: reads the flight dumps of a job's ranks together, and says in words who
//! waits for whom and where it started.

mod diagnose;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod graph;
mod read;
mod show;
mod table;
#[cfg(test)]
mod tests;

use crate::cli::DoctorArgs;
use crate::failure::{Failure, Outcome};
use crate::report::say;

/// Diagnoses the dumps; the failure says how many problems there are.
pub(crate) fn doctor(args: &DoctorArgs) -> Outcome {
    let groups = read::read(&args.dumps)?;
    let diagnoses: Vec<_> = groups.iter().map(diagnose::diagnose).collect();
    if args.json {
        let text = serde_json::to_string_pretty(&diagnoses);
        say(&text.map_err(|error| Failure::run(format!("cannot write JSON: {error}")))?)?;
    }
    let mut rows = 0;
    for (group, diagnosis) in groups.iter().zip(&diagnoses) {
        if !args.json {
            say(&show::words(group, diagnosis))?;
        }
        if let Some(operation) = args.operation {
            let table = table::table(group, operation);
            rows += usize::from(table.is_some());
            if let Some(table) = table.filter(|_| !args.json) {
                say(&table)?;
            }
        }
    }
    if let Some(operation) = args.operation.filter(|_| rows == 0) {
        return Err(Failure::usage(format!(
            "--operation {operation}: no dump remembers it; they keep the last operations only"
        )));
    }
    match diagnoses.iter().map(|diagnosis| diagnosis.problems.len()).sum::<usize>() {
        0 => Ok(()),
        1 => Err(Failure::run("1 problem found")),
        many => Err(Failure::run(format!("{many} problems found"))),
    }
}
