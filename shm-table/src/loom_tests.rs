//! Models of the algorithms that several processes run at once, over every interleaving that `loom` finds.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-table --lib --release`

use loom::sync::Arc;
use loom::thread;

use crate::handle::{ProcessId, RowHandle};
use crate::lock::Lock;
use crate::outbox::{self, Node};
use crate::pool::{Item, Pool, PoolHead};
use crate::ready::{Ready, Walk, announce_sleep, must_ring};
use crate::two_copies::{Stream, TwoCopies};
use crate::word::{Word32, Word64, full_fence};

fn process(slot: u8) -> ProcessId {
    ProcessId {
        slot,
        incarnation: 1,
    }
}

/// A pool of outbox nodes on the heap.
struct Nodes {
    head: PoolHead,
    items: Vec<Node>,
}

impl Nodes {
    fn new(count: usize) -> Self {
        let nodes = Nodes {
            head: PoolHead::new(),
            items: (0..count).map(|_| Node::new()).collect(),
        };
        nodes.pool().rebuild(0..count as u32);
        nodes
    }

    fn pool(&self) -> Pool<'_, Node> {
        Pool {
            head: &self.head,
            items: &self.items,
        }
    }
}

#[test]
fn an_item_of_a_pool_is_in_one_hand_at_a_time() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let nodes = Arc::new(Nodes::new(3));
        let worker = |slot| {
            let nodes = Arc::clone(&nodes);
            thread::spawn(move || {
                for most in [1, 2] {
                    let mut taken = Vec::new();
                    nodes.pool().take(process(slot), most, &mut taken);
                    for &item in &taken {
                        let holder = process(slot).bits();
                        assert_eq!(nodes.items[item as usize].hold().peek(), holder);
                    }
                    nodes.pool().give(&taken);
                }
            })
        };
        let other = worker(4);
        worker(5).join().unwrap();
        other.join().unwrap();
        assert_eq!(nodes.pool().stacked(), [true; 3]);
        assert_eq!(nodes.head.free(), 3);
    });
}

#[test]
fn what_two_writers_push_is_read_once_and_in_each_writers_order() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let row = RowHandle {
            row: 0,
            generation: 7,
        };
        let shared = Arc::new((
            Word64::new(outbox::empty(7)),
            (0..3).map(|_| Node::new()).collect::<Vec<_>>(),
        ));
        let writer = |nodes: &'static [u32]| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for &node in nodes {
                    shared.1[node as usize].message.put(node + 1);
                    assert_eq!(outbox::push(&shared.0, &shared.1, row, node), Ok(()));
                }
            })
        };
        let writers = [writer(&[0, 1]), writer(&[2])];
        let mut stream = Stream::default();
        let mut read = Vec::new();
        let drain = |stream: &mut Stream, read: &mut Vec<u32>| {
            outbox::take_new(&shared.0, &shared.1, stream);
            while stream.out_first != 0 {
                read.push(shared.1[(stream.out_first - 1) as usize].message.peek() - 1);
                outbox::advance(&shared.0, &shared.1, 7, stream);
            }
        };
        drain(&mut stream, &mut read);
        for writer in writers {
            writer.join().unwrap();
        }
        drain(&mut stream, &mut read);
        let own: Vec<u32> = read.iter().copied().filter(|&node| node != 2).collect();
        assert_eq!(own, [0, 1]);
        assert_eq!(read.len(), 3);
        assert_eq!(shared.0.get(), outbox::empty(7));
    });
}

#[test]
fn a_closed_outbox_or_another_life_takes_nothing_and_loses_nothing() {
    loom::model(|| {
        let row = RowHandle {
            row: 0,
            generation: 7,
        };
        let shared = Arc::new((Word64::new(outbox::empty(7)), [Node::new()]));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || outbox::push(&shared.0, &shared.1, row, 0).is_ok())
        };
        let closed = outbox::empty(7) | u64::from(outbox::CLOSED);
        let was_empty = shared.0.exchange(outbox::empty(7), closed).is_ok();
        let pushed = writer.join().unwrap();
        assert_ne!(
            was_empty, pushed,
            "either closed before the push, or pushed before the close"
        );
    });
}

