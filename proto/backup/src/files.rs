//! Files and directories as a backup is written to and put back into: whole or not at all, never over anything.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::PartName;

/// A file that gets its name when it is whole. Dropped before, nothing of it is left.
pub struct NewFile {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Takes the name, which must be free, and opens a file beside it for the owner only.
    pub fn create(path: &Path) -> io::Result<Self> {
        // The empty file holds the name; a crash leaves it, and it is no backup.
        owner_only().open(path)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        match owner_only().open(&beside) {
            Ok(file) => Ok(Self { file, beside, path: path.to_owned(), kept: false }),
            Err(error) => {
                let _ = fs::remove_file(path);
                Err(io::Error::new(error.kind(), format!("{}: {error}", beside.display())))
            }
        }
    }

    /// On the disk, and under its name. A crash before the rename leaves no backup, and one after it this one.
    pub fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.kept = true;
        sync_parent(&self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = (fs::remove_file(&self.beside), fs::remove_file(&self.path));
        }
    }
}

/// Why nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// Something is there.
    #[error("{0} is not empty, and nothing is ever put back over anything; move it away, or give another directory")]
    NotEmpty(PathBuf),
    /// A file or directory cannot be written.
    #[error("{path}: {source}; check the directory above it, and the space on its disk")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A directory that gets its name when it is whole. Dropped before, nothing of it is left.
pub struct Aside {
    at: PathBuf,
    directory: PathBuf,
    made: bool,
}

impl Aside {
    /// Whether something could be put back into this directory: it is empty, or not there.
    pub fn may_become(directory: &Path) -> Result<(), NotRestored> {
        match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotRestored::NotEmpty(directory.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(NotRestored::File { path: directory.to_owned(), source }),
        }
    }

    /// Makes a directory beside this one.
    pub fn beside(directory: &Path) -> Result<Self, NotRestored> {
        Self::may_become(directory)?;
        let named = |source| NotRestored::File { path: directory.to_owned(), source };
        // Also where it was called "." or ends in a slash.
        let directory = fs::canonicalize(directory).or_else(|_| std::path::absolute(directory)).map_err(named)?;
        let mut name = directory.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.restoring", std::process::id()));
        let at = directory.with_file_name(name);
        let file = |source| NotRestored::File { path: at.clone(), source };
        DirBuilder::new().mode(0o700).create(&at).map_err(file)?;
        Ok(Self { at, directory, made: false })
    }

    /// Where it is written now.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// A new file in it, for the owner only.
    pub fn create(&self, name: &PartName) -> Result<File, NotRestored> {
        let path = self.at.join(name.as_str());
        let parent = path.parent().unwrap_or(&self.at);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.and_then(|()| owner_only().open(&path)).map_err(|source| NotRestored::File { path, source })
    }

    /// The same, with this content.
    pub fn write(&self, name: &PartName, content: &[u8]) -> Result<(), NotRestored> {
        let mut file = self.create(name)?;
        file.write_all(content).map_err(|source| NotRestored::File { path: self.at.join(name.as_str()), source })
    }

    /// Makes all of it durable, and gives it its name. A crash before the rename leaves a directory whose name ends in
    /// `.restoring` and that no server uses; one after it, all that was put back.
    pub fn become_it(mut self) -> Result<(), NotRestored> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| NotRestored::File { path, source }
        };
        sync_all(&self.at).map_err(file(&self.at))?;
        fs::rename(&self.at, &self.directory).map_err(file(&self.directory))?;
        self.made = true;
        sync_parent(&self.directory).map_err(file(&self.directory))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.made {
            let _ = fs::remove_dir_all(&self.at);
        }
    }
}

fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(directory)?.sync_all()
}

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_whole_or_not_there_and_never_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(NewFile::create(&path).is_err(), "the name is taken while it is written");
        drop(file);
        assert!(names(directory.path()).is_empty(), "what was not kept is not there");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.keep().unwrap();
        assert_eq!((names(directory.path()), fs::read(&path).unwrap()), (vec!["backup".to_owned()], b"whole".to_vec()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NewFile::create(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_directory_is_whole_or_not_there_and_never_over_anything() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("moj");
        let fill = |aside: &Aside| aside.write(&"keys/signing.pem".parse().unwrap(), b"key").unwrap();
        let aside = Aside::beside(&directory).unwrap();
        fill(&aside);
        assert!(!directory.exists());
        drop(aside);
        assert!(names(place.path()).is_empty(), "what was not finished is not there");
        fs::create_dir(&directory).unwrap();
        let aside = Aside::beside(&directory.join("")).unwrap();
        fill(&aside);
        assert!(aside.create(&"keys/signing.pem".parse().unwrap()).is_err(), "no part is written over another");
        aside.become_it().unwrap();
        assert_eq!(
            (names(place.path()), fs::read(directory.join("keys/signing.pem")).unwrap()),
            (vec!["moj".into()], b"key".to_vec())
        );
        for (path, mode) in
            [(directory.clone(), 0o700), (directory.join("keys"), 0o700), (directory.join("keys/signing.pem"), 0o600)]
        {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
        assert!(matches!(Aside::beside(&directory), Err(NotRestored::NotEmpty(_))));
        assert!(matches!(Aside::beside(&directory.join("keys/signing.pem")), Err(NotRestored::File { .. })));
    }
}
