//! The receive buffer of a row: the bytes of a message that is not complete, in a chain of arena blocks.

use super::{Full, Hands};
use crate::arena::BLOCK_BYTES;
use crate::two_copies::Stream;

impl Hands<'_> {
    /// Appends bytes to the receive buffer that `stream` describes. It counts once `stream` is committed.
    ///
    /// Bytes already in the buffer are not changed. After a cut that left some, `commit` comes first: the committed
    /// record still refers to what was cut off, and this would write over it.
    pub fn receive_append(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<(), Full> {
        debug_assert!(
            !self.cut || stream.received_len == 0,
            "the cut is not committed"
        );
        let room = match stream.received_len as usize % BLOCK_BYTES {
            0 => 0,
            used => BLOCK_BYTES - used,
        };
        let blocks = bytes.len().saturating_sub(room).div_ceil(BLOCK_BYTES);
        // Whoever holds little is not to blame, and is the last for whom there is no room.
        let reserve = match u64::from(stream.received_len) > self.share {
            true => 2 * self.reserved_blocks(),
            false => self.reserved_blocks(),
        };
        if !self.fill_blocks(blocks, reserve) {
            return Err(Full);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = stream.received_len as usize % BLOCK_BYTES;
            if at == 0 {
                let block = self.blocks.pop().ok_or(Full)?;
                self.view.arena.heads[block as usize].next.put(0);
                match stream.received_last {
                    0 => stream.received_first = block + 1,
                    last => self.view.arena.heads[(last - 1) as usize]
                        .next
                        .put(block + 1),
                }
                stream.received_last = block + 1;
            }
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - at));
            self.view.arena.write(stream.received_last - 1, at, now);
            stream.received_len += now.len() as u32;
            rest = later;
        }
        self.publish_in_hand();
        Ok(())
    }

    /// Appends the buffer's bytes from position `from` on to `out`.
    pub fn receive_read(&self, stream: &Stream, from: u32, out: &mut Vec<u8>) {
        let (mut from, mut end) = (from as usize, stream.received_len as usize);
        let mut block = stream.received_first;
        while block != 0 && from < end {
            if from < BLOCK_BYTES {
                let bytes = self.view.arena.bytes(block - 1);
                out.extend_from_slice(&bytes[from..end.min(BLOCK_BYTES)]);
            }
            from = from.saturating_sub(BLOCK_BYTES);
            end = end.saturating_sub(BLOCK_BYTES);
            block = self.view.arena.heads[(block - 1) as usize].next.peek();
        }
    }

    /// Cuts the buffer to its first `len` bytes. The blocks behind come back with the next `commit`, not
    /// before: until then the committed record refers to them.
    pub fn receive_truncate(&mut self, stream: &mut Stream, len: u32) {
        if len >= stream.received_len {
            return;
        }
        self.cut = true;
        let blocks = (stream.received_len as usize).div_ceil(BLOCK_BYTES);
        let keep = (len as usize).div_ceil(BLOCK_BYTES);
        let mut block = stream.received_first;
        let mut last = 0;
        // The length says where the chain ends: its links stay as they are, for the committed record's sake.
        for at in 0..blocks {
            let next = self.view.arena.heads[(block - 1) as usize].next.peek();
            if at < keep {
                last = block;
            } else {
                self.cut_off.push(block - 1);
            }
            block = next;
        }
        if last == 0 {
            stream.received_first = 0;
        }
        stream.received_last = last;
        stream.received_len = len;
    }
}
