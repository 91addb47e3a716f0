//! A container: namespaces of mounts and processes of the test's own, while /dev/shm, the network and the files are everybody's.
//!
//! It belongs to the thread that made it: what is started from there is in it, and sees what is mounted there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::sched::{CloneFlags, unshare};

use crate::house::House;

/// The user `nobody`.
pub const NOBODY: u32 = 65_534;

/// The container that this thread is in. Dropping it kills every process in it; the thread never comes back.
pub struct Container {
    /// The first process, with which a namespace of processes lives and dies.
    first: Child,
}

impl Container {
    /// Moves this thread into a container of its own.
    pub fn enter() -> Container {
        unshare(CloneFlags::CLONE_NEWNS).expect("namespaces of its own take root");
        run(&["mount", "--make-rprivate", "/"]);
        unshare(CloneFlags::CLONE_NEWPID).expect("namespaces of its own take root");
        let mut first = Command::new("setpriv");
        first.args(["--pdeathsig", "KILL", "--", "sleep", "infinity"]);
        let first = first.spawn().unwrap();
        Container { first }
    }

    /// Has an empty folder at this path, which nobody outside sees.
    pub fn has_its_own(&self, folder: &Path) {
        run(&["mount", "-t", "tmpfs", "own", folder.to_str().unwrap()]);
    }

    /// Starts a process that does nothing, under this number within the container, which must be free.
    pub fn stranger(&self, number: i32) -> Stranger {
        let before = format!("echo {} > /proc/sys/kernel/ns_last_pid", number - 1);
        run(&["sh", "-c", &before]);
        let child = Command::new("sleep").arg("infinity").spawn().unwrap();
        let stranger = Stranger(child);
        let path = format!("/proc/{}/status", stranger.0.id());
        let status = fs::read_to_string(path).unwrap();
        let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
        let inner = numbers.and_then(|line| line.split_whitespace().last());
        assert_eq!(inner, Some(number.to_string().as_str()));
        stranger
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

/// A process that has nothing to do with any server.
pub struct Stranger(Child);

impl Stranger {
    /// Nobody has sent it a signal that ends it.
    pub fn is_unharmed(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl House {
    /// The same with a server that runs as this user, on a copy of the executable, and to which /proc shows the processes of its container.
    pub fn contained(self, user: u32) -> House {
        let house = self.installed();
        let script = format!(
            "#!/bin/sh\nexec unshare --mount -- sh -c 'mount -t proc proc /proc && exec setpriv --reuid={user} --regid={user} \
             --clear-groups --pdeathsig=KILL -- \"$0\" \"$@\"' {} \"$@\"\n",
            house.installation().display()
        );
        let path = house.path().join("contained");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        run(&[
            "chown",
            "-R",
            &format!("{user}:{user}"),
            house.path().to_str().unwrap(),
        ]);
        house.executable(&path)
    }
}

fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what is missing"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
