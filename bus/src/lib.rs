//! How frames travel between hosts.
#![forbid(unsafe_code)]
