//! A queue that is bounded in bytes.
//!
//! What was taken counts until its taker lets go of it, so that an empty queue means that everything has left.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// What an item costs beyond its bytes.
const ITEM_BYTES: usize = 64;

/// Any number of tasks put items in; one takes them.
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    /// There is something to take.
    more: Notify,
    /// There is room again.
    room: Notify,
    bytes_max: usize,
}

struct Inner<T> {
    items: VecDeque<Item<T>>,
    bytes: usize,
}

struct Item<T> {
    value: T,
    bytes: usize,
    since: Instant,
}

/// Items that were taken together; they count against the queue's bound until this is dropped.
pub(crate) struct Batch<'a, T> {
    pub(crate) items: Vec<T>,
    queue: &'a Queue<T>,
    bytes: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                bytes: 0,
            }),
            more: Notify::new(),
            room: Notify::new(),
            bytes_max,
        }
    }

    /// Puts an item in, or gives it back if there is no room. An empty queue has room for any item.
    pub(crate) fn put(&self, value: T, bytes: usize) -> Result<(), T> {
        let bytes = bytes + ITEM_BYTES;
        let mut inner = self.lock();
        if inner.bytes != 0 && inner.bytes + bytes > self.bytes_max {
            return Err(value);
        }
        let first = inner.items.is_empty();
        inner.bytes += bytes;
        inner.items.push_back(Item {
            value,
            bytes,
            since: Instant::now(),
        });
        drop(inner);
        if first {
            self.more.notify_one();
        }
        Ok(())
    }

    /// Puts an item in whether there is room or not.
    pub(crate) fn put_anyway(&self, value: T, bytes: usize) {
        let mut inner = self.lock();
        let first = inner.items.is_empty();
        inner.bytes += bytes + ITEM_BYTES;
        inner.items.push_back(Item {
            value,
            bytes: bytes + ITEM_BYTES,
            since: Instant::now(),
        });
        drop(inner);
        if first {
            self.more.notify_one();
        }
    }

    /// Puts an item in as soon as there is room.
    pub(crate) async fn put_patiently(&self, value: T, bytes: usize) {
        let Err(mut value) = self.put(value, bytes) else {
            return;
        };
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Before the attempt, or room made just after it would go unnoticed.
            room.as_mut().enable();
            match self.put(value, bytes) {
                Ok(()) => return,
                Err(back) => value = back,
            }
            room.await;
        }
    }

    /// Waits until there is room for something.
    pub(crate) async fn wait_for_room(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.lock().bytes < self.bytes_max {
                return;
            }
            room.await;
        }
    }

    /// Waits until there is something to take. For one task at a time.
    pub(crate) async fn wait(&self) {
        while self.lock().items.is_empty() {
            self.more.notified().await;
        }
    }

    /// Takes one item, which counts no longer.
    pub(crate) fn take_one(&self) -> Option<T> {
        let mut inner = self.lock();
        let item = inner.items.pop_front()?;
        inner.bytes -= item.bytes;
        if inner.items.is_empty() && inner.items.capacity() > 4096 {
            inner.items = VecDeque::new();
        }
        drop(inner);
        self.room.notify_waiters();
        Some(item.value)
    }

    /// Takes items up to about so many bytes, at least one if there is any.
    pub(crate) fn take(&self, bytes_max: usize) -> Batch<'_, T> {
        let mut inner = self.lock();
        let mut batch = Batch {
            items: Vec::new(),
            queue: self,
            bytes: 0,
        };
        while let Some(item) = inner.items.front() {
            if batch.bytes != 0 && batch.bytes + item.bytes > bytes_max {
                break;
            }
            batch.bytes += item.bytes;
            batch
                .items
                .extend(inner.items.pop_front().map(|item| item.value));
        }
        batch
    }

    /// Loses what has waited longer than `age`: whoever put it in has repeated it or given up since.
    pub(crate) fn forget(&self, age: Duration) {
        let mut inner = self.lock();
        while inner
            .items
            .front()
            .is_some_and(|item| item.since.elapsed() > age)
        {
            if let Some(item) = inner.items.pop_front() {
                inner.bytes -= item.bytes;
            }
        }
        drop(inner);
        self.room.notify_waiters();
    }

    /// Whether nothing waits and nothing is in its taker's hands.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().bytes == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing in here panics half way; even if it did, a queue is never left inconsistent between two statements that matter.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        self.queue.lock().bytes -= self.bytes;
        self.queue.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_in_bytes_and_takes_one_long_item() {
        let queue = Queue::new(1000);
        assert_eq!(queue.put(1, 5000), Ok(()));
        assert_eq!(queue.put(2, 1), Err(2));
        {
            let batch = queue.take(10);
            assert_eq!(batch.items, [1]);
            assert!(!queue.is_idle());
            assert_eq!(queue.put(2, 1), Err(2));
        }
        assert!(queue.is_idle());
        for n in 0..6 {
            assert_eq!(queue.put(n, 100), Ok(()));
        }
        assert_eq!(queue.put(6, 100), Err(6));
        assert_eq!(queue.take(400).items, [0, 1]);
        assert_eq!(queue.take_one(), Some(2));
        queue.forget(Duration::from_secs(60));
        assert_eq!(queue.take(10_000).items, [3, 4, 5]);
        assert!(queue.is_idle());
    }

    #[tokio::test]
    async fn a_patient_one_waits_for_room() {
        let queue = std::sync::Arc::new(Queue::new(100));
        assert_eq!(queue.put(1, 30), Ok(()));
        let other = std::sync::Arc::clone(&queue);
        let patient = tokio::spawn(async move { other.put_patiently(2, 30).await });
        tokio::task::yield_now().await;
        assert!(!patient.is_finished());
        assert_eq!(queue.take_one(), Some(1));
        patient.await.unwrap();
        queue.wait().await;
        assert_eq!(queue.take_one(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_forgotten() {
        let queue = Queue::new(1000);
        queue.put(1, 1).unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.put(2, 1).unwrap();
        queue.forget(Duration::from_secs(2));
        assert_eq!(queue.take_one(), Some(2));
    }
}
