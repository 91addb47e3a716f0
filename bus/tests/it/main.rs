//! Hosts that exchange frames over each bus, with real servers where one has servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that unwraps fails with its location, which is what a test is for"
)]

mod broker;
mod exchange;
mod forwarder;
mod hosts;
mod mesh;
mod rabbitmq;
mod redis;
