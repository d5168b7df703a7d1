//! A directory on a disk that is never full: what a test machine has left is no part of most tests.

use std::io;
use std::path::PathBuf;

use journal::disk::{File, Lock};
use journal::{Directory, Disk, Space};

/// The directory, and always the same ample room.
pub struct Roomy(Directory);

impl Roomy {
    /// The directory of this name.
    pub fn at(directory: PathBuf) -> Self {
        Self(Directory(directory))
    }
}

impl std::fmt::Display for Roomy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Disk for Roomy {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.0.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.read(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.0.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }

    fn space(&self) -> io::Result<Space> {
        const ROOM: u64 = 1 << 40;
        Ok(Space { total: ROOM, free: ROOM })
    }
}
