//! The upper layer from outside: only the public API, no sockets, a clock that the tests own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Tests fail by panicking.

mod codec;
mod grid;
mod hostile_association;
mod hostile_command;
mod hostile_pdu;
mod pair;
mod support;
mod transcripts;
