//! The workshop as a visitor has it: a process that is started and ended, and a page in a browser.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod browser;
mod page;
mod process;
mod processes;
