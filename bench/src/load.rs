//! What a message costs the server: the processor time of all its processes for the same work, of one executable or of two in turn.
//!
//! Only the server's time counts (utime and stime of /proc/PID/stat), so that the client's speed is no part of the result.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tests::{House, Server, Settings, Transport, processes};
use tokio::task::JoinSet;

use crate::light::Light;

/// One kind of work.
struct Load {
    name: &'static str,
    /// `None`: every second connection on each.
    transport: Option<Transport>,
    /// Those in each circle who pass one letter, or one bundle of them, around.
    circle: usize,
    circles: usize,
    /// Letters that are sent at once.
    bundle: usize,
    /// Whether all others of the circle get each letter, or only the next one.
    to_all: bool,
    /// How often each bundle is passed on.
    rounds: usize,
}

const LOADS: [Load; 5] = [
    Load {
        name: "private, TCP",
        transport: Some(Transport::Tcp),
        circle: 2,
        circles: 64,
        bundle: 1,
        to_all: false,
        rounds: 4_000,
    },
    Load {
        name: "private, WebSocket",
        transport: Some(Transport::WebSocket),
        circle: 2,
        circles: 64,
        bundle: 1,
        to_all: false,
        rounds: 4_000,
    },
    Load {
        name: "private, TCP, 32 at once",
        transport: Some(Transport::Tcp),
        circle: 2,
        circles: 64,
        bundle: 32,
        to_all: false,
        rounds: 600,
    },
    Load {
        name: "private, WebSocket, 32 at once",
        transport: Some(Transport::WebSocket),
        circle: 2,
        circles: 64,
        bundle: 32,
        to_all: false,
        rounds: 600,
    },
    Load {
        name: "groups of 100, both",
        transport: None,
        circle: 100,
        circles: 4,
        bundle: 1,
        to_all: true,
        rounds: 1_500,
    },
];

impl Load {
    fn transport(&self, number: usize) -> Transport {
        let mixed = if number.is_multiple_of(2) {
            Transport::WebSocket
        } else {
            Transport::Tcp
        };
        self.transport.unwrap_or(mixed)
    }

    fn delivered(&self) -> u64 {
        let each = if self.to_all { self.circle - 1 } else { 1 };
        (self.circles * self.rounds * self.bundle * each) as u64
    }

    /// Lets a server do it, and returns what one delivered message took, in ns.
    fn cost(&self, executable: &Path) -> f64 {
        let settings = Settings::new()
            .with("server.workers", 2)
            .with("table.sessions", 2_000)
            .with("table.memberships", 2_000)
            .with("table.arena_mib", 64)
            .with("limits.heartbeat_timeout_ms", 3_600_000)
            .with("limits.outbox_bytes", 8 << 20);
        let server = House::new(settings).executable(executable).start();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut circles: Vec<Vec<Light>> = (0..self.circles)
                .map(|circle| self.circle(&server, circle))
                .collect();
            // The first time around fills caches and pools.
            circles = self.run(circles, self.rounds / 10 + 2).await;
            let before = spent(&server);
            let circles = self.run(circles, self.rounds).await;
            let spent = spent(&server) - before;
            drop(circles);
            spent.as_nanos() as f64 / self.delivered() as f64
        })
    }

    fn circle(&self, server: &Server, circle: usize) -> Vec<Light> {
        let group = self.to_all.then(|| format!("g{circle}"));
        (0..self.circle)
            .map(|number| {
                let name = format!("u{circle}-{number}");
                Light::login(server, self.transport(number), &name, group.as_deref())
            })
            .collect()
    }

    /// Each circle passes its bundle on so often: whoever is next sends when the one before has arrived.
    async fn run(&self, circles: Vec<Vec<Light>>, rounds: usize) -> Vec<Vec<Light>> {
        let mut under_way = JoinSet::new();
        for (circle, members) in circles.into_iter().enumerate() {
            for (number, mut light) in members.into_iter().enumerate() {
                let next = (number + 1) % self.circle;
                let (kind, to) = if self.to_all {
                    ("sendgroup", format!("g{circle}"))
                } else {
                    ("sendto", format!("u{circle}-{next}"))
                };
                let content = "x".repeat(100);
                let letter = json!({"type": kind, "to": to, "content": content, "quiet": true});
                let letters = light.prepared(&letter).repeat(self.bundle);
                let (members, bundle, to_all) = (self.circle, self.bundle, self.to_all);
                under_way.spawn(async move {
                    let mut heard = 0;
                    for round in 0..rounds {
                        let sender = round % members;
                        if sender == number {
                            light.send(&letters).await;
                        } else if to_all || (sender + 1) % members == number {
                            while heard < bundle {
                                light.hear(|_| heard += 1).await;
                            }
                            heard -= bundle;
                        }
                    }
                    assert_eq!(heard, 0, "more came than was sent");
                    (circle, number, light)
                });
            }
        }
        let mut all = under_way.join_all().await;
        all.sort_by_key(|(circle, number, _)| (*circle, *number));
        let mut circles: Vec<Vec<Light>> = (0..self.circles).map(|_| Vec::new()).collect();
        for (circle, _, light) in all {
            circles[circle].push(light);
        }
        circles
    }
}

/// The processor time of the master and all its children.
fn spent(server: &Server) -> Duration {
    let all = processes::children(server.pid())
        .into_iter()
        .chain([server.pid()]);
    all.map(processes::cpu_time).sum()
}

/// Measures each executable `rounds` times, in turn, at the loads in whose names `part` occurs, and prints a table.
pub fn measure(executables: &[&str], rounds: usize, part: &str) {
    print!("| ns of the server's processor time per message delivered |");
    executables
        .iter()
        .for_each(|executable| print!(" {executable} |"));
    println!(
        "{}",
        if executables.len() == 2 {
            " second / first |"
        } else {
            ""
        }
    );
    println!("| --- |{}", " ---: |".repeat(executables.len() * 2 - 1));
    for load in LOADS.iter().filter(|load| load.name.contains(part)) {
        let mut costs = vec![Vec::new(); executables.len()];
        for round in 0..rounds {
            for turn in 0..executables.len() {
                // Whoever was second is first the next time.
                let which = (turn + round) % executables.len();
                costs[which].push(load.cost(Path::new(executables[which])));
            }
        }
        let medians: Vec<f64> = costs.iter_mut().map(|costs| median(costs)).collect();
        print!("| {} |", load.name);
        for (costs, median) in costs.iter().zip(&medians) {
            let (least, most) = (costs[0], costs[costs.len() - 1]);
            print!(" {median:.0} ({least:.0} to {most:.0}) |");
        }
        match medians[..] {
            [first, second] => println!(" {:.3} |", second / first),
            _ => println!(),
        }
    }
}

/// Sorts, and returns the middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
