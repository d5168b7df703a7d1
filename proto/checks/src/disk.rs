//! What a server needs of the disk: room, directories that it can write to, files that nobody else can read. Looks, and
//! never tries by writing.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;

use crate::{Found, Limit, Looked, Sheet, Wrong, blocking, failed, ok, warning};

/// How long the disk may take for a check.
pub const DISK: Duration = Duration::from_millis(1500);
/// With less room than this a start can fail: it copies the journal's last segment (64 MiB) and begins another.
pub const MIN_FREE_BYTES: u64 = 256 << 20;
/// With less room than this somebody should look.
pub const LOW_FREE_BYTES: u64 = 2 << 30;
/// With fewer files left than this a start can fail.
pub const MIN_FREE_FILES: u64 = 1_000;

/// How a file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes left for those who are not root.
    pub bytes: u64,
    /// Files that can still be made; none where the file system does not count them.
    pub files: Option<u64>,
    /// Whether it was mounted to be read only.
    pub read_only: bool,
}

impl Room {
    /// Of the file system on which this stands.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            bytes: found.f_bavail.saturating_mul(found.f_frsize),
            files: (found.f_files > 0).then_some(found.f_favail),
            read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// Whether it is enough, for what stands at this path.
    pub fn is_enough(self, path: &Path) -> Looked<()> {
        let at = path.display();
        let told = format!("{} free", bytes(self.bytes));
        if self.bytes < MIN_FREE_BYTES {
            return Err(failed(
                format!("{at}: {told}, and a start needs {}", bytes(MIN_FREE_BYTES)),
                format!("df -h {at}; make room there, or a larger disk: segments of a log are never deleted"),
            ));
        }
        if let Some(files) = self.files.filter(|files| *files < MIN_FREE_FILES) {
            return Err(failed(
                format!("{at}: only {files} more files can be made"),
                format!("df -i {at}; remove files that are of no use there"),
            ));
        }
        if self.bytes < LOW_FREE_BYTES {
            return Ok(warning((), told, format!("df -h {at}; plan for more room before it is full")));
        }
        Ok(ok((), told))
    }
}

/// Room in each of these directories, told once for each file system.
pub fn room(directories: &[PathBuf]) -> Looked<()> {
    let mut devices = Vec::new();
    let mut seen = None;
    for directory in directories {
        let metadata = there(directory)?;
        if devices.contains(&metadata.dev()) {
            continue;
        }
        devices.push(metadata.dev());
        let room = Room::of(directory).map_err(|error| unreadable(directory, &error))?.is_enough(directory)?;
        // The worse of two is told.
        if seen.as_ref().is_none_or(|before: &crate::Seen<()>| before.outcome < room.outcome) {
            seen = Some(room);
        }
    }
    Ok(seen.unwrap_or_else(|| ok((), "nothing is kept there")))
}

/// Whether whoever owns the first of these directories can write to all of them.
pub fn writable(directories: &[PathBuf]) -> Looked<()> {
    for directory in directories {
        let metadata = there(directory)?;
        let at = directory.display();
        if !metadata.is_dir() {
            return Err(failed(format!("{at} is no directory"), format!("move it away: mv {at} {at}.old")));
        }
        if metadata.mode() & 0o300 != 0o300 {
            return Err(failed(
                format!("{at} has mode {:03o}: its owner cannot write to it", metadata.mode() & 0o777),
                format!("chmod u+rwx {at}"),
            ));
        }
        if Room::of(directory).map_err(|error| unreadable(directory, &error))?.read_only {
            return Err(failed(
                format!("{at} is on a file system that is mounted to be read only"),
                format!(
                    "findmnt --target {at}; look into `dmesg` why, then: mount -o remount,rw \
                     \"$(findmnt -n -o TARGET --target {at})\""
                ),
            ));
        }
    }
    Ok(ok((), ""))
}

/// Whether all that is in a directory, one level deep, belongs to whom the directory belongs to; and whether we are
/// somebody who can see it: its owner, or root.
pub fn owned(directory: &Path) -> Looked<()> {
    let owner = there(directory)?.uid();
    let at = directory.display();
    let me = rustix::process::geteuid().as_raw();
    if me != 0 && me != owner {
        return Err(failed(
            format!("{at} belongs to user {owner}, and you are user {me}"),
            format!("ask as that user: sudo -u '#{owner}' and the same command"),
        ));
    }
    let list = |directory: &Path| -> Result<Vec<PathBuf>, Wrong> {
        let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
        Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
    };
    let mut all = list(directory)?;
    for inside in all.clone().into_iter().filter(|path| path.is_dir()) {
        all.extend(list(&inside)?);
    }
    all.sort();
    for path in all {
        // What has gone meanwhile is nobody's.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.uid() != owner {
            return Err(failed(
                format!("{} belongs to user {}, and its directory to user {owner}", path.display(), metadata.uid()),
                format!("chown -R {owner} {at}"),
            ));
        }
    }
    Ok(ok((), format!("of user {owner}")))
}

