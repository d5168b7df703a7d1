//! The timestamping authorities that the configuration approves: does each answer, with a certificate that is approved, by a clock
//! that agrees with ours?

use checks::{Found, Limit, failed_by, ok};
use proto::digest::Digest;
use registry_client::timestamping::token;

use super::registry::Told;
use super::{Here, OTHERS, Part, Sheet};

/// Asks each of them for a timestamp over nothing, which is kept nowhere.
pub(super) async fn ask(sheet: &Sheet, here: &Here, told: &Found<Told>, clock: &Found<()>) {
    let none = |says| drop(sheet.line(Part::Timestamps, "timestamping authorities", "").says(says));
    let approved = match here.stored.get() {
        Err(wrong) => return none(Err(wrong)),
        Ok(stored) if stored.configuration().timestamping.is_empty() => {
            return none(Ok(ok((), "the configuration approves none: nothing is stamped")));
        }
        Ok(stored) => stored.configuration().timestamping.clone(),
    };
    let asking = approved.iter().map(async |authority| {
        let at = authority.address.as_ref().map_or_else(|| "at the registry".to_owned(), ToString::to_string);
        let line = sheet.line(Part::Timestamps, format!("timestamping authority {}", authority.approved.name), at);
        let slow = Limit::new(OTHERS, "ask the authority's operator whether it hangs; the next one is asked meanwhile");
        let looked = async {
            clock.get()?;
            let (file, stored) = (here.file.get()?, here.stored.get()?);
            if authority.address.is_none() {
                told.get()?;
            }
            let (address, key) = &file.configuration.registry;
            let configuration = stored.configuration();
            let is_revoked = |key: &Digest| configuration.revoked.contains(key);
            let now = || here.clock.now();
            match token(authority, Digest::of(&[b"doctor"]), Some((address, *key)), &is_revoked, &now).await {
                Ok((_, stamped)) => {
                    Ok(ok((), format!("it answers with an approved certificate; its clock says {}", stamped.time)))
                }
                Err(error) => Err(failed_by(&error, error.remedy())),
            }
        };
        line.looks(slow, looked).await;
    });
    futures_util::future::join_all(asking).await;
}
