//! The archive of the message log: can it be listed, and does it give back what is put there?

use checks::{Found, Limit, failed_by, not_checked, ok};
use journal::Directory;

use super::{File, OTHERS, Part, Sheet};
use crate::archive::NoArchive;
use crate::audit::archived;
use crate::join::AUDIT_LOG;

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
        Ok(ok((), format!("{} segments; what is written is read back{stays}", listed.len())))
    };
    line.looks(slow, looked).await;
}
