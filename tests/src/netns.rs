//! Hosts of a test: network namespaces on one bridge. Needs root.

use std::path::Path;
use std::process::Command;

/// Namespaces that this process made; removed on drop.
#[derive(Debug)]
pub struct Hosts {
    switch: String,
    hosts: Vec<String>,
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

impl Hosts {
    /// Makes `count` hosts, all connected with each other.
    ///
    /// # Errors
    /// Why that cannot be done here, in words.
    pub fn build(count: usize) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it takes root to make network namespaces".to_owned());
        }
        let prefix = format!("slf{}", std::process::id());
        let hosts = (0..count).map(|host| format!("{prefix}h{host}")).collect();
        let lab = Self { switch: format!("{prefix}s"), hosts };
        let switch = lab.switch.as_str();
        ip(&["netns", "add", switch])?;
        ip(&["-n", switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", switch, "link", "set", "br0", "up"])?;
        for (host, name) in lab.hosts.iter().enumerate() {
            let port = format!("port{host}");
            // From the block that RFC 2544 sets aside for benchmarks.
            let address = format!("198.18.0.{}/24", host + 1);
            ip(&["netns", "add", name])?;
            ip(&[
                "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns",
                switch,
            ])?;
            ip(&["-n", name, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
            ip(&["-n", switch, "link", "set", &port, "master", "br0", "up"])?;
        }
        Ok(lab)
    }

    /// A command that runs `program` on a host.
    pub fn command(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hosts[host]]).arg(program);
        command
    }

    /// Cuts a host off, without a word to anybody.
    ///
    /// # Errors
    /// What the tool says.
    pub fn cut_off(&self, host: usize) -> Result<(), String> {
        // Not `down`, which the host itself would notice.
        ip(&["-n", &self.switch, "link", "set", &format!("port{host}"), "nomaster"])
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            // What was not made cannot be removed; that is fine.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}
