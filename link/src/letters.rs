//! Letters under way: taken out of the mailbox and not yet settled. Their truth is in the mailbox: a successor finds every one of
//! them there, and begins with it from the start.

use std::collections::VecDeque;
use std::rc::Rc;

use protocol::letter::Kind;
use shm_table::{Mail, MailAccounts, RowHandle};

use crate::who::Question;

/// What the sender of a letter is to be told, and whether at all.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its session.
    pub session: RowHandle,
    /// Its own name for the message, raw JSON.
    pub id: Option<Box<str>>,
    /// The id the server gave it.
    pub message_id: Box<str>,
    /// It hears only of failures.
    pub quiet: bool,
    /// Somebody on this host has the message: it hears nothing more.
    pub reached: bool,
}

/// Where a letter is on its way to one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the queue in front of the lane.
    Queued,
    /// On the lane.
    Lane(u64),
}

/// One letter. What it says is read from the mailbox whenever it is needed: as many wait as the mailbox holds.
#[derive(Debug)]
pub struct Letter {
    /// Its place in the mailbox.
    pub mail: Mail,
    /// Who sent it.
    pub accounts: MailAccounts,
    /// Who it is for.
    pub kind: Kind,
    /// What it costs to carry it, bytes.
    pub cost: u32,
    /// Until when it has to be settled, in table milliseconds; `None`: it may wait.
    pub deadline_ms: Option<u64>,
    /// Where it is on its way.
    pub places: Vec<(Rc<str>, Place)>,
    /// Hosts that have not answered.
    pub awaited: usize,
    /// Somebody somewhere has it.
    pub taken: bool,
    /// A host had no room for it.
    pub refused: bool,
    /// What is asked, if it is a question that is being answered.
    pub question: Option<Box<Question>>,
}

/// Letters by number; the numbers count up.
#[derive(Debug, Default)]
pub struct Letters {
    letters: VecDeque<Option<Letter>>,
    first: u64,
    open: usize,
}

impl Letters {
    /// Takes one in; its number, never 0.
    pub fn push(&mut self, letter: Letter) -> u64 {
        self.first = self.first.max(1);
        self.letters.push_back(Some(letter));
        self.open += 1;
        self.first + self.letters.len() as u64 - 1
    }

    fn index(&self, number: u64) -> Option<usize> {
        Some(number.checked_sub(self.first)? as usize)
    }

    /// One that is still under way.
    pub fn find(&mut self, number: u64) -> Option<&mut Letter> {
        let index = self.index(number)?;
        self.letters.get_mut(index)?.as_mut()
    }

    /// True if it is still under way.
    pub fn contains(&self, number: u64) -> bool {
        let letter = self.index(number).and_then(|index| self.letters.get(index));
        letter.is_some_and(Option::is_some)
    }

    /// Lets one go.
    pub fn remove(&mut self, number: u64) -> Option<Letter> {
        let index = self.index(number)?;
        let letter = self.letters.get_mut(index)?.take()?;
        self.open -= 1;
        while let Some(None) = self.letters.front() {
            self.letters.pop_front();
            self.first += 1;
        }
        Some(letter)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.open
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Those past their deadline, the oldest first; `to` bounds how many are looked at.
    pub fn late(&self, now_ms: u64) -> Vec<u64> {
        // They came in the order of their deadlines, but for those that a change of the settings overtook.
        self.letters
            .iter()
            .enumerate()
            .take_while(|(_, letter)| {
                letter
                    .as_ref()
                    .is_none_or(|l| l.deadline_ms.is_some_and(|at| at <= now_ms))
            })
            .filter(|(_, letter)| letter.is_some())
            .map(|(index, _)| self.first + index as u64)
            .collect()
    }
}
