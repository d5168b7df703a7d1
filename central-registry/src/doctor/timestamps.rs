//! The timestamping authorities that the instance approves: does each answer, with a certificate that is approved, by a clock
//! that agrees with this machine's?

use checks::{Found, Limit, failed_by, not_checked, ok, reach};
use proto::digest::Digest;
use proto::registration::Address;
use registry_client::timestamping::token;

use super::door::State;
use super::keys::Keys;
use super::{File, OTHERS, Options, Part, Sheet};
use crate::publish::Publication;

/// Asks each of them for a timestamp over nothing, which is kept nowhere.
pub(super) async fn ask(
    sheet: &Sheet,
    options: &Options,
    file: &Found<File>,
    keys: &Keys,
    published: &Found<Publication>,
    clock: &Found<()>,
    state: &Found<State>,
) {
    let none = |says| drop(sheet.line(Part::Timestamps, "timestamping authorities", "").says(says));
    let approved = match published.get() {
        Err(wrong) => return none(Err(wrong)),
        Ok(published) => published.trusted().configuration().timestamping.clone(),
    };
    if approved.is_empty() {
        return none(Ok(ok((), "none is approved yet: the next start approves the registry's own")));
    }
    for authority in &approved {
        let at = authority.address.as_ref().map_or_else(|| "this registry".to_owned(), ToString::to_string);
        let line = sheet.line(Part::Timestamps, format!("timestamping authority {}", authority.approved.name), at);
        let slow =
            Limit::new(OTHERS, "ask the authority's operator whether it hangs; servers ask the next one meanwhile");
        let looked = async {
            clock.get()?;
            let (file, published) = (file.get()?, published.get()?);
            let registry = match &authority.address {
                Some(_) => None,
                None if matches!(state.get()?, State::Running(_)) => {
                    let here: Address =
                        reach::from_here(file.configuration.listen).to_string().parse().expect("an address and a port");
                    Some((here, *keys.fingerprint.get()?))
                }
                None => return Err(not_checked("the registry does not run")),
            };
            let registry = registry.as_ref().map(|(address, key)| (address, *key));
            let configuration = published.trusted().configuration();
            let is_revoked = |key: &Digest| configuration.revoked.contains(key);
            match token(authority, Digest::of(&[b"doctor"]), registry, &is_revoked, &|| (options.clock)()).await {
                Ok((_, stamped)) => {
                    Ok(ok((), format!("it answers with an approved certificate; its clock says {}", stamped.time)))
                }
                Err(error) => Err(failed_by(&error, error.remedy())),
            }
        };
        line.looks(slow, looked).await;
    }
}
