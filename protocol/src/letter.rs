//! A letter: what a worker hands over to the link when a message may concern other hosts.
//!
//! A head with fixed places, the texts behind it, then the finished message as its recipients get it. Letters
//! stay within one server: writer and reader are processes of one table layout.

use std::io::{self, Write};

/// Who a letter is for, or what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message to all sessions of user `to`, and to the other sessions of user `from`.
    User = 1,
    /// A message to the members of group `to`.
    Group = 2,
    /// A message to everyone.
    Everyone = 3,
    /// A question after users: the body is a JSON array of their names.
    WhoUsers = 4,
    /// A question after the members of group `to`.
    WhoGroup = 5,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::User,
        Kind::Group,
        Kind::Everyone,
        Kind::WhoUsers,
        Kind::WhoGroup,
    ];
}

/// One letter; borrows from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// Who it is for.
    pub kind: Kind,
    /// The sender hears only of failures.
    pub quiet: bool,
    /// Somebody here has it already: the sender knows, and hears nothing more.
    pub reached: bool,
    /// The sender's row, and its generation.
    pub sender: (u32, u32),
    /// When it was handed over, in table milliseconds.
    pub handed_over_ms: u64,
    /// The user or the group.
    pub to: &'a str,
    /// The sender's user name.
    pub from: &'a str,
    /// The message's id, given by the server.
    pub message_id: &'a str,
    /// The sender's own name for it, raw JSON.
    pub id: Option<&'a str>,
    /// What recipients get, or what is asked.
    pub body: &'a [u8],
}

const QUIET: u8 = 1;
const REACHED: u8 = 2;
const HEAD_BYTES: usize = 24;

impl Letter<'_> {
    /// Writes everything but the body, which the caller writes behind it.
    ///
    /// # Errors
    /// Those of the writer, and a text longer than its place (255 bytes).
    pub fn write_head<W: Write + ?Sized>(&self, w: &mut W) -> io::Result<()> {
        let short = |text: &str| {
            u8::try_from(text.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let id = self.id.unwrap_or_default();
        let mut head = [0; HEAD_BYTES];
        head[0] = self.kind as u8;
        head[1] = (u8::from(self.quiet) * QUIET) | (u8::from(self.reached) * REACHED);
        head[4] = short(self.to)?;
        head[5] = short(self.from)?;
        head[6] = short(self.message_id)?;
        head[7] = short(id)?;
        head[8..12].copy_from_slice(&self.sender.0.to_le_bytes());
        head[12..16].copy_from_slice(&self.sender.1.to_le_bytes());
        head[16..24].copy_from_slice(&self.handed_over_ms.to_le_bytes());
        w.write_all(&head)?;
        for text in [self.to, self.from, self.message_id, id] {
            w.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

/// Reads a letter; `None` if it is none.
pub fn read(bytes: &[u8]) -> Option<Letter<'_>> {
    let (head, mut rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let mut text = |len: u8| {
        let (text, behind) = rest.split_at_checked(usize::from(len))?;
        rest = behind;
        str::from_utf8(text).ok()
    };
    let (to, from) = (text(head[4])?, text(head[5])?);
    let (message_id, id) = (text(head[6])?, text(head[7])?);
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, time @ ..] = *head;
    Some(Letter {
        kind: *Kind::ALL.iter().find(|kind| **kind as u8 == head[0])?,
        quiet: head[1] & QUIET != 0,
        reached: head[1] & REACHED != 0,
        sender: (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        ),
        handed_over_ms: u64::from_le_bytes(time),
        to,
        from,
        message_id,
        id: (!id.is_empty()).then_some(id),
        body: rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTER: Letter<'_> = Letter {
        kind: Kind::Group,
        quiet: true,
        reached: false,
        sender: (7, u32::MAX),
        handed_over_ms: 1 << 40,
        to: "grüße",
        from: "ann",
        message_id: "AAAA.1",
        id: Some("\"x\""),
        body: b"{}",
    };

    fn bytes(letter: &Letter<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        letter.write_head(&mut bytes).unwrap();
        bytes.extend_from_slice(letter.body);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for kind in Kind::ALL {
            for id in [None, Some("1")] {
                let letter = Letter {
                    kind,
                    id,
                    reached: true,
                    ..LETTER
                };
                assert_eq!(read(&bytes(&letter)), Some(letter));
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_none() {
        let whole = bytes(&LETTER);
        for len in 0..whole.len() - LETTER.body.len() {
            assert_eq!(read(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn an_id_longer_than_its_place_is_refused() {
        let id = "1".repeat(256);
        let letter = Letter {
            id: Some(&id),
            ..LETTER
        };
        assert!(letter.write_head(&mut Vec::new()).is_err());
    }
}
