//! The link's mailbox, what is remembered of other hosts, and who may be there.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

use std::io::Write;

mod common;

use common::{connect, login, small, used, worker};
use shm_table::{
    Elsewhere, FIRST_WORKER, GroupLimits, Hands, HandsSettings, INBOX_IDS, LINK, Mail, Newcomer,
    NotTaken, ProcessId, Role, RowHandle, Seats, Share, State, Table, Transport,
};

const LIMITS: GroupLimits = GroupLimits::per_session(100);

fn link(table: &Table) -> (ProcessId, Hands<'_>) {
    let me = table.start_process(LINK, Role::Link);
    let hands = table.hands(
        me,
        HandsSettings { outbox_bytes: 8192 },
        Box::new(|| panic!("waiting for a lock that nobody will open")),
    );
    hands.ready();
    (me, hands)
}

/// Somebody without a row of his own.
const NOBODY: RowHandle = RowHandle {
    row: 99,
    generation: 0,
};

fn hand_over(hands: &mut Hands<'_>, body: &str, bytes_max: u64) -> Result<(), NotTaken> {
    hand_over_from(hands, NOBODY, body, bytes_max)
}

fn hand_over_from(
    hands: &mut Hands<'_>,
    from: RowHandle,
    body: &str,
    bytes_max: u64,
) -> Result<(), NotTaken> {
    hands.hand_over(from, bytes_max, |w| w.write_all(body.as_bytes()))
}

