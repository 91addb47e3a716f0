//! What a server uses: the processor time and the memory of a process and all that came from it, as the kernel counts them.

use std::time::Duration;

/// A process, its children, and theirs.
pub fn all(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        for task in tasks(*pid) {
            // proc(5): the children that this thread made.
            let children = std::fs::read_to_string(format!("{task}/children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
        at += 1;
    }
    found
}

fn tasks(pid: i32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let paths = tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path());
    paths.map(|path| path.display().to_string()).collect()
}

/// Processor time of the tree so far, in its present threads (`schedstat`, in nanoseconds).
pub fn cpu(pid: i32) -> Duration {
    let spent = all(pid).into_iter().flat_map(tasks).map(|task| {
        let line = std::fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
        let first = line.split_whitespace().next();
        first.and_then(|ns| ns.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(spent.sum())
}

/// Proportional memory of the tree: what several processes share counts for each in part (`Pss` of `smaps_rollup`, proc(5)).
pub fn pss(pid: i32) -> u64 {
    let kib = all(pid).into_iter().map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
    });
    kib.sum::<u64>() * 1024
}

/// Processor time of the load itself.
pub fn own_cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_s_child_counts() {
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let mut child = std::process::Command::new("sh")
            .args(["-c", &format!("sh -c '{busy}; sleep 60' & wait")])
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let waited = std::time::Instant::now();
        while cpu(pid) < Duration::from_millis(50) {
            assert!(
                waited.elapsed() < Duration::from_secs(30),
                "nothing counted"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(all(pid).len() >= 2);
        assert!(pss(pid) > 100_000);
        for process in all(pid) {
            let process = nix::unistd::Pid::from_raw(process);
            let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL);
        }
        child.wait().unwrap();
    }
}
