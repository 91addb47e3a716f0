//! (in the making)
#![forbid(unsafe_code)]
fn main() {}
