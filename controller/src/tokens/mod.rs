//! The mesh's route token: made once, kept in a Secret of the system namespace, and rotated there.
//!
//! The Secret's key `tokens` holds one token, or two with a comma between them: the first is sent,
//! both are accepted. A rotation is asked for by a second key, `next`, which holds the token that
//! is to follow, or nothing where the controller is to make one. It takes three writes:
//!
//! 1. `old` becomes `old,next`: the new one is accepted, and nobody sends it;
//! 2. `next,old`: it is sent, and what still sends the old one is accepted;
//! 3. `next`, and the key `next` is gone: the old one is not accepted any more.
//!
//! The second and the third wait until every cluster has the one before in full, since a cluster
//! that is a step behind another is understood by it, and one that is two steps behind is not. All
//! of a rotation's state is in the Secret: a new leader goes on where the last one was, and who
//! edits `tokens` by hand is free to.
//!
//! - [`step`]: from what the Secret says to what it is to say next, pure
//! - [`secret`]: the Secret, read and made
//! - [`settled`]: the clusters that have not got the tokens yet
//! - [`rotation`]: takes the steps

pub mod rotation;
pub mod secret;
pub mod settled;
pub mod step;

pub use rotation::Rotation;
pub use secret::{NAME, follow};
pub use step::Kept;
