//! How long clients wait while processes are replaced: the time of each message from its sender to its recipient, on connections that all
//! talk a little all the while.
//!
//! Every connection writes to its partner again and again, some 5,000 messages a second together, on either transport and across workers. What
//! counts are the messages that were sent in the second after something happened, or were under way when it did. The quiet row says what
//! this client and this machine take by themselves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Server, Settings, Transport, posts};
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use crate::light::Light;

/// Messages a second, of all connections together.
const MESSAGES_A_SECOND: usize = 5_000;
/// How often each thing happens.
const TIMES: usize = 10;
/// What is sent so long after the event counts.
const AFTER: Duration = Duration::from_secs(1);
/// Between two events: longer than a process must live to be replaced at once.
const BETWEEN: Duration = Duration::from_millis(2_500);
/// Nobody is to wait longer.
const LONG: Duration = Duration::from_millis(100);

/// One message that arrived.
#[derive(Clone, Copy)]
struct Sample {
    sent: Duration,
    heard: Duration,
}

/// Something happened.
struct Event {
    what: &'static str,
    begin: Duration,
    end: Duration,
}

/// Measures with so many connections and prints the table's rows.
pub fn measure(sessions: usize) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let settings = Settings::new()
        .with("server.workers", 2)
        .with("table.sessions", sessions + sessions / 10)
        .with("table.arena_mib", 64)
        .with("limits.heartbeat_timeout_ms", 3_600_000);
    let server = Server::start(settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let start = Instant::now();
    let samples = Arc::new(Mutex::new(Vec::new()));
    talk(&runtime, &server, sessions, start, &samples);
    let events = std::thread::scope(|scope| {
        let events = scope.spawn(|| disturb(&server, start));
        runtime.block_on(async {
            while !events.is_finished() {
                sleep(BETWEEN / 10).await;
            }
        });
        events.join().unwrap()
    });
    report(sessions, &samples.lock().unwrap(), &events);
    drop(runtime);
}

/// Has everybody log in and begin to talk.
fn talk(
    runtime: &Runtime,
    server: &Server,
    sessions: usize,
    start: Instant,
    samples: &Arc<Mutex<Vec<Sample>>>,
) {
    let _within = runtime.enter();
    let pause = Duration::from_secs_f64(sessions as f64 / MESSAGES_A_SECOND as f64);
    let lights: Vec<Light> = (0..sessions)
        .map(|number| {
            // Each pair is one of the four combinations.
            let transport = match (number / 2 + number % 2 * (number / 4 % 2)) % 2 {
                0 => Transport::WebSocket,
                _ => Transport::Tcp,
            };
            Light::login(server, transport, &format!("u{number}"), None)
        })
        .collect();
    for (number, mut light) in lights.into_iter().enumerate() {
        let samples = samples.clone();
        let first = Instant::now() + pause.mul_f64(number as f64 / sessions as f64);
        let mut turns = interval_at(first.into(), pause);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let partner = format!("u{}", number ^ 1);
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = turns.tick() => {
                        let now = start.elapsed().as_micros() as u64;
                        let letter = json!({"type": "sendto", "to": partner, "content": now, "quiet": true});
                        let letter = light.prepared(&letter);
                        light.send(&letter).await;
                    }
                    () = light.hear(|message| {
                        let sent = Duration::from_micros(content(message));
                        samples.lock().unwrap().push(Sample { sent, heard: start.elapsed() });
                    }) => {}
                }
            }
        });
    }
}

/// The number that a message carries.
fn content(message: &[u8]) -> u64 {
    const KEY: &[u8] = b"\"content\":";
    let key = message.windows(KEY.len()).position(|part| part == KEY);
    let digits = &message[key.expect("a message has content") + KEY.len()..];
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// Does to the server what the rows are about, one after the other, in turn.
fn disturb(server: &Server, start: Instant) -> Vec<Event> {
    let mut events = Vec::new();
    for time in 0..TIMES {
        for what in [
            "quiet",
            "a worker is killed",
            "the timer is killed",
            "reload",
            "upgrade",
        ] {
            std::thread::sleep(BETWEEN);
            let roles = match what {
                "a worker is killed" => server.workers(),
                "the timer is killed" => server.processes("timer"),
                _ => Vec::new(),
            };
            let begin = start.elapsed();
            if roles.is_empty() {
                if what != "quiet" {
                    let output = server.house().run(&[what]);
                    assert!(output.status.success(), "{output:?}");
                }
            } else {
                assert!(posts::signal(roles[time % roles.len()], Signal::SIGKILL));
            }
            let end = start.elapsed().max(begin + AFTER);
            events.push(Event { what, begin, end });
            std::thread::sleep(AFTER);
            posts::filled(server);
        }
    }
    events
}

fn report(sessions: usize, samples: &[Sample], events: &[Event]) {
    println!(
        "| connections | | times | messages | median ms | 99 % ms | longest ms | longest of each time, median ms | over {} ms |",
        LONG.as_millis()
    );
    println!("| ---: | --- |{}", " ---: |".repeat(7));
    let mut kinds: Vec<&str> = Vec::new();
    for event in events {
        if !kinds.contains(&event.what) {
            kinds.push(event.what);
        }
    }
    for kind in kinds {
        let mut waits = Vec::new();
        let mut longest = Vec::new();
        for event in events.iter().filter(|event| event.what == kind) {
            let concerned =
                |sample: &&Sample| sample.heard >= event.begin && sample.sent <= event.end;
            let mine: Vec<Duration> = samples
                .iter()
                .filter(concerned)
                .map(|sample| sample.heard.saturating_sub(sample.sent))
                .collect();
            longest.push(mine.iter().copied().max().expect("somebody talked"));
            waits.extend(mine);
        }
        waits.sort_unstable();
        longest.sort_unstable();
        let ms = |wait: Duration| format!("{:.1}", wait.as_secs_f64() * 1e3);
        println!(
            "| {sessions} | {kind} | {} | {} | {} | {} | {} | {} | {} |",
            longest.len(),
            waits.len(),
            ms(waits[waits.len() / 2]),
            ms(waits[waits.len() * 99 / 100]),
            ms(waits[waits.len() - 1]),
            ms(longest[longest.len() / 2]),
            waits.iter().filter(|wait| **wait > LONG).count(),
        );
    }
}
