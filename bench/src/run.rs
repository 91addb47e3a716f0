//! One measurement: a warm-up, a measured time, and the end in which all that was sent arrives.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::check::Faults;
use crate::swarm::Swarm;
use crate::tree;

/// How long is measured, after how long a warm-up.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Messages that arrived in the measured time.
    pub delivered: u64,
    pub seconds: f64,
    /// Processor time of the server's processes.
    pub server: Duration,
    /// The load's own.
    pub load: Duration,
    /// From sending to arrival, in nanoseconds.
    pub latency: Histogram<u64>,
    pub faults: Faults,
}

impl Outcome {
    /// The server's processor time for each message that arrived, in microseconds.
    pub fn us_each(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.delivered.max(1) as f64
    }

    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        writeln!(
            f,
            "delivered    {} in {:.2} s, {:.0} a second",
            self.delivered,
            self.seconds,
            self.rate()
        )?;
        let load = self.load.as_secs_f64() * 1e6 / self.delivered.max(1) as f64;
        writeln!(
            f,
            "server       {:.3} us of processor time each (the load: {load:.3})",
            self.us_each()
        )?;
        writeln!(
            f,
            "latency      p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us",
            us(0.5),
            us(0.99),
            us(0.999),
            self.latency.max() as f64 / 1000.0
        )?;
        write!(f, "faults       {}", self.faults)
    }
}

/// Counts what arrives while a measurement lasts.
pub struct Meter {
    pid: i32,
    start_ns: u64,
    end_ns: u64,
    began: Option<Began>,
    measuring: bool,
    delivered: u64,
    latency: Histogram<u64>,
    pub faults: Faults,
    result: Option<(f64, Duration, Duration)>,
}

struct Began {
    at_ns: u64,
    server: Duration,
    load: Duration,
}

impl Meter {
    pub fn new(pid: i32, swarm: &Swarm, span: Span) -> Meter {
        let start_ns = swarm.now() + span.warm_up.as_nanos() as u64;
        Meter {
            pid,
            start_ns,
            end_ns: start_ns + span.measured.as_nanos() as u64,
            began: None,
            measuring: false,
            delivered: 0,
            latency: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
                .expect("they are in order"),
            faults: Faults::default(),
            result: None,
        }
    }

    /// Once per turn; false when the measured time is over.
    pub fn goes_on(&mut self, now: u64) -> bool {
        if self.began.is_none() && now >= self.start_ns {
            self.began = Some(Began {
                at_ns: now,
                server: tree::cpu(self.pid),
                load: tree::own_cpu(),
            });
            self.measuring = true;
        }
        if self.measuring
            && now >= self.end_ns
            && let Some(began) = &self.began
        {
            self.measuring = false;
            let seconds = (now - began.at_ns) as f64 / 1e9;
            let server = tree::cpu(self.pid) - began.server;
            self.result = Some((seconds, server, tree::own_cpu() - began.load));
        }
        self.result.is_none()
    }

    #[inline]
    pub fn arrived(&mut self, now: u64, sent: u64) {
        if self.measuring {
            self.delivered += 1;
            self.latency.saturating_record(now.saturating_sub(sent));
        }
    }

    pub fn outcome(self) -> Outcome {
        let (seconds, server, load) = self.result.expect("the measured time is over");
        Outcome {
            delivered: self.delivered,
            seconds,
            server,
            load,
            latency: self.latency,
            faults: self.faults,
        }
    }
}

/// How long what was sent last may take.
pub const PATIENCE_NS: u64 = 20_000_000_000;
