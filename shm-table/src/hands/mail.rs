//! Letters for other hosts: handed over by workers, taken and settled by the link.

use std::collections::VecDeque;

use super::{Hands, Message};
use crate::control::ProcessState;
use crate::handle::LINK;
use crate::mailbox::{LETTER_BYTES, NO_ROW, letter_bytes};
use crate::outbox;
use crate::pool::{Hold, Item};
use crate::two_copies::Stream;

/// A letter was not taken, and is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As much waits for other hosts as may, or the arena is at its limit.
    #[error("as much waits for other hosts as may")]
    Full,
    /// There is no link, and will not be one soon.
    #[error("there is no link to other hosts now")]
    Away,
}

/// A letter in the mailbox, in the hands of the link that took it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail {
    node: u32,
    /// How many letters were in front of it, ever, as far as this process knows.
    place: u64,
}

/// The link's view of its mailbox; a cache.
#[derive(Debug, Default)]
pub(super) struct Open {
    stream: Stream,
    /// Nodes in order, and whether each is settled. They are those of the stream.
    nodes: VecDeque<(u32, bool)>,
    /// The place of the first of them.
    first: u64,
    /// The place of the next one to be given out.
    next: u64,
}

impl Open {
    /// Notes nodes that were put in order, from `at` (plus one) to the stream's last.
    fn note(&mut self, nodes: &[outbox::Node], mut at: u32) {
        while let Some(node) = at.checked_sub(1) {
            let entry = &nodes[node as usize];
            self.nodes.push_back((node, entry.message.peek() == 0));
            at = if at == self.stream.out_taken {
                0
            } else {
                entry.newer.peek()
            };
        }
    }
}

