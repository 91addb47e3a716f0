//! How much of the link's mailbox each session, each user and each address has: nobody may take it from the others.
//!
//! A sender may have a part of what is still free ([`Share::of`]): so what one may have shrinks as the mailbox fills, and whoever comes new
//! finds room. Counted are the arena's blocks that letters occupy.
//!
//! Senders are counted in a fixed number of accounts, chosen by the table's keyed hash: two that fall into one share it, and no client
//! can choose with whom. A letter names its accounts in its first bytes, so that what settles it and a recovery count as its
//! sender's worker did, whatever has become of the row.

use crate::arena::{BLOCK_BYTES, PREFIX_BYTES};
use crate::handle::RowHandle;
use crate::network::network;
use crate::view::View;
use crate::word::Word32;

/// Accounts of each kind: so many that two senders rarely share one.
const ACCOUNTS: usize = 4096;

/// Bytes in front of a letter that name its accounts.
pub(crate) const ACCOUNTS_BYTES: usize = 8;

const _: () = assert!(PREFIX_BYTES + ACCOUNTS_BYTES <= BLOCK_BYTES);

/// Whose share of the mailbox it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// One session's.
    Session,
    /// That of all sessions of a user.
    User,
    /// That of all sessions from an address (of IPv6: from a network of 64 bits).
    Address,
}

impl Share {
    /// From the narrowest to the widest.
    pub const ALL: [Share; 3] = [Share::Session, Share::User, Share::Address];

    /// What one of this kind may have while `free` bytes are free: a quarter as much, half as much, or as much.
    fn of(self, free: u64) -> u64 {
        match self {
            Share::Session => free / 4,
            Share::User => free / 2,
            Share::Address => free,
        }
    }
}

/// The accounts of a letter's sender, also the order in which it is served: senders of different accounts in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MailAccounts {
    /// By [`Share`].
    numbers: [u16; 3],
}

impl MailAccounts {
    /// The account of one kind.
    pub fn number(self, share: Share) -> u16 {
        self.numbers[share as usize]
    }

    /// Those of a row's session.
    pub(crate) fn of(view: &View<'_>, handle: RowHandle) -> Self {
        let account = |hash: u64| (hash % ACCOUNTS as u64) as u16;
        let session = u64::from(handle.generation) << 32 | u64::from(handle.row);
        let session = account(view.hash_bytes(&session.to_le_bytes()));
        let Some(row) = view.row(handle) else {
            return MailAccounts {
                numbers: [session; 3],
            };
        };
        let address = network(row.peer().ip());
        MailAccounts {
            numbers: [
                session,
                account(view.hash(&row.user_name.read())),
                account(view.hash_bytes(&address.to_le_bytes())),
            ],
        }
    }

    pub(crate) fn bytes(self) -> [u8; ACCOUNTS_BYTES] {
        let [session, user, address] = self.numbers.map(u64::from);
        (session | user << 16 | address << 32).to_le_bytes()
    }

    pub(crate) fn read(bytes: [u8; ACCOUNTS_BYTES]) -> Self {
        let word = u64::from_le_bytes(bytes);
        MailAccounts {
            numbers: [0, 16, 32].map(|at| (word >> at) as u16 % ACCOUNTS as u16),
        }
    }

    /// Those of a letter in the mailbox, by its message's first block.
    pub(crate) fn of_letter(view: &View<'_>, first: u32) -> Self {
        let block = view.arena.bytes(first);
        let named = block[PREFIX_BYTES..].first_chunk();
        named.copied().map(Self::read).unwrap_or_default()
    }
}

/// The accounts. Anybody adds; the link takes away.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct MailShares {
    /// Blocks of letters that are not settled, by [`Share`].
    blocks: [[Word32; ACCOUNTS]; 3],
}

impl MailShares {
    fn words(&self, accounts: MailAccounts) -> [&Word32; 3] {
        Share::ALL.map(|share| {
            let number = usize::from(accounts.number(share)) % ACCOUNTS;
            &self.blocks[share as usize][number]
        })
    }

    /// The first share in which a letter of so many bytes has no room while `free` bytes of the mailbox are free. Each has room for
    /// one letter.
    pub fn exceeded(&self, accounts: MailAccounts, bytes: u64, free: u64) -> Option<Share> {
        let words = self.words(accounts);
        Share::ALL.into_iter().zip(words).find_map(|(share, word)| {
            let has = u64::from(word.peek()) * BLOCK_BYTES as u64;
            (has != 0 && has + bytes > share.of(free)).then_some(share)
        })
    }

    /// Counts a letter that is about to be put in.
    pub fn add(&self, accounts: MailAccounts, bytes: u64) {
        for word in self.words(accounts) {
            word.add((bytes / BLOCK_BYTES as u64) as u32);
        }
    }

    /// Counts a letter that is settled.
    pub fn sub(&self, accounts: MailAccounts, bytes: u64) {
        for word in self.words(accounts) {
            word.sub((bytes / BLOCK_BYTES as u64) as u32);
        }
    }

    /// For recovery: counts anew, from what is in the mailbox.
    pub fn count_anew(&self, letters: impl Iterator<Item = (MailAccounts, u64)>) {
        for (words, counts) in self.blocks.iter().zip(count(letters)) {
            for (word, count) in words.iter().zip(counts) {
                if word.peek() != count {
                    word.put(count);
                }
            }
        }
    }

    /// For the audit: accounts that do not say what is in the mailbox.
    pub fn wrong(&self, letters: impl Iterator<Item = (MailAccounts, u64)>) -> Vec<String> {
        let kinds = Share::ALL.into_iter().zip(&self.blocks);
        let kinds = kinds.zip(count(letters));
        let wrong = kinds.flat_map(|((share, words), counts)| {
            let accounts = words.iter().zip(counts).enumerate();
            accounts.filter_map(move |(number, (word, count))| {
                let counted = word.peek();
                (counted != count).then(|| {
                    format!("mailbox, {share:?} {number}: {counted} blocks counted, {count} there")
                })
            })
        });
        wrong.collect()
    }
}

/// Blocks by kind and account.
fn count(letters: impl Iterator<Item = (MailAccounts, u64)>) -> [Vec<u32>; 3] {
    let mut counts = [const { Vec::new() }; 3].map(|_: Vec<u32>| vec![0; ACCOUNTS]);
    for (accounts, bytes) in letters {
        for share in Share::ALL {
            counts[share as usize][usize::from(accounts.number(share))] +=
                (bytes / BLOCK_BYTES as u64) as u32;
        }
    }
    counts
}