#[test]
fn a_lock_has_one_owner_at_a_time() {
    loom::model(|| {
        let shared = Arc::new((Lock::new(), Word32::new(0)));
        let writer = |slot| {
            let shared = Arc::clone(&shared);
            move || {
                let held = shared.0.take(process(slot), |_| crate::sync::yield_now());
                assert_eq!(shared.0.owner(), Some(process(slot)));
                let value = shared.1.peek();
                shared.1.put(value + 1);
                drop(held);
            }
        };
        let other = thread::spawn(writer(5));
        writer(4)();
        other.join().unwrap();
        assert_eq!(shared.1.peek(), 2);
        assert_eq!(shared.0.owner(), None);
    });
}

#[test]
fn a_reader_gets_a_whole_record() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let record = Arc::new(TwoCopies::<2>::zeroed());
        let writer = {
            let record = Arc::clone(&record);
            thread::spawn(move || {
                for value in 1..=3_u64 {
                    record.write(&[value, value]);
                }
            })
        };
        let [first, second]: [u64; 2] = record.read();
        assert_eq!(first, second);
        writer.join().unwrap();
        assert_eq!(record.read::<[u64; 2]>(), [3, 3]);
    });
}

/// The ready bits of a worker, and what wakes it.
struct Post {
    sleeping: Word32,
    summary: [Word64; 1],
    rows: [Word64; 1],
    doorbell: Word32,
}

impl Post {
    fn new() -> Self {
        Post {
            sleeping: Word32::new(0),
            summary: [Word64::new(0)],
            rows: [Word64::new(0)],
            doorbell: Word32::new(0),
        }
    }

    fn ready(&self) -> Ready<'_> {
        Ready {
            summary: &self.summary,
            rows: &self.rows,
        }
    }

    fn mark_and_ring(&self, row: u32) {
        self.ready().mark(row);
        full_fence();
        if must_ring(&self.sleeping) {
            self.doorbell.add(1);
        }
    }
}

#[test]
fn a_worker_that_sleeps_is_rung_for_every_row_made_ready() {
    loom::model(|| {
        let shared = Arc::new(Post::new());
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.mark_and_ring(3))
        };
        let slept = announce_sleep(&shared.sleeping, Some(shared.ready()));
        let mut walk = Walk::default();
        let seen = if slept {
            None
        } else {
            walk.next(shared.ready())
        };
        writer.join().unwrap();
        if slept {
            assert_eq!(shared.doorbell.peek(), 1, "it sleeps on with a row ready");
            assert_eq!(walk.next(shared.ready()), Some(3));
        } else {
            assert_eq!(seen, Some(3));
        }
    });
}

#[test]
fn a_producer_that_stopped_between_its_two_bits_keeps_no_other_from_waking_the_worker() {
    loom::model(|| {
        let shared = Arc::new(Post::new());
        // Stopped for good, and has neither set the bit above nor rung.
        shared.rows[0].or(1 << 3);
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.mark_and_ring(3))
        };
        let mut walk = Walk::default();
        let mut seen = walk.next(shared.ready()).is_some();
        let slept = !seen && announce_sleep(&shared.sleeping, Some(shared.ready()));
        writer.join().unwrap();
        if slept {
            assert_eq!(shared.doorbell.peek(), 1, "it sleeps on with a row ready");
        }
        seen |= walk.next(shared.ready()).is_some() || walk.next(shared.ready()).is_some();
        assert!(seen, "the row is marked where nobody looks");
    });
}

#[test]
fn what_is_put_back_and_what_is_marked_meanwhile_is_found_by_a_successor() {
    loom::model(|| {
        let shared = Arc::new(Post::new());
        shared.ready().mark(1);
        shared.ready().mark(2);
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.ready().mark(2);
                shared.ready().mark(3);
            })
        };
        let mut walk = Walk::default();
        let first = walk.next(shared.ready());
        walk.put_back(shared.ready());
        writer.join().unwrap();
        let mut walk = Walk::default();
        let rest: Vec<u32> = std::iter::from_fn(|| walk.next(shared.ready())).collect();
        assert_eq!((first, rest), (Some(1), vec![2, 3]));
    });
}
