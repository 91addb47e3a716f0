//! A control block per process: who sits in the slot, whether it is well, and what it has counted.

use crate::handle::ProcessId;
use crate::word::{Word32, Word64};

/// What kind of process sits in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// Nobody yet.
    None = 0,
    /// Supervises, accepts, owns the vault.
    Master = 1,
    /// Serves connections.
    Worker = 2,
    /// Watches deadlines.
    Timer = 3,
    /// Directory and bus to other hosts.
    Link = 4,
    /// HTTP API.
    Api = 5,
}

impl Role {
    /// The name that `status` shows.
    pub fn name(self) -> &'static str {
        match self {
            Role::None => "none",
            Role::Master => "master",
            Role::Worker => "worker",
            Role::Timer => "timer",
            Role::Link => "link",
            Role::Api => "api",
        }
    }

    pub(crate) fn of(word: u32) -> Self {
        [
            Role::None,
            Role::Master,
            Role::Worker,
            Role::Timer,
            Role::Link,
            Role::Api,
        ]
        .get(word as usize)
        .copied()
        .unwrap_or(Role::None)
    }
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProcessState {
    /// The slot was never used.
    Unused = 0,
    /// Started, not yet ready.
    Starting = 1,
    /// At work.
    Running = 2,
    /// The master has seen its end.
    Ended = 3,
    /// As before, and the next one is started only after a pause, as its predecessors died young.
    Waiting = 4,
}

impl ProcessState {
    /// The name that `status` shows.
    pub fn name(self) -> &'static str {
        match self {
            ProcessState::Unused => "unused",
            ProcessState::Starting => "starting",
            ProcessState::Running => "running",
            ProcessState::Ended => "ended",
            ProcessState::Waiting => "waiting",
        }
    }

    pub(crate) fn of(word: u32) -> Self {
        [
            ProcessState::Unused,
            ProcessState::Starting,
            ProcessState::Running,
            ProcessState::Ended,
            ProcessState::Waiting,
        ]
        .get(word as usize)
        .copied()
        .unwrap_or(ProcessState::Unused)
    }
}

/// What a process counts, since its slot was first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Messages from clients handled.
    MessagesIn,
    /// Messages put into outboxes.
    MessagesOut,
    /// Bytes read from clients.
    BytesIn,
    /// Bytes written to clients.
    BytesOut,
    /// Connections taken over from the master.
    Seats,
    /// Successful logins.
    Logins,
    /// Requests answered by an error.
    Refused,
    /// Sessions closed by the server against their will.
    Kicked,
    /// Rounds of the event loop: reads of what is ready, and writes of all that came of it.
    Turns,
    /// Connections taken over from a predecessor.
    Adopted,
    /// Times that input was found which a predecessor had taken from a socket and not accounted for.
    Salvaged,
    /// Sessions closed because their input was being handled at two crashes running.
    Poisoned,
    /// Letters handed over to the link.
    HandedOver,
    /// Messages from other hosts taken in.
    TakenIn,
    /// Messages from other hosts that had come before.
    Repeated,
    /// Letters that nobody took.
    Undelivered,
    /// Lines that the log did not take.
    LinesLost,
    /// Sessions ended because they held the most of a memory that was short.
    Evicted,
}

