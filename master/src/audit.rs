//! The audit: while everyone stands still, the table is compared with itself, with the vault, and with the kernel's account of every
//! connection. What does not fit is told, and nothing is changed.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use role::Seat;
use shm_table::{Account, RowHandle, State};
use sys::tcp::Counts;

use crate::control::Reply;
use crate::master::Master;
use crate::stop::Phase;
use crate::vault::Vault;

/// Findings that one answer holds.
const TOLD_MAX: usize = 100;

impl Master<'_> {
    /// Asks everyone to stand still for an audit; the client of the control socket gets its findings.
    pub fn begin_audit(&mut self, client: u32, now: Instant) {
        if !matches!(self.phase, Phase::Running) {
            let why = format!("no audit: the server is {}", self.phase.name());
            return self.answer_later(client, &Reply::of(Err(why)));
        }
        let patience = Duration::from_millis(self.config.server.watchdog_ms.into());
        self.tell_the_time(Some(client), 2 * patience);
        self.stand_still(now).audits.push(client);
    }

    /// Looks, and answers those who asked. Only while everyone stands still between two turns, which they have done for so long, after they
    /// had gone on for `went_on`.
    pub fn audit_for(&mut self, clients: &[u32], went_on: Duration, stood_still: Duration) {
        let accounts = self.table.accounts();
        let mut findings = self.table.audit();
        findings.extend(compare(&accounts, &self.vault, sys::tcp::counts));
        // A worker that is wedged for as long is killed, and its connections get another.
        let patience = Duration::from_millis(self.config.server.watchdog_ms.into());
        if went_on > patience {
            findings.extend(forgotten(&accounts, &self.vault, patience + stood_still));
        }
        findings.extend(self.table.audit_waiting());
        findings.extend(self.audit_posts(&accounts));
        for finding in &findings {
            tracing::error!(finding, "audit");
        }
        let looked_at = format!("{} connections looked at", accounts.len());
        let outcome = if findings.is_empty() {
            tracing::info!(connections = accounts.len(), "audit: nothing found");
            Ok(format!("{looked_at}, nothing found"))
        } else {
            Err(text(&looked_at, &findings))
        };
        let reply = Reply::of(outcome);
        for &client in clients {
            self.answer_later(client, &reply);
        }
    }
}

fn text(looked_at: &str, findings: &[String]) -> String {
    let mut text = format!("{looked_at}, {} findings:", findings.len());
    for finding in findings.iter().take(TOLD_MAX) {
        text = format!("{text}\n  {finding}");
    }
    if findings.len() > TOLD_MAX {
        text = format!("{text}\n  and {} more", findings.len() - TOLD_MAX);
    }
    text
}

