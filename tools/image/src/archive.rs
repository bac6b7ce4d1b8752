//! One layer of an image: a compressed archive that is the same whoever packs it.

use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// A file of a layer, by its path without a leading slash. It belongs to root.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Such as `etc/ssl/certs/ca-certificates.crt`.
    pub path: &'a str,
    /// Such as `0o644`.
    pub mode: u32,
    /// What is in it.
    pub content: &'a [u8],
}

/// An archive, and the same compressed.
pub(crate) struct Packed {
    pub(crate) archive: Vec<u8>,
    pub(crate) compressed: Vec<u8>,
}

/// Packs files, each behind the folders that lead to it.
pub(crate) fn pack(files: &[File<'_>]) -> Result<Packed> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders: Vec<&str> = Vec::new();
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            let folder = file.path.get(..=end).unwrap_or_default();
            if !folders.contains(&folder) {
                archive.append(&header(EntryType::Directory, folder, 0o755, 0)?, &[][..])?;
                folders.push(folder);
            }
        }
        let size = file.content.len().try_into()?;
        let header = header(EntryType::Regular, file.path, file.mode, size)?;
        archive.append(&header, file.content)?;
    }
    let archive = archive.into_inner()?;
    // 255: of no operating system.
    let mut compressed = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    compressed.write_all(&archive)?;
    Ok(Packed {
        archive,
        compressed: compressed.finish()?,
    })
}

fn header(kind: EntryType, path: &str, mode: u32, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path(path)?;
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}
