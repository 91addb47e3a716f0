//! What the machine keeps from a server and from its test: how long the server's processes stood in the kernel's queue for a processor, and
//! how late this process's own clock tasks are.
//!
//! Both stand still while nobody wants a processor, so they excuse nobody who sleeps.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::processes;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(10);

/// Looks that are kept: more than any wait lasts.
const KEPT: usize = 12_000;

/// How often a clock task looks at the clock; what it is late beyond the second number counts.
const BEAT: Duration = Duration::from_millis(5);
const USUAL: Duration = Duration::from_millis(2);

/// One look: when, and both sums up to then, in microseconds.
type Look = (Instant, u64, u64);

/// The sums over time.
pub struct Delays {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    looks: Mutex<VecDeque<Look>>,
    late_us: AtomicU64,
    /// Somebody runs the clock task; else the looking thread is the clock.
    has_clock: AtomicBool,
    over: AtomicBool,
    /// What every answer is, in a test of who uses them.
    fixed: Option<(Duration, Duration)>,
}

impl Delays {
    /// Of this server, whose master has that process id.
    pub fn of(master: i32) -> Delays {
        let shared = Arc::new(Shared::default());
        let watching = shared.clone();
        let thread = std::thread::spawn(move || watch(master, &watching));
        Delays {
            shared,
            thread: Some(thread),
        }
    }

    /// A machine that keeps nothing from anybody.
    pub fn none() -> Delays {
        Delays::fixed(Duration::ZERO, Duration::ZERO)
    }

    /// For tests of who uses them.
    pub fn fixed(queued: Duration, late: Duration) -> Delays {
        let shared = Shared {
            fixed: Some((queued, late)),
            ..Shared::default()
        };
        Delays {
            shared: Arc::new(shared),
            thread: None,
        }
    }

    /// To be run beside the tasks of the clients, on their runtime: it finds out how late they get their turn.
    pub fn clock_task(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        shared.has_clock.store(true, SeqCst);
        async move {
            while !shared.over.load(SeqCst) {
                let before = Instant::now();
                tokio::time::sleep(BEAT).await;
                shared.late(before, BEAT);
            }
        }
    }

    /// How long, from one instant to the other, the server's processes queued for a processor, all together; and how late a clock task was.
    pub fn between(&self, from: Instant, to: Instant) -> (Duration, Duration) {
        if let Some(fixed) = self.shared.fixed {
            return fixed;
        }
        let looks = self.shared.looks.lock().unwrap();
        let after = looks.partition_point(|look| look.0 <= from);
        let (Some(first), Some(last)) = (looks.get(after.saturating_sub(1)), looks.back()) else {
            return (Duration::ZERO, Duration::ZERO);
        };
        // The look behind the end may not have been had yet.
        let end = looks.partition_point(|look| look.0 < to);
        let last = looks.get(end).unwrap_or(last);
        let micros = |from: u64, to: u64| Duration::from_micros(to.saturating_sub(from));
        (micros(first.1, last.1), micros(first.2, last.2))
    }
}

impl Drop for Delays {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(master: i32, shared: &Shared) {
    let mut before = HashMap::new();
    let mut queued_us = 0;
    while !shared.over.load(SeqCst) {
        let mut now = HashMap::new();
        for pid in processes::direct_children(master)
            .into_iter()
            .chain([master])
        {
            let total = processes::queued(pid).as_micros() as u64;
            let last = before.get(&pid).copied().unwrap_or(0);
            queued_us += total.saturating_sub(last);
            now.insert(pid, total);
        }
        before = now;
        let look = (Instant::now(), queued_us, shared.late_us.load(SeqCst));
        let mut looks = shared.looks.lock().unwrap();
        if looks.len() == KEPT {
            looks.pop_front();
        }
        looks.push_back(look);
        drop(looks);
        let before = Instant::now();
        std::thread::sleep(EVERY);
        if !shared.has_clock.load(SeqCst) {
            shared.late(before, EVERY);
        }
    }
}

impl Shared {
    /// Somebody slept since then, and meant to for so long.
    fn late(&self, since: Instant, meant: Duration) {
        let late = since.elapsed().saturating_sub(meant + USUAL);
        self.late_us.fetch_add(late.as_micros() as u64, SeqCst);
    }
}