/// Tells of all three, for a server's directory and what it keeps in it. What is found is that we can see it.
pub async fn lines<P: Copy + Ord + fmt::Display, T>(
    sheet: &Sheet<P>,
    part: P,
    rests_on: &Found<T>,
    directory: &Path,
    kept: &[PathBuf],
) -> Found<()> {
    let at = directory.display().to_string();
    let [owner, directories, space] = ["owner", "directories", "room"].map(|name| sheet.line(part, name, &at));
    let here = directory.to_owned();
    let looked = async {
        rests_on.get()?;
        blocking(move || owned(&here)).await
    };
    let owner = owner.looks(slow(directory), looked).await;
    let all: Vec<_> = [directory.to_owned()].into_iter().chain(kept.iter().cloned()).collect();
    let both = all.clone();
    let looked = async {
        owner.get()?;
        blocking(move || writable(&both)).await
    };
    let there = directories.looks(slow(directory), looked).await;
    let looked = async {
        there.get()?;
        blocking(move || room(&all)).await
    };
    space.looks(slow(directory), looked).await;
    owner
}

/// A directory as it can be looked at: that of a file named without one is this one.
pub fn directory(named: &Path) -> PathBuf {
    if named.as_os_str().is_empty() { PathBuf::from(".") } else { named.components().collect() }
}

/// How long a disk may take for a check of something that stands here.
pub fn slow(path: &Path) -> Limit {
    Limit::new(DISK, format!("ls -l {}; look into `dmesg` whether the disk is well", path.display()))
}

/// Bytes, as people say them.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 10 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 10 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn there(path: &Path) -> Result<Metadata, Wrong> {
    fs::metadata(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Wrong {
    let at = path.display();
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => format!("put {at} back from a copy; is its disk mounted? findmnt"),
        io::ErrorKind::PermissionDenied => format!("ls -ld {at}; ask as the user that it belongs to"),
        _ => format!("ls -ld {at}; look into `dmesg` whether the disk is well"),
    };
    failed(format!("{at}: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn finding(looked: Looked<()>) -> String {
        match looked {
            Ok(seen) => format!("{:?}: {}", seen.outcome, seen.finding),
            Err(Wrong::Failed { finding, remedy }) => format!("Failed: {finding} ({remedy})"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn room_is_judged_on_each_side_of_its_limits() {
        let at = Path::new("/srv");
        let judged = |bytes, files| finding(Room { bytes, files, read_only: false }.is_enough(at));
        assert!(judged(MIN_FREE_BYTES - 1, None).starts_with("Failed: /srv: 255 MiB free"));
        assert!(judged(MIN_FREE_BYTES, None).starts_with("Warning: 256 MiB free"));
        assert!(judged(LOW_FREE_BYTES - 1, None).starts_with("Warning"));
        assert_eq!(judged(LOW_FREE_BYTES, None), "Ok: 2048 MiB free");
        assert!(judged(LOW_FREE_BYTES, Some(MIN_FREE_FILES - 1)).contains("999 more files"));
        assert_eq!(judged(LOW_FREE_BYTES, Some(MIN_FREE_FILES)), "Ok: 2048 MiB free");
    }

    #[test]
    fn a_file_system_without_any_room_is_told() {
        // Every Linux has one on which no byte is free.
        let told = finding(room(&[PathBuf::from("/proc")]));
        assert!(told.starts_with("Failed: /proc: 0 KiB free"), "{told}");
    }

    #[test]
    fn a_directory_that_its_owner_cannot_write_to_is_told_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("log");
        fs::create_dir(&inside).unwrap();
        let both = [directory.path().to_owned(), inside.clone()];
        assert_eq!(finding(writable(&both)), "Ok: ");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o555)).unwrap();
        let told = finding(writable(&both));
        assert!(told.contains("mode 555") && told.contains(&format!("chmod u+rwx {}", inside.display())), "{told}");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir(&inside).unwrap();
        assert!(finding(writable(&both)).contains("put "));
        fs::write(&inside, "").unwrap();
        assert!(finding(writable(&both)).contains("no directory"));
    }

    #[test]
    fn what_belongs_to_its_directorys_owner_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key"), "").unwrap();
        assert!(finding(owned(directory.path())).starts_with("Ok: of user"));
    }
}
