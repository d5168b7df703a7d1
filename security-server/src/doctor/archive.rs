//! The archive of the message log: can it be listed, and does it give back what is put there? And of segments that are in it only: is
//! what is left of them here what it must be, and is each of them there?

use std::collections::BTreeSet;

use checks::{Found, Limit, failed, failed_by, not_checked, ok};
use journal::Directory;

use super::{File, OTHERS, Part, Sheet};
use crate::archive::NoArchive;
use crate::archive::store::Object;
use crate::audit::archived;
use crate::join::{AUDIT_LOG, MESSAGE_LOG};

/// Lists it, writes a word, has it refused a second time, reads it and removes it. Where none is configured there is nothing to say.
pub(super) async fn try_out(sheet: &Sheet, file: &Found<File>) {
    let Ok(file) = file.get() else { return };
    let Some(archiving) = &file.configuration.archive else { return };
    let line = sheet.line(Part::Archive, "archive", archiving.place.to_string());
    let slow = Limit::new(OTHERS, "ask who runs the store whether it hangs; segments wait here meanwhile");
    let looked = async {
        let settings = archiving.settings(&file.configuration.server, &file.configuration.directory);
        let settings = settings.map_err(|error| match error {
            NoArchive::Store(_) => {
                not_checked("the store's credentials are not given to this command; give it the server's")
            }
            error => failed_by(&error, format!("correct {}", file.at(&["archive"]))),
        })?;
        let remedy =
            || format!("look after the store, or correct {}; segments wait here meanwhile", file.at(&["archive"]));
        // What the audit log says was archived must have a place: a file system may not be mounted.
        let (audit, to) = (Directory(file.configuration.directory.join(AUDIT_LOG)), settings.store.to());
        let noted = tokio::task::spawn_blocking(move || archived(&audit, &to)).await;
        // An audit log that cannot be read has its own line.
        if noted.is_ok_and(|noted| noted.is_ok_and(|noted| !noted.is_empty())) {
            settings.store.is_begun().await.map_err(|error| failed_by(&error, remedy()))?;
        }
        let listed = settings.store.list().await.map_err(|error| failed_by(&error, remedy()))?;
        let stays = settings.store.try_out().await.map_err(|error| failed_by(&error, remedy()))?;
        let stays = if stays { "; doctor.txt cannot be removed there, and stays" } else { "" };
        let found = format!("{} segments; what is written is read back{stays}", listed.len());
        Ok(ok(listed, found))
    };
    let listed = line.looks(slow, looked).await;
    removed_segments(sheet, file, listed).await;
}

/// What was removed here must be in the archive, and what is left of it here must be right.
async fn removed_segments(sheet: &Sheet, file: &File, listed: Found<Vec<Object>>) {
    let Some(keep) = file.configuration.archive.as_ref().and_then(|archive| archive.keep_local) else { return };
    let line = sheet.line(Part::Archive, "removed segments", format!("kept here for {keep}"));
    let slow = Limit::new(OTHERS, "look after the disk of message-log");
    let place = file.configuration.directory.join(MESSAGE_LOG);
    let looked = async {
        let listed = listed.get()?;
        let here = Directory(place.clone());
        let look = tokio::task::spawn_blocking(move || {
            journal::check_remains(&here)?;
            journal::removed(&here)
        });
        let remedy = || {
            format!("put {}/*.removed back from a backup, or the segments back with `archive fetch`", place.display())
        };
        let looked = look.await.map_err(|error| failed_by(&error, "run the doctor again".to_owned()))?;
        let removed = looked.map_err(|error| failed_by(&error, remedy()))?;
        let there: BTreeSet<u64> = listed.iter().filter_map(|object| object.segment).collect();
        if let Some(gone) = removed.iter().find(|number| !there.contains(number)) {
            let what = format!("segment {gone} was removed here and is not in the archive");
            return Err(failed(what, "ask who runs the store; without it evidence of what is in it is lost"));
        }
        Ok(ok((), format!("{} are in the archive only, and what is left of them here is right", removed.len())))
    };
    line.looks(slow, looked).await;
}
