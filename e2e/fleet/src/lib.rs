//! A fleet of many clusters, to measure the controller in.
//!
//! What a controller costs shows with a thousand clusters, and a thousand of kube-apiserver do not
//! fit on a machine. So the hub is a real one, and the members are small: API servers of the same
//! library, all in one process, which serve real custom resources and the few core types that the
//! controller looks at. The controller is the program that ships, as a process of its own.
//!
//! - [`members`]: the small API servers, and what happened at them
//! - [`Fleet`]: the hub with its policy, the members, and the controller that joins them
//! - [`bare`]: a client that writes the same objects and does nothing else
//! - [`measure`]: what is compared, in rounds
//!
//! Requests and times are taken at the members, so that nobody is disturbed by the measurement.

pub mod bare;
mod controller;
mod fleet;
pub mod measure;
pub mod members;

pub use self::controller::Controller;
pub use self::fleet::Fleet;
