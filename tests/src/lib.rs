//! The harness of the black-box tests: it starts the real executable and talks to it over real sockets.
//!
//! - Nothing here knows the server's code: what a test expects comes from the protocol and the configuration alone.
//! - A wait ends with the event it waits for; [`wait::PATIENCE`] only bounds how long a broken server may keep a test.
//! - What a test does at random follows from a seed that it prints; `TEST_SEED` in the environment repeats it.
//! - What a test started is gone when the test is over: every server is stopped the way an operator stops it, and leaves nothing.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness that cannot go on fails its test, with the place and the reason"
)]

pub mod addresses;
pub mod attacks;
pub mod bells;
pub mod browser;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod container;
pub mod delays;
pub mod folder;
pub mod frames;
pub mod frozen;
pub mod house;
pub mod http;
pub mod installed;
pub mod loops;
pub mod posts;
pub mod processes;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod server;
pub mod settings;
pub mod status;
pub mod visitor;
pub mod wait;
pub mod waits;
pub mod wall_clock;
pub mod wire;

pub use bells::Bells;
pub use client::{Client, Transport};
pub use frames::Frame;
pub use house::House;
pub use raw::RawWebSocket;
pub use server::Server;
pub use settings::Settings;
