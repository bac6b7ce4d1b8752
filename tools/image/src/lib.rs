//! Container images as files.
//!
//! Both of Spillway's images hold one program and nothing to run it with: the controller a static
//! binary, the filter a WebAssembly module. Such an image is a few archives and two JSON documents,
//! which need no container engine. They are written as an [OCI image layout], a folder that every
//! registry client takes (`skopeo copy oci:FOLDER …`, `crane push FOLDER …`), and that [`push`]
//! brings into a registry by itself.
//!
//! The same program of the same commit gives the same digest on every machine: archives hold no
//! time, no user and no order but the one that is written here, and the time that an image tells is
//! its commit's ([`Provenance`]).
//!
//! [OCI image layout]: https://github.com/opencontainers/image-spec/blob/main/image-layout.md

mod archive;
mod image;
mod layout;
mod provenance;
mod push;

pub use archive::File;
pub use image::{Architecture, Image};
pub use provenance::{Provenance, epoch};
pub use push::{Access, pinned, push};
