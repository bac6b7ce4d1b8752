//! Properties that hold for every input, by random search.
//!
//! What a search finds is kept: proptest writes it beside the module that found it, and runs it
//! first from then on.

mod caller;
mod concurrency;
mod config;
mod gate;
mod hostile;
mod switch;
mod threads;
mod totals;
mod whole;
