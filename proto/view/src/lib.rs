//! A view of a journal, in sled: it holds nothing that the journal does not, and is built again where it is missing, behind,
//! ahead or spoiled. The journal is trusted, the view is not.

use std::fs::{File, TryLockError};
use std::path::Path;

use sled::{Config, Db, Error};

/// Opens or makes the view in this directory. One that a kill or a full disk spoiled is thrown away, and empty then: nobody
/// has to be called for what can be built again. Nothing is thrown away while another process has it open.
pub fn open(directory: &Path, config: Config) -> sled::Result<Db> {
    let config = config.path(directory);
    match config.open() {
        Err(error @ Error::Corruption { .. }) if !is_open(directory)? => {
            tracing::warn!(%error, directory = %directory.display(), "the view is spoiled and is built again");
            std::fs::remove_dir_all(directory)?;
            config.open()
        }
        opened => opened,
    }
}

/// sled reads its parameters before it locks its data.
fn is_open(directory: &Path) -> std::io::Result<bool> {
    match File::open(directory.join("db")).map(|data| data.try_lock()) {
        Ok(Ok(())) => Ok(false),
        Ok(Err(TryLockError::WouldBlock)) => Ok(true),
        Ok(Err(TryLockError::Error(error))) => Err(error),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoil(directory: &Path) {
        std::fs::write(directory.join("conf"), b"no parameters of sled's").unwrap();
    }

    #[test]
    fn a_spoiled_view_is_empty_and_a_good_one_is_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("view");
        let write = || {
            let before = open(&place, Config::new()).unwrap().insert("key", "value").unwrap();
            // A thread of sled's may hold it for a moment longer.
            while is_open(&place).unwrap() {
                std::thread::yield_now();
            }
            before
        };
        assert_eq!(write(), None);
        assert_eq!(write().unwrap(), "value");
        spoil(&place);
        assert!(matches!(sled::open(&place), Err(Error::Corruption { .. })));
        assert_eq!(write(), None, "it was thrown away");
        assert_eq!(write().unwrap(), "value");
    }

    #[test]
    fn what_another_has_open_is_not_thrown_away() {
        let directory = tempfile::tempdir().unwrap();
        let held = open(directory.path(), Config::new()).unwrap();
        held.insert("key", "value").unwrap();
        spoil(directory.path());
        assert!(matches!(open(directory.path(), Config::new()), Err(Error::Corruption { .. })));
        held.flush().unwrap();
        assert!(directory.path().join("db").exists());
    }
}
