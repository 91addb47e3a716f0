//! A receiver that has no room for descriptors is told so. In a binary of its own, because it lowers the limit of its whole process.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sys::packet::{Arrival, Buffer, pair, receive, send};

#[test]
fn lost_descriptors_are_noticed() {
    let (here, there) = pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    assert!(send(here.as_fd(), b"x", &[file.as_fd(); 5]).unwrap());

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Room for two more.
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(
        Resource::RLIMIT_NOFILE,
        u64::try_from(next).unwrap() + 2,
        hard,
    )
    .unwrap();
    let mut descriptors = Vec::new();
    let arrival = receive(there.as_fd(), &mut Buffer::default(), &mut descriptors).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert_eq!(arrival, Arrival::DescriptorsLost);
}