/// Rows against connections, in both directions, and what the rows say about their connections against what the kernel says.
fn compare(
    accounts: &[Account],
    vault: &Vault,
    counts: impl Fn(BorrowedFd<'_>) -> io::Result<Counts>,
) -> Vec<String> {
    let mut findings = Vec::new();
    let mut rows = HashSet::with_capacity(accounts.len());
    for account in accounts {
        let seat = Seat {
            row: account.handle.row,
            generation: account.handle.generation,
        };
        rows.insert(seat);
        let name = format!("row {} (generation {})", seat.row, seat.generation);
        let Some(connection) = vault.descriptor(seat) else {
            findings.push(format!("{name} has no connection in the vault"));
            continue;
        };
        let slot = vault.worker_of(seat);
        if slot != Some(account.owner.slot) {
            findings.push(format!(
                "{name} belongs to slot {}, its connection to slot {slot:?}",
                account.owner.slot
            ));
        }
        // What waits for a successor is made up for when that comes; what is done with is shut.
        if !account.owner_lives || account.state == State::Done {
            continue;
        }
        match counts(connection) {
            Ok(counted) => findings.extend(difference(account, counted).map(|d| name + &d)),
            Err(error) => {
                findings.push(format!("{name}: its connection cannot be counted: {error}"))
            }
        }
    }
    for seat in vault.seats().filter(|seat| !rows.contains(seat)) {
        findings.push(format!(
            "the vault has a connection for row {} (generation {}), which is not in use",
            seat.row, seat.generation
        ));
    }
    findings
}

/// Connections that have something for their living owner, and have had it for longer than `patience`: nobody comes for them.
fn forgotten(accounts: &[Account], vault: &Vault, patience: Duration) -> Vec<String> {
    let is_late = |ms: Option<u32>| {
        let waited = ms.map(|ms| Duration::from_millis(ms.into()));
        waited.filter(|waited| *waited > patience)
    };
    let mut findings = Vec::new();
    for account in accounts.iter().filter(|account| account.owner_lives) {
        let RowHandle { row, generation } = account.handle;
        // That a connection is not there, or cannot be asked, is told by others.
        let Some(connection) = vault.descriptor(Seat { row, generation }) else {
            continue;
        };
        let Ok(waiting) = sys::tcp::waiting(connection) else {
            continue;
        };
        let name = format!(
            "row {row} ({}, slot {})",
            account.state.name(),
            account.owner.slot
        );
        if let Some(waited) = is_late(waiting.input_ms)
            && account.is_read
        {
            findings.push(format!(
                "{name} has had input for {waited:?} that nobody reads"
            ));
        }
        if let Some(waited) = is_late(waiting.room_ms)
            && account.is_blocked
        {
            findings.push(format!(
                "{name} has had room for {waited:?} that nobody uses"
            ));
        }
    }
    findings
}

fn difference(account: &Account, counted: Counts) -> Option<String> {
    // Once both sides have ended, the kernel does not tell whether our end is among the bytes written.
    let end = u64::from(account.state == State::Closing);
    let fits = counted.consumed == account.consumed
        && (account.written..=account.written + end).contains(&counted.written);
    (!fits).then(|| {
        format!(
            ", {}: the kernel counts {} bytes consumed and {} written, the row {} and {}",
            account.state.name(),
            counted.consumed,
            counted.written,
            account.consumed,
            account.written
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use shm_table::ProcessId;

    use crate::network::Network;

    /// A vault with one connection in row 3, generation 7, slot 4; three bytes read from it and five written.
    fn vault() -> (Vault, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut here, peer) = listener.accept().unwrap();
        client.write_all(b"more").unwrap();
        here.read_exact(&mut [0; 3]).unwrap();
        here.write_all(b"hello").unwrap();
        let mut vault = Vault::new(4);
        let seat = Seat {
            row: 3,
            generation: 7,
        };
        vault.keep(seat, here, Network::of(peer.ip()), 4);
        (vault, client)
    }

    fn account() -> Account {
        Account {
            handle: RowHandle {
                row: 3,
                generation: 7,
            },
            state: State::LoggedIn,
            owner: ProcessId {
                slot: 4,
                incarnation: 1,
            },
            owner_lives: true,
            consumed: 3,
            written: 5,
            is_read: true,
            is_blocked: false,
        }
    }

    fn findings(account: Account) -> Vec<String> {
        let (vault, _client) = vault();
        compare(&[account], &vault, sys::tcp::counts)
    }

    #[test]
    fn what_fits_is_not_told() {
        assert_eq!(findings(account()), [""; 0]);
        let waiting = Account {
            owner_lives: false,
            consumed: 0,
            ..account()
        };
        assert_eq!(findings(waiting), [""; 0]);
    }

    #[test]
    fn whoever_has_something_for_long_that_nobody_comes_for_is_told_of() {
        // One of the four bytes was not read, and there is room to write.
        let (vault, _client) = vault();
        let within = |account: Account, patience| forgotten(&[account], &vault, patience).len();
        let hour = Duration::from_secs(3600);
        assert_eq!(within(account(), hour), 0);
        let until = Instant::now() + Duration::from_secs(20);
        while within(account(), Duration::from_millis(20)) == 0 {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        let blocked = Account {
            is_read: false,
            is_blocked: true,
            ..account()
        };
        while within(blocked, Duration::from_millis(20)) == 0 {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        let paused = Account {
            is_read: false,
            ..account()
        };
        assert_eq!(within(paused, Duration::ZERO), 0);
        let waiting = Account {
            owner_lives: false,
            ..account()
        };
        assert_eq!(within(waiting, Duration::ZERO), 0);
    }

    #[test]
    fn each_count_is_compared() {
        for (consumed, written) in [(2, 5), (4, 5), (3, 4), (3, 6)] {
            let found = findings(Account {
                consumed,
                written,
                ..account()
            });
            assert_eq!(found.len(), 1, "{consumed} {written}: {found:?}");
            assert!(found[0].contains("3 bytes consumed and 5 written"));
        }
        let closing = |written| {
            findings(Account {
                state: State::Closing,
                written,
                ..account()
            })
        };
        assert_eq!(
            [closing(3).len(), closing(4).len(), closing(6).len()],
            [1, 0, 1]
        );
    }

    #[test]
    fn rows_and_connections_must_belong_to_each_other() {
        let mut other = account();
        other.handle.generation = 8;
        let found = findings(other);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("has no connection") && found[1].contains("not in use"));
        let mut other = account();
        other.owner.slot = 5;
        assert!(findings(other)[0].contains("belongs to slot 5"));
    }

    #[test]
    fn a_long_list_is_cut() {
        let findings: Vec<String> = (0..TOLD_MAX + 2).map(|n| format!("finding {n}")).collect();
        let text = text("3 connections looked at", &findings);
        assert!(text.ends_with("\n  and 2 more"), "{text}");
        assert_eq!(text.lines().count(), TOLD_MAX + 2);
    }
}
