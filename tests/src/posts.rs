//! The server's posts and who fills them: killing, and waiting until somebody else is at work.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use crate::processes;
use crate::server::Server;
use crate::status;
use crate::wait::eventually;

/// The processes at their posts, as `status` shows them.
fn occupants(server: &Server) -> Vec<Value> {
    let status = status::whole(server);
    let mut processes = status["processes"].as_array().cloned().unwrap_or_default();
    processes.retain(|process| process["role"] != "master");
    processes
}

/// Waits until every post is filled by a process that runs, and returns their ids.
pub fn filled(server: &Server) -> Vec<i32> {
    eventually("every post is filled", || {
        let occupants = occupants(server);
        let at_work = |process: &Value| {
            let pid = process["pid"].as_i64()? as i32;
            (process["state"] == "running" && processes::alive(pid)).then_some(pid)
        };
        let pids: Option<Vec<i32>> = occupants.iter().map(at_work).collect();
        pids.filter(|pids| !pids.is_empty())
    })
}

/// Sends a signal to one of the server's processes; it may be gone already.
pub fn signal(pid: i32, what: Signal) -> bool {
    signal::kill(Pid::from_raw(pid), what).is_ok()
}

/// Kills a process and waits until somebody else is at its post.
pub fn kill(server: &Server, pid: i32) {
    assert!(signal(pid, Signal::SIGKILL), "{pid} was not there any more");
    eventually("the killed process is gone", || {
        (!processes::alive(pid)).then_some(())
    });
    assert!(!filled(server).contains(&pid));
}

/// Kills every process of that role, one after the other.
pub fn kill_each(server: &Server, role: &str) {
    for pid in server.processes(role) {
        kill(server, pid);
    }
}

/// Has the server compare all its books; an error says what it found.
pub fn audit(server: &Server) -> Result<(), String> {
    let output = server.house().run(&["audit"]);
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "the audit ended with {} and found:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}