fn text(hands: &Hands<'_>, mail: Mail) -> String {
    let mut bytes = Vec::new();
    hands.read_mail(mail, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn all(hands: &mut Hands<'_>) -> Vec<(Mail, String)> {
    let mut all = Vec::new();
    while let Some(mail) = hands.next_mail() {
        all.push((mail, text(hands, mail)));
    }
    all
}

fn texts(all: &[(Mail, String)]) -> Vec<&str> {
    all.iter().map(|(_, text)| text.as_str()).collect()
}

#[test]
fn letters_come_once_and_in_order_and_go_in_any_order() {
    let table = small();
    let (_, mut one) = worker(&table, 0);
    let (_, mut two) = worker(&table, 1);
    let (_, mut link) = link(&table);
    link.open_mailbox();
    assert!(link.about_to_sleep());
    link.awake();
    let long = "x".repeat(1000);
    hand_over(&mut one, "a", 1 << 20).unwrap();
    hand_over(&mut two, &long, 1 << 20).unwrap();
    assert!(!link.about_to_sleep(), "there is mail");
    let first = all(&mut link);
    assert_eq!(texts(&first), ["a", &long]);
    assert!(link.about_to_sleep(), "all was taken");
    hand_over(&mut one, "c", 1 << 20).unwrap();
    assert_eq!(one.doorbells_to_ring(), 1 << LINK, "the link sleeps");
    link.awake();
    let rest = all(&mut link);
    assert_eq!(texts(&rest), ["c"]);
    link.settle(rest[0].0);
    link.settle(first[1].0);
    link.settle(first[1].0);
    let left = link.mailbox_bytes();
    assert_eq!(left, 256, "what it counts is the block that it occupies");
    link.settle(first[0].0);
    assert_eq!(link.mailbox_bytes(), 0);
    assert!(!link.has_mail());
    hand_over(&mut two, "d", 1 << 20).unwrap();
    let last = all(&mut link);
    assert_eq!(texts(&last), ["d"]);
    link.settle(last[0].0);
    for hands in [&mut one, &mut two, &mut link] {
        hands.let_go();
    }
    assert_eq!(table.audit(), Vec::<String>::new());
    assert_eq!(used(&table, "arena_blocks"), 0);
    assert_eq!(used(&table, "outbox_entries"), 0);
}

#[test]
fn a_full_mailbox_and_an_absent_link_take_nothing() {
    let table = small();
    let (_, mut worker) = worker(&table, 0);
    assert_eq!(hand_over(&mut worker, "x", 1 << 20), Err(NotTaken::Away));
    let (me, mut link) = link(&table);
    link.open_mailbox();
    // Three that share no account by chance.
    let mut senders: Vec<RowHandle> = Vec::new();
    for row in 100.. {
        let from = RowHandle { row, generation: 7 };
        let accounts = |from: &RowHandle| worker.mail_accounts(*from);
        if senders.iter().all(|one| accounts(one) != accounts(&from)) {
            senders.push(from);
        }
        if senders.len() == 3 {
            break;
        }
    }
    let mut put = |from, max| hand_over_from(&mut worker, from, "x", max);
    put(senders[0], 520).unwrap();
    put(senders[1], 520).unwrap();
    assert_eq!(put(senders[2], 520), Err(NotTaken::Full));
    table.process_ended(me);
    put(senders[2], 1 << 20).expect("the next link comes at once");
    table.await_start(LINK, Role::Link, table.now_ms() + 1000);
    assert_eq!(put(senders[2], 1 << 20), Err(NotTaken::Away));
    assert_eq!(table.audit(), Vec::<String>::new());
}

/// Seats a connection from an address, and logs a user in.
fn login_from(
    seats: &mut Seats<'_>,
    (id, hands): (ProcessId, &mut Hands<'_>),
    address: &str,
    user: &str,
) -> RowHandle {
    let row = seats
        .seat(&Newcomer {
            transport: Transport::Tcp,
            peer: format!("{address}:4711").parse().unwrap(),
            worker: id,
            deadline_ms: 1_000_000_000,
            consumed_at_accept: 0,
            written_at_accept: 0,
        })
        .unwrap();
    hands.claim(row, State::Connected, 0).unwrap();
    login(hands, row, user);
    row
}

/// Fills the mailbox from a row until it is refused; how many letters of one block that took, and whose share is used up.
fn fill(hands: &mut Hands<'_>, from: RowHandle) -> (u64, NotTaken) {
    let mut taken = 0;
    loop {
        match hand_over_from(hands, from, "x", 100 * 256) {
            Ok(()) => taken += 1,
            Err(refused) => return (taken, refused),
        }
    }
}

/// Sessions that no two share an account by chance: four of eve's and one of each of six others at one address, and ann's at another.
fn senders(seats: &mut Seats<'_>, id: ProcessId, hands: &mut Hands<'_>) -> Option<Vec<RowHandle>> {
    let names = [
        "eve", "eve", "eve", "eve", "m0", "m1", "m2", "m3", "m4", "m5",
    ];
    let come = |name| login_from(seats, (id, hands), "10.0.0.1", name);
    let mut rows: Vec<RowHandle> = names.map(come).to_vec();
    rows.push(login_from(seats, (id, hands), "10.0.0.2", "ann"));
    let accounts = rows.iter().map(|row| hands.mail_accounts(*row));
    let accounts: Vec<_> = accounts.collect();
    let counts = Share::ALL.map(|share| {
        let numbers = accounts.iter().map(|accounts| accounts.number(share));
        numbers.collect::<std::collections::HashSet<_>>().len()
    });
    assert!(counts[0] <= 11 && counts[1] <= 8 && counts[2] <= 2);
    (counts == [11, 8, 2]).then_some(rows)
}

#[test]
fn sessions_users_and_addresses_have_shares_of_what_is_free() {
    while !shares_of_what_is_free() {}
}

fn shares_of_what_is_free() -> bool {
    let table = small();
    let mut seats = Seats::new(&table);
    let (id, mut hands) = worker(&table, 0);
    let (_, mut link) = link(&table);
    link.open_mailbox();
    let Some(rows) = senders(&mut seats, id, &mut hands) else {
        return false;
    };
    let (eve, others, ann) = (&rows[..4], &rows[4..10], rows[10]);
    let session = |taken| (taken, NotTaken::Share(Share::Session));
    // A session may have a quarter of what is free: 20 while 80 are; the next 16 while 64 are; and of this user no more than half.
    assert_eq!(fill(&mut hands, eve[0]), session(20));
    let (second, refused) = fill(&mut hands, eve[1]);
    assert!((12..=16).contains(&second), "{second} {refused:?}");
    let (third, refused) = fill(&mut hands, eve[2]);
    assert_eq!(refused, NotTaken::Share(Share::User), "{third}");
    let (fourth, refused) = fill(&mut hands, eve[3]);
    assert_eq!((fourth, refused), (0, NotTaken::Share(Share::User)));
    assert!((33..=34).contains(&(20 + second + third)), "a third of all");
    // Other users of the address find room, until all of them have as much as is left.
    let more: Vec<_> = others.iter().map(|row| fill(&mut hands, *row)).collect();
    assert_eq!(more.last(), Some(&(0, NotTaken::Share(Share::Address))));
    let of_address = 33 + more.iter().map(|(taken, _)| taken).sum::<u64>();
    assert!((49..=51).contains(&of_address), "{of_address}: half of all");
    // Whoever comes from elsewhere finds a quarter of what is left.
    assert_eq!(fill(&mut hands, ann), session(10));
    assert_eq!(table.audit(), Vec::<String>::new());

    // What is settled is free again, for its sender.
    let mail = all(&mut link);
    for (mail, _) in &mail[..mail.len() / 2] {
        link.settle(*mail);
    }
    assert_eq!(table.audit(), Vec::<String>::new());
    assert!(hand_over_from(&mut hands, eve[0], "x", 100 * 256).is_ok());
    // A recovery counts the same.
    table.recover(&mut seats, &[]);
    assert_eq!(table.audit(), Vec::<String>::new());
    for (mail, _) in all(&mut link).iter().chain(&mail[mail.len() / 2..]) {
        link.settle(*mail);
    }
    assert_eq!(link.mailbox_bytes(), 0);
    assert_eq!(fill(&mut hands, eve[3]), session(20));
    assert_eq!(table.audit(), Vec::<String>::new());
    true
}

#[test]
fn a_successor_gets_all_that_is_not_settled() {
    for crash in [false, true] {
        let table = small();
        let mut seats = Seats::new(&table);
        let (_, mut worker) = worker(&table, 0);
        let (dead, mut old) = link(&table);
        old.open_mailbox();
        for body in ["a", "b", "c", "d"] {
            hand_over(&mut worker, body, 1 << 20).unwrap();
        }
        let taken = all(&mut old);
        old.settle(taken[0].0);
        old.settle(taken[2].0);
        old.mark_sent(taken[3].0);
        hand_over(&mut worker, "e", 1 << 20).unwrap();
        if crash {
            std::mem::forget(old);
            table.recover(&mut seats, &[dead]);
        } else {
            old.let_go();
            table.process_ended(dead);
        }
        assert_eq!(table.audit(), Vec::<String>::new());
        let (_, mut new) = link(&table);
        new.open_mailbox();
        assert!((3..=5).contains(&new.mail_in_order()));
        let left = all(&mut new);
        assert_eq!(texts(&left), ["b", "d", "e"]);
        let sent: Vec<bool> = left.iter().map(|(mail, _)| new.was_sent(*mail)).collect();
        assert_eq!(sent, [false, true, false]);
        for (mail, _) in left {
            new.settle(mail);
        }
        assert_eq!(new.mailbox_bytes(), 0);
        new.let_go();
        worker.let_go();
        assert_eq!(table.audit(), Vec::<String>::new());
        assert_eq!(used(&table, "outbox_entries"), 0);
    }
}

#[test]
fn ids_are_remembered_of_as_many_hosts_as_the_table_was_made_for() {
    let table = small();
    let (_, mut link) = link(&table);
    let a = link.inbox("a", |_| false).unwrap();
    for id in 0..INBOX_IDS as u64 + 3 {
        link.remember(a, id);
    }
    let b = link.inbox("b", |_| false).unwrap();
    link.remember(b, 7);
    let (_, mut successor) = crate::link(&table);
    let mut ids = Vec::new();
    let again = successor.inbox("a", |_| false).unwrap();
    successor.remembered(again, &mut ids);
    assert_eq!(ids, (3..INBOX_IDS as u64 + 3).collect::<Vec<_>>());
    std::thread::sleep(std::time::Duration::from_millis(5));
    successor.remember(again, 1);
    assert_eq!(successor.inbox("c", |_| true), None, "none is to give way");
    // "b" is the one longest unused.
    let c = successor.inbox("c", |_| false).unwrap();
    ids.clear();
    successor.remembered(c, &mut ids);
    assert_eq!(ids, []);
    ids.clear();
    let b = successor.inbox("b", |_| false).unwrap();
    successor.remembered(b, &mut ids);
    assert_eq!(ids, []);
}

#[test]
fn what_the_link_says_of_a_user_holds_while_the_user_is_here() {
    let table = small();
    table.set_linked(true);
    let mut seats = Seats::new(&table);
    let (id, mut hands) = worker(&table, 0);
    let (_, mut link) = link(&table);
    let row = connect(&mut seats, &mut hands, id, Transport::Tcp);
    assert_eq!(link.next_changed(), None);
    link.set_user_elsewhere("ada", true);
    assert_eq!(hands.user_elsewhere("ada"), Elsewhere::Unknown);
    login(&mut hands, row, "ada");
    assert_eq!(link.next_changed(), Some(row.row));
    assert_eq!(link.next_changed(), None);
    assert_eq!(link.logged_in(row.row), Some(row));
    assert!(link.logged_in_at(row).unwrap() <= shm_table::host_ms());
    assert_eq!(hands.user_elsewhere("ada"), Elsewhere::Unknown);
    for (elsewhere, is) in [(true, Elsewhere::Yes), (false, Elsewhere::No)] {
        link.set_user_elsewhere("ada", elsewhere);
        assert_eq!(hands.user_elsewhere("ada"), is);
    }
    table.recover(&mut seats, &[]);
    assert_eq!(hands.user_elsewhere("ada"), Elsewhere::No);
    while link.next_changed().is_some() {}

    let before = link.groups_changes();
    hands.join(row, "chess", LIMITS).unwrap();
    assert_ne!(link.groups_changes(), before);
    let mut groups = Vec::new();
    link.groups_here(&mut groups);
    assert_eq!(groups.iter().map(|g| &**g).collect::<Vec<_>>(), ["chess"]);
    assert_eq!(hands.group_elsewhere("chess"), Elsewhere::Unknown);
    link.set_group_elsewhere("chess", true);
    assert_eq!(hands.group_elsewhere("chess"), Elsewhere::Yes);
    table.recover(&mut seats, &[]);
    assert_eq!(hands.group_elsewhere("chess"), Elsewhere::Yes);
    while link.next_changed().is_some() {}

    hands.set_state(row, State::Closing);
    assert_eq!(link.next_changed(), Some(row.row));
    assert_eq!(link.logged_in(row.row), None);
    groups.clear();
    link.groups_here(&mut groups);
    assert!(groups.is_empty());
    let again = connect(&mut seats, &mut hands, id, Transport::Tcp);
    login(&mut hands, again, "ada");
    assert_eq!(
        hands.user_elsewhere("ada"),
        Elsewhere::Unknown,
        "what was said of earlier sessions counts no more"
    );
    assert_eq!(id.slot, FIRST_WORKER);
}

#[test]
fn where_there_is_no_link_nothing_is_marked() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (id, mut hands) = worker(&table, 0);
    let (_, mut link) = link(&table);
    let row = connect(&mut seats, &mut hands, id, Transport::Tcp);
    login(&mut hands, row, "ada");
    assert_eq!(link.next_changed(), None);
}

/// Every store of a process that dies over its mail, on both sides, and the successor's view of what is left.
#[cfg(feature = "kill-points")]
mod killed {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use shm_table::kill_point;

    use super::*;

    /// Runs `what` with a death after its `stores`-th store; true if it got through.
    fn dying(stores: u64, what: impl FnOnce()) -> bool {
        kill_point::arm(stores);
        let finished = catch_unwind(AssertUnwindSafe(what)).is_ok();
        let killed = kill_point::revive();
        assert!(killed || finished, "it panicked");
        !killed
    }

    #[test]
    fn a_worker_handing_over() {
        for stores in 1.. {
            let table = small();
            let mut seats = Seats::new(&table);
            let (dead, mut victim) = worker(&table, 0);
            let (_, mut survivor) = worker(&table, 1);
            let (_, mut link) = link(&table);
            link.open_mailbox();
            hand_over(&mut survivor, "before", 1 << 20).unwrap();
            let through = dying(stores, || {
                hand_over(&mut victim, &"v".repeat(600), 1 << 20).unwrap();
            });
            std::mem::forget(victim);
            table.recover(&mut seats, &[dead]);
            assert_eq!(table.audit(), Vec::<String>::new(), "store {stores}");
            hand_over(&mut survivor, "after", 1 << 20).unwrap();
            let mail = all(&mut link);
            let found = texts(&mail);
            assert!(
                found == ["before", "after"] || found == ["before", &"v".repeat(600), "after"],
                "store {stores}: {found:?}"
            );
            let whole = found.len() == 3;
            for (mail, _) in mail {
                link.settle(mail);
            }
            assert_eq!(link.mailbox_bytes(), 0, "store {stores}");
            if through {
                assert!(whole);
                return;
            }
        }
    }

    #[test]
    fn a_link_taking_and_settling() {
        let bodies = ["a", "b", "c", "d", "e"];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            for stores in 1.. {
                let table = small();
                let mut seats = Seats::new(&table);
                let (_, mut worker) = worker(&table, 0);
                let (dead, mut victim) = link(&table);
                for body in &bodies[..3] {
                    hand_over(&mut worker, body, 1 << 20).unwrap();
                }
                let mut settled = Vec::new();
                let through = dying(stores, || {
                    victim.open_mailbox();
                    let taken = all(&mut victim);
                    for index in order {
                        victim.mark_sent(taken[index].0);
                        settled.push(index);
                        victim.settle(taken[index].0);
                    }
                });
                std::mem::forget(victim);
                hand_over(&mut worker, bodies[3], 1 << 20).unwrap();
                table.recover(&mut seats, &[dead]);
                assert_eq!(table.audit(), Vec::<String>::new(), "store {stores}");
                hand_over(&mut worker, bodies[4], 1 << 20).unwrap();
                let (_, mut link) = link(&table);
                link.open_mailbox();
                let mail = all(&mut link);
                let found = texts(&mail);
                // What is certainly settled is gone, what is certainly not is there; the last one begun may be either.
                let last = settled.last().copied();
                for (index, body) in bodies.iter().enumerate() {
                    let there = found.contains(body);
                    let begun = settled.contains(&index);
                    if !begun || index >= 3 {
                        assert!(there, "store {stores}: {body} is lost");
                    } else if Some(index) != last {
                        assert!(!there, "store {stores}: {body} came again");
                    }
                }
                let mut sorted = found.clone();
                sorted.sort_unstable();
                assert_eq!(found, sorted, "store {stores}: in order");
                for (mail, _) in mail {
                    link.settle(mail);
                }
                assert_eq!(link.mailbox_bytes(), 0, "store {stores}");
                link.let_go();
                worker.let_go();
                assert_eq!(table.audit(), Vec::<String>::new(), "store {stores}");
                assert_eq!(used(&table, "outbox_entries"), 0, "store {stores}");
                assert_eq!(used(&table, "arena_blocks"), 0, "store {stores}");
                if through {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_link_remembering() {
        for stores in 1.. {
            let table = small();
            let (_, mut victim) = link(&table);
            for host in ["a", "b"] {
                let inbox = victim.inbox(host, |_| false).unwrap();
                victim.remember(inbox, 1);
            }
            let through = dying(stores, || {
                let inbox = victim.inbox("c", |_| false).unwrap();
                victim.remember(inbox, 2);
                victim.remember(inbox, 3);
            });
            std::mem::forget(victim);
            let (_, mut link) = link(&table);
            let inbox = link.inbox("c", |_| false).unwrap();
            let mut ids = Vec::new();
            link.remembered(inbox, &mut ids);
            assert!([2u64, 3].starts_with(&ids), "store {stores}: {ids:?}");
            if through {
                return;
            }
        }
    }
}
