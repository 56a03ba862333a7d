//! How MPI's launchers enter the hosts of a lab: instead of `ssh`, a script that runs a command in a
//! host's network namespace, under a host name of its own.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::lab::Lab;

/// What the script does once it knows the namespace: the launchers hand over a line for a shell, and
/// tell hosts apart by name.
const ENTER: &str = r#"exec ip netns exec "$namespace" unshare --uts \
    sh -c 'echo "$0" > /proc/sys/kernel/hostname && exec sh -c "$1"' "$name" "$*"
"#;

/// Writes the script into `folder`.
pub(super) fn write(folder: &Path, namespaces: &[String]) -> Result<PathBuf, String> {
    let path = folder.join("agent");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&path);
    opened
        .and_then(|mut file| file.write_all(script(namespaces).as_bytes()))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

/// The hosts' addresses.
pub(super) fn addresses(namespaces: &[String]) -> Vec<String> {
    (0u32..).zip(namespaces).map(|(host, _)| Lab::address(host).to_string()).collect()
}

fn script(namespaces: &[String]) -> String {
    let mut text = "#!/bin/sh\n# Called as ssh is: options, a host, a command.\n\
        while [ \"${1#-}\" != \"$1\" ]; do shift; done\nhost=$1\nshift\ncase $host in\n"
        .to_owned();
    for (number, (address, namespace)) in addresses(namespaces).iter().zip(namespaces).enumerate() {
        let _ = writeln!(text, "{address}) namespace={namespace} name=h{number} ;;");
    }
    text.push_str("*) echo \"there is no host $host\" >&2; exit 1 ;;\nesac\n");
    text.push_str(ENTER);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_by_its_address_and_others_are_refused() {
        let folder = tempfile::tempdir().expect("temp");
        let namespaces = ["lab-h0".to_owned(), "lab-h1".to_owned()];
        let path = write(folder.path(), &namespaces).expect("written");
        // What stands in for `ip` tells how it was called.
        std::os::unix::fs::symlink("/bin/echo", folder.path().join("ip")).expect("temp");
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new(&path);
            command
                .args(arguments)
                .env("PATH", format!("{}:/bin:/usr/bin", folder.path().display()));
            command.output().expect("runs")
        };
        let second = addresses(&namespaces)[1].clone();
        let output = run(&["-x", "-q", &second, "A=1;", "daemon --id 2"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("netns exec lab-h1 unshare --uts"), "{said}");
        assert!(said.ends_with("h1 A=1; daemon --id 2\n"), "{said}");
        let output = run(&["10.0.0.1", "true"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no host 10.0.0.1"));
    }
}
