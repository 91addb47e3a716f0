//! A real RabbitMQ. It takes seconds to start, so the tests of one process share one where they do not hurt it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use super::Process;
use crate::folder::Folder;
use crate::settings::free_port;
use crate::wait::eventually;

/// One broker.
pub struct RabbitMq {
    port: u16,
    node: String,
    folder: Folder,
    ports: [u16; 2],
    process: Mutex<Option<Process>>,
}

impl RabbitMq {
    /// The one that tests share; each has a namespace of its own.
    pub fn shared() -> Arc<RabbitMq> {
        static SHARED: Mutex<Weak<RabbitMq>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(there) = shared.upgrade() {
            return there;
        }
        let new = Arc::new(RabbitMq::start());
        *shared = Arc::downgrade(&new);
        new
    }

    /// Starts one.
    pub fn start() -> RabbitMq {
        let port = free_port();
        let folder = Folder::new("rabbitmq");
        let cookie = folder.path().join(".erlang.cookie");
        std::fs::write(&cookie, "steadfast").unwrap();
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::write(folder.path().join("plugins"), "[].\n").unwrap();
        std::fs::write(
            folder.path().join("rabbitmq.conf"),
            format!("listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\n"),
        )
        .unwrap();
        let broker = RabbitMq {
            port,
            node: format!("steadfast{port}@localhost"),
            folder,
            ports: [free_port(), free_port()],
            process: Mutex::new(None),
        };
        broker.start_again();
        broker
    }

    /// Ends it and starts it again.
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Kills it.
    pub fn stop(&self) {
        *self.process.lock().unwrap() = None;
        eventually("RabbitMQ's port is free", || {
            std::net::TcpListener::bind(("127.0.0.1", self.port)).ok()
        });
    }

    /// Starts it again.
    pub fn start_again(&self) {
        let folder = self.folder.path();
        let [distribution, epmd] = self.ports.map(|port| port.to_string());
        // The server itself and not the script beside it, which would drop to a user of the system.
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        command
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_DIST_PORT", distribution)
            .env("ERL_EPMD_PORT", epmd)
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -setcookie steadfast",
            );
        let mut process = Process::start("rabbitmq-server", folder, &mut command);
        process.listens(self.port);
        *self.process.lock().unwrap() = Some(process);
    }

    /// As for `cluster.rabbitmq`.
    pub fn address(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/", self.port)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if let Ok(mut process) = self.process.lock() {
            *process = None;
        }
        // The Erlang port mapper stays behind its last node, and does not end while it believes that one to live.
        for _ in 0..20 {
            let said = Command::new("epmd")
                .args(["-port", &self.ports[1].to_string(), "-kill"])
                .output();
            let ended = said.is_ok_and(|said| {
                let text = String::from_utf8_lossy(&said.stdout).into_owned();
                text.contains("Killed") || text.contains("Cannot connect")
            });
            if ended {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