impl Hands<'_> {
    /// Puts a composed message (with an envelope of nothing) into the link's mailbox, unless the letters in it would have more
    /// than `bytes_max` bytes. If it is not taken, the message is given back to the arena.
    pub fn hand_over(&mut self, message: Message, bytes_max: u64) -> Result<(), NotTaken> {
        let room = self.room_for_letter(&message, bytes_max);
        let node = room.and_then(|()| self.nodes.pop().ok_or(NotTaken::Full));
        let node = match node {
            Ok(node) => node,
            Err(refused) => {
                self.discard(message);
                return Err(refused);
            }
        };
        let mailbox = self.view.mailbox;
        self.view.arena.heads[message.first as usize].refs.put(1);
        self.share_chain(message.first);
        let entry = &self.view.nodes[node as usize];
        entry.message.put(message.first + 1);
        entry.newer.put(0);
        mailbox.queued.add(letter_bytes(&self.view, node));
        entry.hold().put(Hold::Shared.word());
        let pushed = outbox::push(&mailbox.out_top, self.view.nodes, NO_ROW, node);
        debug_assert!(
            pushed.is_ok(),
            "the mailbox has one life and is never closed"
        );
        self.touched |= 1 << LINK;
        self.publish_in_hand();
        Ok(())
    }

    fn room_for_letter(&mut self, message: &Message, bytes_max: u64) -> Result<(), NotTaken> {
        let control = &self.view.controls[usize::from(LINK)];
        match ProcessState::of(control.state.get()) {
            ProcessState::Unused | ProcessState::Waiting => return Err(NotTaken::Away),
            ProcessState::Starting | ProcessState::Running | ProcessState::Ended => {}
        }
        let bytes = self.view.arena.message_bytes(message.first, false) as u64 + LETTER_BYTES;
        if self.view.mailbox.pending() + bytes > bytes_max {
            return Err(NotTaken::Full);
        }
        let (_, reserve) = self.reserve(super::Urgency::Message);
        self.fill_nodes(1, reserve)
            .then_some(())
            .ok_or(NotTaken::Full)
    }

    /// Takes the mailbox over: every letter that no link has settled comes (again) from [`Self::next_mail`], the oldest first. Returns which
    /// link of the segment's life this is: a number higher than that of every earlier one.
    pub fn open_mailbox(&mut self) -> u64 {
        let mailbox = self.view.mailbox;
        let number = mailbox.opened.peek().wrapping_add(1);
        mailbox.opened.set(number);
        mailbox.owner.set(self.me.bits());
        let mut open = Open {
            stream: mailbox.stream.read_own(),
            ..Open::default()
        };
        outbox::take_new(&mailbox.out_top, self.view.nodes, &mut open.stream);
        mailbox.stream.write(&open.stream);
        open.note(self.view.nodes, open.stream.out_first);
        self.mail = open;
        self.drop_settled();
        number
    }

    /// The next letter, in the order in which they were handed over; `None`: there is none now.
    pub fn next_mail(&mut self) -> Option<Mail> {
        loop {
            let index = (self.mail.next - self.mail.first) as usize;
            let Some(&(node, settled)) = self.mail.nodes.get(index) else {
                if !self.take_new_mail() {
                    return None;
                }
                continue;
            };
            let place = self.mail.next;
            self.mail.next += 1;
            if !settled {
                return Some(Mail { node, place });
            }
        }
    }

    /// Puts in order what was handed over since. False: nothing was.
    fn take_new_mail(&mut self) -> bool {
        let mailbox = self.view.mailbox;
        let taken = self.mail.stream.out_taken;
        outbox::take_new(&mailbox.out_top, self.view.nodes, &mut self.mail.stream);
        if self.mail.stream.out_taken == taken {
            return false;
        }
        mailbox.stream.write(&self.mail.stream);
        let first = match taken.checked_sub(1) {
            None => self.mail.stream.out_first,
            Some(last) => self.view.nodes[last as usize].newer.peek(),
        };
        self.mail.note(self.view.nodes, first);
        true
    }

    /// True if [`Self::next_mail`] has something to give.
    pub fn has_mail(&self) -> bool {
        self.mail.next - self.mail.first < self.mail.nodes.len() as u64
            || self.view.mailbox.has_new(&self.mail.stream)
    }

    /// Appends a letter's bytes to `into`.
    pub fn read_mail(&self, mail: Mail, into: &mut Vec<u8>) {
        let Some(first) = self.view.nodes[mail.node as usize]
            .message
            .peek()
            .checked_sub(1)
        else {
            return;
        };
        self.view.arena.pieces(first, false, 0, |piece| {
            into.extend_from_slice(piece);
            true
        });
    }

    /// A letter is done with: its outcome is known and was told. In any order, each once.
    pub fn settle(&mut self, mail: Mail) {
        let index = mail.place.checked_sub(self.mail.first);
        let entry = index.and_then(|index| self.mail.nodes.get_mut(index as usize));
        let Some((node, settled @ false)) = entry else {
            return;
        };
        *settled = true;
        let bytes = letter_bytes(&self.view, *node);
        let message = self.view.nodes[*node as usize].message.swap(0);
        let mailbox = self.view.mailbox;
        mailbox
            .settled
            .put(mailbox.settled.peek().wrapping_add(bytes));
        self.release_message(message, 1);
        self.drop_settled();
    }

    /// Takes the oldest letters out, as far as they are settled.
    fn drop_settled(&mut self) {
        let mailbox = self.view.mailbox;
        let mut nodes = std::mem::take(&mut self.written);
        while let Some(&(node, true)) = self.mail.nodes.front() {
            self.mail.nodes.pop_front();
            self.mail.first += 1;
            self.mail.next = self.mail.next.max(self.mail.first);
            let more = outbox::advance(
                &mailbox.out_top,
                self.view.nodes,
                NO_ROW.generation,
                &mut self.mail.stream,
            );
            nodes.push(node);
            if more && self.mail.nodes.is_empty() {
                // Handed over in this very moment, and put in order by the line above.
                let first = self.mail.stream.out_first;
                self.mail.note(self.view.nodes, first);
            }
        }
        if !nodes.is_empty() {
            mailbox.stream.write(&self.mail.stream);
            for node in nodes.drain(..) {
                self.release_entry(node);
            }
            self.publish_in_hand();
        }
        self.written = nodes;
    }

    /// Bytes of letters that are not settled.
    pub fn mailbox_bytes(&self) -> u64 {
        self.view.mailbox.pending()
    }
}