impl Counter {
    /// The name that `status` shows.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Every counter with the name that `status` shows.
    pub const ALL: [(Counter, &'static str); 18] = [
        (Counter::MessagesIn, "messages_in"),
        (Counter::MessagesOut, "messages_out"),
        (Counter::BytesIn, "bytes_in"),
        (Counter::BytesOut, "bytes_out"),
        (Counter::Seats, "seats"),
        (Counter::Logins, "logins"),
        (Counter::Refused, "refused"),
        (Counter::Kicked, "kicked"),
        (Counter::Turns, "turns"),
        (Counter::Adopted, "adopted"),
        (Counter::Salvaged, "salvaged"),
        (Counter::Poisoned, "poisoned"),
        (Counter::HandedOver, "handed_over"),
        (Counter::TakenIn, "taken_in"),
        (Counter::Repeated, "repeated"),
        (Counter::Undelivered, "undelivered"),
        (Counter::LinesLost, "lines_lost"),
        (Counter::Evicted, "evicted"),
    ];
}

/// How many kinds of turns are told apart.
pub(crate) const TURN_BUCKETS: usize = 13;

/// Turns that took less than this many microseconds are counted in a bucket and not in those before; the last has no bound.
pub(crate) fn turn_below_us(bucket: usize) -> u64 {
    16 << bucket
}

/// In which bucket a turn of so many microseconds is counted.
#[inline]
pub(crate) fn turn_bucket(us: u64) -> usize {
    ((u64::BITS - (us / 16).leading_zeros()) as usize).min(TURN_BUCKETS - 1)
}

/// A process's block. The master writes the first four words, the process itself the rest,
/// anybody may clear `sleeping`.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Control {
    pub incarnation: Word32,
    pub pid: Word32,
    pub role: Word32,
    /// [`ProcessState`].
    pub state: Word32,
    /// Table milliseconds of the last sign of life.
    pub heartbeat: Word64,
    /// 1 while the process sleeps and wants its doorbell rung.
    pub sleeping: Word32,
    /// Arena blocks and outbox nodes in hand.
    pub blocks_in_hand: Word32,
    pub nodes_in_hand: Word32,
    /// Connections that a worker does not read until another one has had a turn, or there is memory.
    pub congested: Word32,
    /// 1 once the incarnations of the slot have wrapped. Master.
    pub wrapped: Word32,
    /// Who holds the index lock that the process waits for, while it waits for longer than a moment: [`ProcessId::bits`]; 0 = it does not
    /// wait. Whoever supervises blames the holder, never who waits. Written after `waits_since`.
    pub waits_for: Word32,
    /// The row whose input is in the read window and not all accounted for (a link; 0 = none). A successor finds it.
    pub reading: Word64,
    /// Where in that row's input the read window begins, wrapping: the window's byte `n` is the input's byte
    /// `window_at + n`.
    pub window_at: Word64,
    /// Table milliseconds at which the next process is started, while the state is `Waiting`. Master.
    pub again_at: Word64,
    pub counters: [Word64; Counter::ALL.len()],
    /// Turns of the event loop by how long they took, see [`turn_bucket`], and the longest in microseconds.
    pub turns: [Word64; TURN_BUCKETS],
    pub longest_turn_us: Word64,
    /// Table milliseconds since which the process waits, and has seen no other holder.
    pub waits_since: Word64,
    /// First block of the slot's oldest fan-out ([`crate::fanout`]), plus one; 0 = none. The slot's process; the master while it stands still.
    pub fanouts: Word32,
    /// 1 while the oldest fan-out waits for entries or for another worker's turn, for which its process looks again and again.
    pub fanout_waits: Word32,
}

impl Control {
    /// True if this incarnation has not been declared dead.
    pub fn holds(&self, process: ProcessId) -> bool {
        self.incarnation.peek() == u32::from(process.incarnation)
            && matches!(
                ProcessState::of(self.state.get()),
                ProcessState::Starting | ProcessState::Running
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_in_their_order() {
        for (place, (counter, name)) in Counter::ALL.into_iter().enumerate() {
            assert_eq!((counter as usize, counter.name()), (place, name));
        }
    }

    #[test]
    fn a_turn_is_counted_where_it_belongs() {
        assert_eq!(turn_bucket(0), 0);
        for us in 0..200_000 {
            let bucket = turn_bucket(us);
            assert!(
                us < turn_below_us(bucket) || bucket == TURN_BUCKETS - 1,
                "{us}"
            );
            assert!(bucket == 0 || us >= turn_below_us(bucket - 1), "{us}");
        }
        assert_eq!(turn_bucket(u64::MAX), TURN_BUCKETS - 1);
    }
}
