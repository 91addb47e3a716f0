//! What the system says about processes: who are a server's children, what they hold, whether they live.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The living children of `pid`.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(candidate) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // Fields after the command's closing bracket: state, parent.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let mut fields = rest.split_whitespace();
        let state = fields.next();
        if fields.next() == Some(&pid.to_string()) && state != Some("Z") {
            found.push(candidate);
        }
    }
    found
}

/// The arguments a process was started with, the program's name first; empty when it is gone.
pub fn arguments(pid: i32) -> Vec<String> {
    let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return Vec::new();
    };
    bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// Whether the process exists and runs (a zombie does not).
pub fn alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    !matches!(stat.rsplit_once(')'), Some((_, rest)) if rest.trim_start().starts_with(['Z', 'X']))
}

/// Whether the process waits for something at this moment, and has nothing that it could do if only there were a processor for it.
pub fn sleeps(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(stat.rsplit_once(')'), Some((_, rest)) if rest.trim_start().starts_with('S'))
}

/// The processor time that a living process has used so far.
pub fn cpu_time(pid: i32) -> Duration {
    // proc(5): utime and stime are the fields 14 and 15, in ticks; the second field may contain anything.
    const TICKS_A_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND)
}

/// The children of `pid` as its kernel record has them: cheaper than [`children`], zombies among them.
pub fn direct_children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// How long the main thread of a process has stood in the kernel's queue for a processor so far.
pub fn queued(pid: i32) -> Duration {
    // Documentation/scheduler/sched-stats.rst: time on a processor, time in the queue, in nanoseconds; number of slices.
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let queued = text.split_whitespace().nth(1);
    Duration::from_nanos(queued.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Which of these processes holds the server's end of the TCP connection that is `near` and `far` to its client. The master, which holds all,
/// must not be among them.
pub fn holder(pids: &[i32], near: SocketAddr, far: SocketAddr) -> Option<i32> {
    // Fields of a line: number, local and remote address as HEX:PORT, state, ..., the inode is the tenth.
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.rsplit(':').next()?, 16).ok();
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ends = (port(fields.get(1)?)?, port(fields.get(2)?)?);
        (ends == (far.port(), near.port())).then(|| fields.get(9).map(|inode| inode.to_string()))?
    })?;
    let name = PathBuf::from(format!("socket:[{inode}]"));
    let mut pids = pids.iter().copied();
    pids.find(|pid| links(*pid).any(|link| link == name))
}

/// What a process was told about its slot; nothing of one that has ended.
pub fn slot(pid: i32) -> String {
    let arguments = arguments(pid).into_iter();
    let mut after = arguments.skip_while(|argument| argument != "--slot");
    after.nth(1).unwrap_or_default()
}

/// Whether a process has an epoll instance, which a worker makes last before it is ready.
pub fn has_epoll(pid: i32) -> bool {
    links(pid).any(|link| link.to_string_lossy().contains("[eventpoll]"))
}

fn links(pid: i32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok())
}

/// How many descriptors the process holds.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count())
}

/// How soon the kernel would end the process for want of memory: what it has been told to add, and what comes of it with the memory the
/// process has.
pub fn oom_score(pid: i32) -> (i32, i32) {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        text.trim().parse().unwrap()
    };
    (number("oom_score_adj"), number("oom_score"))
}

/// Lets a process have descriptors below this number only; those above that it has it keeps. What the limit was.
pub fn limit_descriptors(pid: i32, limit: u64) -> u64 {
    let of = format!("--pid={pid}");
    let run = |what: &[&str]| {
        let output = Command::new("prlimit").arg(&of).args(what).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = run(&["--nofile", "--raw", "--noheadings", "--output=SOFT"]);
    // Only the soft one: anybody may raise it again.
    run(&[&format!("--nofile={limit}:")]);
    before.trim().parse().unwrap()
}

/// The number that the next descriptor of the process gets.
pub fn next_descriptor(pid: i32) -> u64 {
    let is_free = |number: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_err();
    (0..).find(is_free).unwrap()
}

/// The shared-memory files that the process has mapped.
pub fn segments(pid: i32) -> Vec<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut paths: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| {
            line.find("/dev/shm/")
                .map(|at| line[at..].trim_end_matches(" (deleted)").into())
        })
        .collect();
    // What `wall_clock` has in every process is not the server's.
    paths.retain(|path| !path.display().to_string().contains("faketime"));
    paths.sort();
    paths.dedup();
    paths
}
