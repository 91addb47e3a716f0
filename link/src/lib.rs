//! The link: this host's end of the cluster. It keeps the directory level with the table, takes the letters that workers
//! left in the mailbox to the hosts they concern, and delivers what other hosts send.
//!
//! - Nothing between two users of this host passes through it, and nobody here waits for it.
//! - It keeps nothing that its successor could not find: letters stay in the mailbox until they are settled, the table remembers
//!   the ids of what other hosts sent, and who is here is read from the rows.
//! - Every letter is settled: it was taken by a host that has a recipient (`routed`), nobody was there (`offline`), or it was not
//!   taken in time (`overloaded`). Never silence.
//!
//! The files follow a letter: `mail` takes it in and finds out where it goes, `peers` and `lane` carry it, `deliver` ends it at the other
//! host, `answer` tells its sender. Wherever letters wait, `fair` has each sender's turn come. `presence` and `elsewhere` are the two directions of the directory, `who` asks it.

#![forbid(unsafe_code)]

mod answer;
mod clock;
mod deliver;
mod elsewhere;
mod entry;
mod error;
mod fair;
mod lane;
mod letters;
mod link;
mod mail;
mod parcel;
mod peers;
mod presence;
mod report;
mod run;
mod wake;
mod who;

pub use error::Error;
pub use run::run;
