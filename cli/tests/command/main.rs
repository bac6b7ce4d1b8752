//! The command as people run it: a process, its words and its status.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod check;
mod clusters;
mod flight;
mod frame;
mod install;
mod live;
mod mesh;
mod planned;
mod push;
mod rotate;
mod run;
mod shells;
mod simulate;
mod start;
mod terminal;
mod validate;
mod why;
