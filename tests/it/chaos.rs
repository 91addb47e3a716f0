//! The promise itself: hundreds write to each other while processes are killed all the while, and nobody notices.

use std::time::Instant;

use tests::chaos::killer::{Journal, Killer};
use tests::chaos::{Crowd, Plan};
use tests::{Server, Settings, posts, status};

use crate::back::{everything_is_back, holders, settled};

fn settings(plan: &Plan) -> Settings {
    Settings::new()
        .with("server.workers", plan.workers)
        .with("server.watchdog_ms", plan.watchdog.as_millis() as u64)
        .with("table.sessions", 2 * plan.sessions + 2 * plan.loops)
        .with("table.arena_mib", 256)
        .with("table.memberships", 4 * plan.sessions + 2 * plan.loops)
        .with("limits.outbox_bytes", 32 << 20)
        // Members wait in silence until their whole circle has come, which in a long run takes long.
        .with("limits.heartbeat_timeout_ms", 3_600_000)
        .with("limits.login_timeout_ms", 60_000)
        .with("limits.handshake_timeout_ms", 60_000)
        .with("limits.drain_timeout_ms", 30_000)
}

/// With `CHAOS_KILLS` in the environment as long as you like; `tests/chaos` does so.
#[test]
fn processes_die_and_nobody_notices() {
    let plan = Plan::of_environment(120);
    println!("{plan}");
    let server = Server::start(settings(&plan));
    let empty = settled(&server);
    let descriptors = holders(&server);
    let start = Instant::now();
    let mut crowd = Crowd::gather(&server, &plan);
    crowd.wait_for_letters();
    let journal = Journal::default();
    let kills = std::thread::scope(|scope| {
        Killer::new(&server, &crowd, &plan, &journal).rage(scope, plan.kills)
    });
    posts::filled(&server);
    crowd.fall_silent();
    crowd.judge();
    let audited = posts::audit(&server);
    if crowd.well() {
        crowd.leave();
    }

    let ledger = crowd.ledger();
    let twice = ledger.came_twice();
    println!("{plan}");
    println!("{kills} kills in {:.1?}", start.elapsed());
    journal
        .counts()
        .iter()
        .for_each(|(what, count)| println!("{count:>9} {what}"));
    ledger
        .counts()
        .iter()
        .for_each(|(what, count)| println!("{count:>9} {what}"));
    println!("{twice:>9} messages and answers that came twice");
    let loops = crowd.loops();
    println!("{:>9} messages in closed loops", loops.messages());
    let (longest, net) = crowd.waits().longest();
    println!("{longest:>9.1?} longest wait for a message or an answer");
    println!("{net:>9.1?} of it less what the machine is to blame for");
    println!("{:>9} waits so excused", crowd.waits().excused());
    let twice = twice + loops.came_twice() as usize;
    let faults = [ledger.faults(), loops.faults(), journal.failures()].concat();
    if !faults.is_empty() {
        println!("{:#?}", status::sections(&server));
    }
    assert!(
        faults.is_empty(),
        "{}\nthe last acts:\n{journal}",
        faults.join("\n")
    );
    audited.unwrap();
    assert!(
        kills >= plan.kills && twice <= kills as usize,
        "{twice} for {kills} kills"
    );
    everything_is_back(&server, &empty, descriptors);
}
