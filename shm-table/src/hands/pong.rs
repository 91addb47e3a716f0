//! Pongs: of those that wait to be written only the newest is worth anything (RFC 6455 section 5.5.3).

use super::{Full, Hands, Message};
use crate::handle::RowHandle;
use crate::outbox::CLOSED;
use crate::row::Row;
use crate::two_copies::Stream;

impl Hands<'_> {
    /// Puts a pong of one block into the outbox of an own row, like [`Self::deliver_closing`]; or in the place of the pong that was put
    /// there last, if nothing of that is written yet and nothing came behind it. A client that pings and does not read thus holds one
    /// block, however often it pings.
    pub fn deliver_pong(
        &mut self,
        message: Message,
        to: RowHandle,
        stream: &Stream,
    ) -> Result<(), Full> {
        let arena = self.view.arena;
        arena.mark_pong(message.first);
        let waiting = self
            .mine(to)
            .and_then(|(row, _)| self.waiting_pong(row, stream));
        let Some(node) = waiting else {
            return self.deliver_closing(message, to);
        };
        arena.heads[message.first as usize].refs.put(1);
        self.share_chain(message.first);
        // One store: whoever comes after this process finds the one or the other, and gives back the one that he does not find.
        let older = self.view.nodes[node as usize]
            .message
            .swap(message.first + 1);
        self.release_message(older, 1);
        self.publish_in_hand();
        Ok(())
    }

    /// The newest entry of an own row's outbox, if it is a pong of which nothing is written. What this process and its predecessors wrote is
    /// all recorded when this is asked.
    fn waiting_pong(&self, row: &Row, stream: &Stream) -> Option<u32> {
        let top = row.out_top.get() as u32;
        let is_begun = stream.out_first == top && stream.out_offset > 0;
        if top == CLOSED || is_begun {
            return None;
        }
        let node = top.checked_sub(1)?;
        let message = self.view.nodes[node as usize].message.peek();
        self.view
            .arena
            .is_pong(message.checked_sub(1)?)
            .then_some(node)
    }
}
