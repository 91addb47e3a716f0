//! Who waits for an index lock looks alive, burns no core, and names who holds it; when that one is dead and accounted for, it goes on.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use shm_table::{
    Hands, HandsSettings, Joined, ProcessId, RowHandle, Seats, State, Table, Transport, kill_point,
};

use crate::LIMITS;
use crate::common::{connect, login, small, used, worker};

/// The longest that any step of this test may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A worker that has died while it held the lock of a group that does not exist yet, and a row of another that wants to join it.
fn killed_with_a_lock(table: &Table, seats: &mut Seats<'_>) -> (ProcessId, ProcessId, RowHandle) {
    let (victim, mut hands) = worker(table, 0);
    let row = connect(seats, &mut hands, victim, Transport::Tcp);
    login(&mut hands, row, "ada");
    kill_point::arm(2);
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = hands.join(row, "group", LIMITS);
    }));
    assert!(died.is_err() && kill_point::revive());
    // What the dead has in hand is the recovery's.
    std::mem::forget(hands);
    let locks = |id: ProcessId| {
        let processes = table.stats().processes;
        processes.iter().find(|p| p.slot == id.slot).unwrap().locks
    };
    assert_eq!(locks(victim), 1, "it died elsewhere");
    let (waiter, mut hands) = worker(table, 1);
    let row = connect(seats, &mut hands, waiter, Transport::Tcp);
    login(&mut hands, row, "grace");
    hands.let_go();
    (victim, waiter, row)
}

/// Ends the wait of another thread where the test fails, which would otherwise wait for that thread.
struct Rescue(AtomicBool);

struct OnFailure<'a>(&'a Rescue, &'a Table);

impl Rescue {
    fn of<'a>(&'a self, table: &'a Table) -> OnFailure<'a> {
        OnFailure(self, table)
    }
}

impl Drop for OnFailure<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.store(true, Ordering::SeqCst);
            self.1.request_pause();
        }
    }
}

fn thread_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(us.try_into().unwrap())
}

#[test]
fn who_waits_for_a_lock_lives_and_says_for_whom_it_waits() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (victim, waiter, row) = killed_with_a_lock(&table, &mut seats);
    let (asked, go_on) = (Barrier::new(2), Barrier::new(2));
    let rescue = Rescue(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _on_failure = rescue.of(&table);
        let waiting = scope.spawn(|| {
            let pause_point = Box::new(|| {
                assert!(!rescue.0.load(Ordering::SeqCst), "the test has failed");
                asked.wait();
                go_on.wait();
            });
            let settings = HandsSettings { outbox_bytes: 8192 };
            let mut hands = table.hands(waiter, settings, pause_point);
            let (began, before) = (Instant::now(), thread_cpu());
            let joined = hands.join(row, "group", LIMITS);
            (joined, began.elapsed(), thread_cpu() - before)
        });
        eventually(
            "it says for whom it waits",
            || matches!(table.waits_for(waiter.slot), Some((holder, ms)) if holder == victim && ms > 10),
        );
        // Signs of life while it waits, not only as it began: the age falls again and again.
        let mut seen = 0;
        let mut before = table.heartbeat_age_ms(waiter.slot);
        eventually("it gives signs of life", || {
            let age = table.heartbeat_age_ms(waiter.slot);
            seen += u32::from(age < before);
            before = age;
            seen >= 20
        });
        std::thread::sleep(Duration::from_millis(500));
        // The master: everyone stands still, the dead is accounted for, and all go on.
        table.request_pause();
        asked.wait();
        table.recover(&mut seats, &[victim]);
        table.end_pause();
        go_on.wait();
        let (joined, waited, cpu) = waiting.join().unwrap();
        assert_eq!(joined, Ok(shm_table::Joined::New));
        assert!(cpu * 5 < waited, "{cpu:?} of a core in {waited:?}");
    });
    assert_eq!(table.waits_for(waiter.slot), None);
    assert_eq!(table.audit(), [""; 0]);
}

/// A worker has died in the middle of joining "group"; another one wants its lock for `act`, and waits until the dead one is accounted for. Both have
/// been in three groups before.
fn waits_while_the_table_is_put_in_order(act: impl Fn(&mut Hands<'_>, RowHandle) + Sync) {
    let table = small();
    let mut seats = Seats::new(&table);
    let (victim, mut hands) = worker(&table, 0);
    let (waiter, mut other) = worker(&table, 1);
    let rows =
        [(victim, &mut hands, "ada"), (waiter, &mut other, "grace")].map(|(id, hands, name)| {
            let row = connect(&mut seats, hands, id, Transport::Tcp);
            login(hands, row, name);
            for group in ["first", "group", "last"] {
                hands.join(row, group, LIMITS).unwrap();
            }
            row
        });
    hands.leave(rows[0], "group").unwrap();
    other.let_go();
    // After its second store: the lock is the first.
    kill_point::arm(2);
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = hands.join(rows[0], "group", LIMITS);
    }));
    assert!(died.is_err() && kill_point::revive());
    std::mem::forget(hands);
    let (asked, go_on) = (Barrier::new(2), Barrier::new(2));
    let rescue = Rescue(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _on_failure = rescue.of(&table);
        let waiting = scope.spawn(|| {
            let pause_point = Box::new(|| {
                assert!(!rescue.0.load(Ordering::SeqCst), "the test has failed");
                asked.wait();
                go_on.wait();
            });
            let mut hands = table.hands(waiter, HandsSettings { outbox_bytes: 8192 }, pause_point);
            act(&mut hands, rows[1]);
            hands.let_go();
        });
        eventually("it waits", || table.waits_for(waiter.slot).is_some());
        table.request_pause();
        asked.wait();
        table.recover(&mut seats, &[victim]);
        table.end_pause();
        go_on.wait();
        waiting.join().unwrap();
    });
    assert_eq!(table.audit(), [""; 0]);
    // A successor of the dead one takes its row, and both can leave.
    let (_, mut hands) = worker(&table, 0);
    let (_, mut other) = (
        waiter,
        table.hands(
            waiter,
            HandsSettings { outbox_bytes: 8192 },
            Box::new(|| {}),
        ),
    );
    hands.claim(rows[0], State::Connected, 0).unwrap();
    hands.finish(rows[0]);
    other.finish(rows[1]);
    hands.let_go();
    other.let_go();
    assert_eq!(table.audit(), [""; 0]);
    assert_eq!(
        (used(&table, "groups"), used(&table, "memberships")),
        (0, 0)
    );
    for user in ["ada", "grace"] {
        assert!(other.last_seen(user).is_some(), "{user} was never here");
    }
}

#[test]
fn who_waits_to_leave_a_group_while_the_table_is_put_in_order_leaves_it() {
    waits_while_the_table_is_put_in_order(|hands, row| {
        hands.leave(row, "group").unwrap();
        let mut members = Vec::new();
        hands.members_of("group", &mut members);
        assert!(!members.contains(&row));
        assert!(hands.leave(row, "group").is_err());
        assert_eq!(hands.join(row, "group", LIMITS), Ok(Joined::New));
    });
}

#[test]
fn who_waits_to_leave_everything_while_the_table_is_put_in_order_leaves_it() {
    waits_while_the_table_is_put_in_order(|hands, row| {
        hands.set_state(row, State::Closing);
    });
}
