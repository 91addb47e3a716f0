//! The forwarder's real executable.

use std::process::Command;

use super::{Process, Redis};
use crate::folder::Folder;
use crate::settings::free_port;

/// One forwarder.
pub struct Forwarder {
    port: u16,
    #[allow(dead_code, reason = "it is there as long as the process")]
    folder: Folder,
    process: Option<Process>,
}

impl Forwarder {
    /// Starts one for the hosts of a namespace.
    pub fn start(redis: &Redis, namespace: &str, secret: &str, lease_ms: u64) -> Forwarder {
        let folder = Folder::new("forwarder");
        let port = free_port();
        let executable = crate::house::executable().with_file_name("forwarder");
        let mut command = Command::new(executable);
        command
            .args(["--listen", &format!("tcp://127.0.0.1:{port}")])
            .args(["--redis", &redis.address(), "--namespace", namespace])
            .args(["--lease-ms", &lease_ms.to_string()])
            .env("STEADFAST_CLUSTER_SECRET", secret);
        let mut process = Process::start("forwarder", folder.path(), &mut command);
        process.listens(port);
        Forwarder {
            port,
            folder,
            process: Some(process),
        }
    }

    /// As for `cluster.forwarder`.
    pub fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }
}
