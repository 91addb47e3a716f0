//! The directory of a cluster, in Redis or Valkey.
#![forbid(unsafe_code)]
