//! Letters for other hosts: handed over by workers, taken and settled by the link.

use std::collections::VecDeque;
use std::io;

use super::{Envelope, Full, Hands, Urgency};
use crate::arena::BLOCK_BYTES;
use crate::control::ProcessState;
use crate::handle::{LINK, RowHandle};
use crate::mail_shares::{ACCOUNTS_BYTES, MailAccounts, Share};
use crate::mailbox::{NO_ROW, letter_bytes};
use crate::outbox;
use crate::pool::{Hold, Item};
use crate::two_copies::Stream;

/// A letter was not taken, and is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As much waits for other hosts as may, or the arena is at its limit.
    #[error("as much waits for other hosts as may")]
    Full,
    /// The sender has its share of what may wait; others still find room.
    #[error("as much of this sender waits for other hosts as may")]
    Share(Share),
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
    /// Puts a letter of a session into the link's mailbox: `write` appends its bytes to what it is given. Refused where the letters in the
    /// mailbox would occupy more than `bytes_max` bytes, and where the session, its user or its address would have more than its share.
    pub fn hand_over(
        &mut self,
        from: RowHandle,
        bytes_max: u64,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), NotTaken> {
        let accounts = self.mail_accounts(from);
        // Who is past his share does not have it composed first.
        self.room_for_letter(accounts, BLOCK_BYTES as u64, bytes_max)?;
        let write = |w: &mut Vec<u8>| {
            w.extend_from_slice(&accounts.bytes());
            write(w)
        };
        let message = self
            .compose(Urgency::Message, write, |_| Envelope::default())
            .map_err(|Full| NotTaken::Full)?;
        let bytes = u64::from(message.cost);
        let room = self.room_for_letter(accounts, bytes, bytes_max);
        let node = room.and_then(|()| self.node_for_letter());
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
        mailbox.queued.add(bytes);
        for shares in self.view.mail_shares {
            shares.add(accounts, bytes);
        }
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

    /// The accounts in which letters of a session are counted.
    pub fn mail_accounts(&self, from: RowHandle) -> MailAccounts {
        MailAccounts::of(&self.view, from)
    }

    fn room_for_letter(
        &self,
        accounts: MailAccounts,
        bytes: u64,
        bytes_max: u64,
    ) -> Result<(), NotTaken> {
        let control = &self.view.controls[usize::from(LINK)];
        match ProcessState::of(control.state.get()) {
            ProcessState::Unused | ProcessState::Waiting => return Err(NotTaken::Away),
            ProcessState::Starting | ProcessState::Running | ProcessState::Ended => {}
        }
        let free = bytes_max.saturating_sub(self.view.mailbox.pending());
        let shares = self.view.mail_shares.first();
        if let Some(share) = shares.and_then(|shares| shares.exceeded(accounts, bytes, free)) {
            return Err(NotTaken::Share(share));
        }
        if bytes > free {
            return Err(NotTaken::Full);
        }
        Ok(())
    }

    fn node_for_letter(&mut self) -> Result<u32, NotTaken> {
        let (_, reserve) = self.reserve(Urgency::Message);
        let filled = self.fill_nodes(1, reserve);
        let node = filled.then(|| self.nodes.pop()).flatten();
        node.ok_or(NotTaken::Full)
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

    /// Letters that are in order and that [`Self::next_mail`] has not given yet, those that are settled among them: behind
    /// [`Self::open_mailbox`], what earlier links have left.
    pub fn mail_in_order(&self) -> usize {
        self.mail.nodes.len() - (self.mail.next - self.mail.first) as usize
    }

    /// True if [`Self::next_mail`] has something to give.
    pub fn has_mail(&self) -> bool {
        self.mail.next - self.mail.first < self.mail.nodes.len() as u64
            || self.view.mailbox.has_new(&self.mail.stream)
    }

    /// Appends a letter's bytes to `into`; whose it is.
    pub fn read_mail(&self, mail: Mail, into: &mut Vec<u8>) -> MailAccounts {
        let message = self.view.nodes[mail.node as usize].message.peek();
        let Some(first) = message.checked_sub(1) else {
            return MailAccounts::default();
        };
        let arena = self.view.arena;
        arena.pieces(first, false, ACCOUNTS_BYTES, |piece| {
            into.extend_from_slice(piece);
            true
        });
        MailAccounts::of_letter(&self.view, first)
    }

    /// Notes, before a letter is sent to another host, that it may have been: a later link, which does not know what has arrived of such, sends
    /// them before all others, while the other host still knows their ids.
    pub fn mark_sent(&mut self, mail: Mail) {
        let message = self.view.nodes[mail.node as usize].message.peek();
        if let Some(first) = message.checked_sub(1) {
            self.view.arena.mark_sent(first);
        }
    }

    /// True if a letter may have been sent, by this link or an earlier one.
    pub fn was_sent(&self, mail: Mail) -> bool {
        let message = self.view.nodes[mail.node as usize].message.peek();
        message
            .checked_sub(1)
            .is_some_and(|first| self.view.arena.was_sent(first))
    }

    /// A letter is done with: its outcome is known and was told. In any order, each once.
    pub fn settle(&mut self, mail: Mail) {
        let index = mail.place.checked_sub(self.mail.first);
        let entry = index.and_then(|index| self.mail.nodes.get_mut(index as usize));
        let Some((node, settled @ false)) = entry else {
            return;
        };
        *settled = true;
        let message = &self.view.nodes[*node as usize].message;
        let Some(first) = message.peek().checked_sub(1) else {
            return;
        };
        let bytes = letter_bytes(&self.view, first);
        let accounts = MailAccounts::of_letter(&self.view, first);
        message.swap(0);
        let mailbox = self.view.mailbox;
        mailbox
            .settled
            .put(mailbox.settled.peek().wrapping_add(bytes));
        for shares in self.view.mail_shares {
            shares.sub(accounts, bytes);
        }
        self.release_message(first + 1, 1);
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

    /// Bytes that letters occupy that are not settled.
    pub fn mailbox_bytes(&self) -> u64 {
        self.view.mailbox.pending()
    }
}
