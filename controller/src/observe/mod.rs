//! What is seen: on the hub all that people declared, in every member what a plan needs to know.
//!
//! - [`hub`], [`watched`]: the resources of the hub, and one kind of them
//! - [`read`]: one of them, if it can be read
//! - [`interest`]: the namespaces that matter, which follow from the policies
//! - [`kinds`]: what is watched in a member
//! - [`index`], [`kept`]: what was seen of one member, and what is kept of it
//! - [`member`]: the watches that fill an index

pub mod hub;
pub mod index;
pub mod interest;
mod kept;
pub mod kinds;
pub mod member;
pub mod read;
mod watched;
