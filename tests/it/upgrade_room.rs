//! An upgrade for which something is wanting, at whatever step: it takes place, or it is refused with the reason, and no connection ends.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use tests::client::BOTH;
use tests::house::executable;
use tests::installed::{executed, library, program};
use tests::wait::eventually;
use tests::{Client, processes};

use crate::upgrade::Visited;

/// The numbers of the descriptors that a process has open.
fn open_numbers(pid: i32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn limit_descriptors(pid: i32, limit: &str) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}"));
    let output = command.arg(format!("--nofile={limit}")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Leaves a process so many descriptors more than it has now.
fn leave_to_spare(pid: i32, spare: usize) {
    let open = open_numbers(pid);
    // The limit is one past the highest number that may be given out.
    let last = (0..).filter(|n| !open.contains(n)).nth(spare).unwrap();
    limit_descriptors(pid, &format!("{last}:"));
}

#[test]
fn whatever_number_of_descriptors_is_to_spare() {
    let mut visited = Visited::begin();
    let pid = visited.server.pid();
    let mut upgraded = Vec::new();
    for spare in 0..=20 {
        visited.install(&executable());
        let new = visited.server.house().installed_file();
        eventually("nobody is on the control socket", || {
            let before = processes::descriptors(pid);
            std::thread::sleep(std::time::Duration::from_millis(20));
            (processes::descriptors(pid) == before).then_some(())
        });
        leave_to_spare(pid, spare);
        let output = visited.upgrade();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            processes::alive(pid),
            "{spare} to spare: the server ended: {said}"
        );
        limit_descriptors(pid, "4096:");
        if output.status.success() {
            assert_eq!(executed(pid), new, "{spare} to spare");
            upgraded.push(spare);
        } else if spare > 0 {
            // With none the server cannot even hear that it is asked.
            assert_ne!(executed(pid), new, "{spare} to spare");
            assert!(
                said.contains("descriptors") || said.contains("Too many open files"),
                "{spare} to spare: {said}"
            );
        }
        visited.is_as_before();
    }
    println!("upgraded with {upgraded:?} to spare");
    assert_eq!(upgraded.last(), Some(&20));
    visited.works();
}

/// Lets one call fail of those by which a program gets something from the system before it waits for anything, and says that it did. Only in
/// the program that was started with `FAULT` in its environment.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static int left;
static char told[4096];

__attribute__((constructor)) static void begin(void) {
    const char *number = getenv("FAULT"), *file = getenv("FAULT_TOLD");
    if (number && file) {
        left = atoi(number);
        for (int i = 0; i < 4095 && file[i]; i++) told[i] = file[i];
    }
    unsetenv("FAULT");
    unsetenv("FAULT_TOLD");
    unsetenv("LD_PRELOAD");
}

static int fails(const char *name) {
    if (left == 0 || --left > 0) return 0;
    int fd = syscall(SYS_open, told, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    int n = 0;
    while (name[n]) n++;
    if (write(fd, name, n) != n) _exit(99);
    close(fd);
    errno = EMFILE;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        return fails(path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
int epoll_create1(int flags) { return fails("epoll_create1") ? -1 : REAL(epoll_create1)(flags); }
int epoll_ctl(int a, int b, int c, struct epoll_event *d) { return fails("epoll_ctl") ? -1 : REAL(epoll_ctl)(a, b, c, d); }
/* From here on it is at work. */
int epoll_wait(int a, struct epoll_event *b, int c, int d) { left = 0; return REAL(epoll_wait)(a, b, c, d); }
int signalfd(int a, const sigset_t *b, int c) { return fails("signalfd") ? -1 : REAL(signalfd)(a, b, c); }
int eventfd(unsigned a, int b) { return fails("eventfd") ? -1 : ((int (*)(unsigned, int))dlsym(RTLD_NEXT, "eventfd"))(a, b); }
int getsockname(int a, struct sockaddr *b, socklen_t *c) { return fails("getsockname") ? -1 : REAL(getsockname)(a, b, c); }
int flock(int a, int b) { return fails("flock") ? -1 : ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(a, b); }
void *mmap(void *a, size_t b, int c, int flags, int e, off_t f) {
    if ((flags & MAP_SHARED) && fails("mmap")) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, a, b, c, flags, e, f);
}
"#;

#[test]
fn whatever_is_refused_to_the_new_one_once() {
    let mut visited = Visited::begin();
    let pid = visited.server.pid();
    let folder = visited.server.house().path().to_owned();
    let preloaded = library(&folder, LIBRARY);
    let told = folder.join("told");
    let mut refused = Vec::new();
    let mut done = Vec::new();
    for number in 1.. {
        assert!(number < 500, "it never gets through");
        // On trial nothing is wanting.
        let body = format!(
            r#"if (argc > 1 && strcmp(argv[1], "--takeover-trial")) {{
                setenv("FAULT", "{number}", 1);
                setenv("FAULT_TOLD", {told:?}, 1);
                setenv("LD_PRELOAD", {preloaded:?}, 1);
            }}
            execv({:?}, argv);
            return 1;"#,
            executable()
        );
        visited.install(&program(&folder, &body));
        let before = executed(pid);
        let output = visited.upgrade();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let failed = fs::read_to_string(&told).ok();
        let _ = fs::remove_file(&told);
        assert!(
            processes::alive(pid),
            "the server ended without {failed:?} (call {number}): {said}"
        );
        visited.is_as_before();
        match (output.status.success(), failed) {
            (true, None) => break,
            (true, Some(what)) => done.push(what),
            (false, what) => {
                assert_eq!(executed(pid), before);
                assert!(said.contains("master of before goes on"), "{said}");
                refused.push(what.unwrap_or(said));
            }
        }
    }
    println!("refused without {refused:?}; upgraded without {done:?}");
    for step in ["signalfd", "epoll_create1", "mmap", "getsockname", "flock"] {
        assert!(
            refused.iter().any(|what| what == step),
            "{step} in {refused:?}"
        );
    }
    let registered = refused.iter().filter(|what| *what == "epoll_ctl").count();
    // Signals, two listeners, the control socket, its client, a timer and two workers.
    assert!(registered >= 8, "{refused:?}");
    let mut late = Client::login(&visited.server, BOTH[0], "late");
    late.expect_nothing();
    drop(late);
    visited.works();
}
