//! What clap has to say about a wrong command line, in one line.

use crate::failure::Failure;

/// Shows help or the version when those were asked for; otherwise says what is wrong.
pub(crate) fn explain(error: &clap::Error) -> Failure {
    if !error.use_stderr() {
        error.exit();
    }
    Failure::usage(one_line(&error.render().to_string()))
}

/// Everything up to the usage, joined.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> =
        lines.filter(|l| !l.is_empty() && !l.starts_with("For more information")).collect();
    let text = lines.join("; ").replace(":; ", ": ");
    format!("{}; see --help", text.strip_prefix("error: ").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn one_line_with_what_would_be_right() {
        for (line, expected) in [
            ("collbench run all_redcue", "all_reduce"),
            ("collbench run", "required"),
            ("collbench run all_reduce -b 8Q", "powers of two"),
            ("collbench run all_reduce --transport rdma", "shm"),
            ("collbench run all_reduce --ranks -1", "-1"),
            ("collbench run all_reduce --ranks two", "two"),
            ("collbench run all_reduce --in-place --out-of-place", "cannot be used with"),
            ("collbench fly", "fly"),
            ("collbench lab --rate fast -- run barrier", "1gbit"),
            ("collbench launch -n 2", "PROGRAM"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            let failure = explain(&error);
            assert_eq!(failure.status(), 2, "{line}");
            let message = failure.to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{line}: {message}");
            assert!(message.ends_with("see --help"), "{line}: {message}");
        }
    }
}
