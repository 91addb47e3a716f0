//! The link: messages to and from other hosts.
#![forbid(unsafe_code)]
