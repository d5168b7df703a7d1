//! What was decided and what was published: whole, of one history, and good for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use checks::{Found, Limit, Looked, blocking, disk, failed, ok, warning};
use proto::certificate::{Authentication, Signing};
use proto::digest::Digest;
use proto::global_configuration::document::MemberDocument;
use proto::global_configuration::update::{TIMESTAMP, root_file};
use proto::time::Time;
use proto::transport::MAX_SKEW;

use super::door::State;
use super::keys::Keys;
use super::{File, Part, READING, Sheet};
use crate::history::{self, Ending, HistoryError, JOURNAL};
use crate::init::ANCHOR;
use crate::publish::Publication;
use crate::spread::{self, PUBLIC, SIGNED_EVERY};

/// A role, or a certificate, that ends sooner is told.
pub const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);

/// So little of a server's newest authentication certificate is left where it was not renewed for days: it is good for
/// seven, and renewed each day.
pub const NOT_RENEWED: Duration = Duration::from_secs(4 * 86_400);

const REMEDY: &str = "timedatectl set-ntp true; timedatectl shows whether it is synchronised";

/// The published files, taken up as the registry takes them up, and the anchor that they grew from.
pub(super) async fn files(sheet: &Sheet, file: &Found<File>, ours: &Found<()>) -> Found<Publication> {
    let directory = file.get().map(File::directory).unwrap_or_default();
    let public = directory.join(PUBLIC);
    let line = sheet.line(Part::Published, "published files", public.display().to_string());
    let anchor = sheet.line(Part::Published, "anchor", directory.join(ANCHOR).display().to_string());
    let copy = format!("put {} back from a copy or a mirror, whole", public.display());
    let looked = async {
        ours.get()?;
        let copy = copy.clone();
        blocking(move || {
            let files = spread::files(&public).map_err(|error| failed(error.to_string(), &copy))?;
            let publication = Publication::read(&files).map_err(|error| failed(error.to_string(), &copy))?;
            let configuration = publication.trusted().configuration();
            let found = format!(
                "version {} of {}, whole: {} members, {} servers",
                publication.version(),
                configuration.instance,
                configuration.members.len(),
                configuration.servers.len()
            );
            Ok(ok(publication, found))
        })
        .await
    };
    let published = line.looks(Limit::new(READING, copy.clone()), looked).await;
    let same = || {
        let published = published.get()?;
        let copy = || {
            format!("cp {0}/{1} {2}", directory.join(PUBLIC).display(), root_file(1), directory.join(ANCHOR).display())
        };
        let found = std::fs::read(directory.join(ANCHOR)).map_err(|error| failed(error.to_string(), copy()))?;
        if found != published.anchor()[..] {
            let finding =
                "it is not the first root of what is published: whoever joins with it takes nothing from here";
            return Err(failed(finding, format!("if its digest is not the one that members were told: {}", copy())));
        }
        Ok(ok((), format!("sha256:{}", Digest::of(&[&found]))))
    };
    anchor.says(same());
    published
}

/// How the audit journal ends.
pub(super) async fn journal(sheet: &Sheet, file: &Found<File>, ours: &Found<()>) -> Found<Ending> {
    let directory = file.get().map(File::directory).unwrap_or_default();
    let place = directory.join(JOURNAL);
    let line = sheet.line(Part::Published, "audit journal", place.display().to_string());
    let back = format!("stop the registry; put {} back from a copy or the archive, whole", place.display());
    let looked = async {
        ours.get()?;
        let start = file.get()?.start();
        blocking(move || {
            let ending = history::ending(&directory).map_err(|error: HistoryError| failed(error.to_string(), &back))?;
            let missing = "there is no journal, and `init` made one: the disk is another, or was emptied";
            let ending = ending.ok_or_else(|| failed(missing, &back))?;
            let segments = format!("{} segments", ending.tail.segments);
            if ending.tail.failed {
                let finding =
                    format!("{segments}; a write has failed, and the journal has ended: nothing is decided any more");
                return Ok(warning(ending, finding, format!("look into `dmesg` and df -h first; then {start}")));
            }
            Ok(ok(ending, format!("{segments}, the last of them whole")))
        })
        .await
    };
    line.looks(disk::slow(&place), looked).await
}

/// Whether what is published is what was recorded.
pub(super) fn fit(sheet: &Sheet, published: &Found<Publication>, journal: &Found<Ending>) {
    let looked = || {
        let (published, journal) = (published.get()?, journal.get()?);
        let files = published.version();
        let Some((version, digest)) = journal.published else {
            return Ok(ok((), "no version is in the journal's last segment"));
        };
        let timestamp = published.files().get(TIMESTAMP).map(|bytes| Digest::of(&[bytes]));
        if files > version {
            let finding =
                format!("version {files} is published, and the journal knows only {version}: it is an older copy");
            return Err(failed(finding, "put the newest journal back: what was decided since is in no other place"));
        }
        if files == version && timestamp != Some(digest) {
            let finding = format!("version {files} is published with another content than the one recorded");
            return Err(failed(
                finding,
                "put public/ back from a mirror that has the version recorded; find out who changed it",
            ));
        }
        // One may be recorded and not yet written, at this moment or since a crash.
        Ok(ok((), format!("version {files} is published, {version} was recorded")))
    };
    sheet.line(Part::Published, "published as recorded", "").says(looked());
}

/// The clock, against what was written down: the registry asks nobody else.
pub(super) fn clock(sheet: &Sheet, now: Time, published: &Found<Publication>, journal: &Found<Ending>) -> Found<()> {
    let signed = published.get().ok().map(|published| published.trusted().configuration().signed_at);
    let last = journal.get().ok().and_then(|journal| journal.last);
    sheet.line(Part::Clock, "clock", now.to_string()).says(judged(now, signed.max(last)))
}

fn judged(now: Time, last: Option<Time>) -> Looked<()> {
    let Some(last) = last else { return Ok(warning((), "compared with nothing", REMEDY)) };
    let behind = if last > now { last.distance(now) } else { Duration::ZERO };
    let told = format!("{} s behind the last time that was recorded", behind.as_secs());
    if behind > MAX_SKEW {
        return Err(failed(
            told,
            format!("{REMEDY}; what is signed bears the recorded time until the clock has caught up"),
        ));
    }
    if behind > Duration::ZERO {
        return Ok(warning((), told, REMEDY));
    }
    Ok(ok((), "not behind what was recorded; compare it with another: timedatectl"))
}

/// How long all of it holds.
pub(super) fn validity(
    sheet: &Sheet,
    now: Time,
    clock: &Found<()>,
    published: &Found<Publication>,
    keys: &Keys,
    state: &Found<State>,
    file: &Found<File>,
) {
    let fresh = || {
        clock.get()?;
        let configuration = published.get()?.trusted().configuration();
        let (signed, expires) = (configuration.signed_at, configuration.expires_at);
        let start = file.get()?.start();
        let is_running = matches!(state.get(), Ok(State::Running(_)));
        if now >= expires {
            let finding = format!("EXPIRED at {expires}: no security server exchanges anything");
            return Err(failed(finding, start));
        }
        if is_running && now > signed.plus(3 * SIGNED_EVERY) {
            let finding = format!("signed {signed}, and every minute is due: it runs, and does not sign");
            let remedy = "look into its diagnostics for `could not be published`: the disk, or a role's key";
            return Err(failed(finding, remedy));
        }
        if !is_running {
            return Ok(warning((), format!("signed {signed}; servers go on until {expires}"), start));
        }
        Ok(ok((), format!("signed {signed}, good until {expires}")))
    };
    sheet.line(Part::Validity, "freshness", "").says(fresh());

    let roles = || {
        clock.get()?;
        // The three that are signed every few hours, or minutes, have a line of their own: freshness.
        let signed_often = ["timestamp", "snapshot", "revoked"];
        let ends =
            published.get()?.expiries().filter(|(role, _)| !signed_often.contains(role)).min_by_key(|(_, at)| *at);
        let Some((role, at)) = ends else { return Err(checks::not_checked("no role is there")) };
        let told = format!("{role} is the first to end, at {at}");
        let remedy = match role {
            "root" => "no command renews a root yet: plan a new instance with whoever made this one".to_owned(),
            _ => "the registry signs it again by itself while it runs: look into its diagnostics".to_owned(),
        };
        ending(now, at, told, remedy)
    };
    sheet.line(Part::Validity, "roles", "").says(roles());

    let authority = || {
        clock.get()?;
        let at = keys.authority.get()?.not_after;
        ending(now, at, format!("good until {at}"), "plan for a new authority with the maintainers".to_owned())
    };
    sheet.line(Part::Validity, "authority's certificate", "").says(authority());
}

fn ending(now: Time, at: Time, told: String, remedy: String) -> Looked<()> {
    if now >= at {
        return Err(failed(format!("EXPIRED: {told}"), remedy));
    }
    if now.plus(ENDS_SOON) >= at {
        return Ok(warning((), told, remedy));
    }
    Ok(ok((), told))
}

/// Members whose newest certificates end soon, or have ended: their servers renew them by themselves.
pub(super) async fn members(sheet: &Sheet, now: Time, clock: &Found<()>, published: &Found<Publication>) {
    let line = sheet.line(Part::Members, "members' certificates", "");
    let looked = async {
        clock.get()?;
        let files = published.get()?.files().clone();
        blocking(move || {
            let documents = files.iter().filter(|(name, _)| name.starts_with("members/"));
            let mut ends: Vec<(Time, Duration, String)> = documents
                .filter_map(|(_, bytes)| serde_json::from_slice::<MemberDocument>(bytes).ok())
                .flat_map(|member| ends_of(&member))
                .collect();
            ends.sort();
            let behind: Vec<_> = ends.iter().filter(|(at, left, _)| now.plus(*left) >= *at).collect();
            let Some((at, _, server)) = behind.first() else {
                return Ok(ok((), format!("{} in use, all renewed", ends.len())));
            };
            let ended = if now > *at { "ended" } else { "ends" };
            let finding = format!("{} are not renewed; that of {server} {ended} at {at}", behind.len());
            let remedy = "ask those members' admins whether their servers run and reach this registry (there: \
                          security-server doctor); one whose certificate ended 30 days ago joins anew: central-registry invite";
            Ok(warning((), finding, remedy))
        })
        .await
    };
    line.looks(Limit::new(READING, "look whether this machine is overloaded: uptime"), looked).await;
}

/// When the newest certificate of each use ends at each server, how much of it should be left, and whose it is.
fn ends_of(member: &MemberDocument) -> Vec<(Time, Duration, String)> {
    let authentication = member.servers.iter().filter_map(|server| {
        let read = server.authentication.iter().filter_map(|der| Authentication::parse(der.as_bytes()).ok());
        Some((read.map(|certificate| certificate.not_after).max()?, NOT_RENEWED, server.server.to_string()))
    });
    let mut signing = BTreeMap::new();
    for read in member.signing.iter().filter_map(|signing| Signing::parse(signing.certificate.as_bytes()).ok()) {
        let newest = signing.entry(read.server).or_insert(read.not_after);
        *newest = read.not_after.max(*newest);
    }
    authentication.chain(signing.into_iter().map(|(server, at)| (at, ENDS_SOON, server.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use checks::Outcome;

    use super::*;

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    #[test]
    fn a_clock_behind_what_was_recorded_is_told_on_each_side_of_the_limit() {
        let outcome = |last: Time| judged(NOW, Some(last)).map(|seen| seen.outcome()).ok();
        assert_eq!(outcome(NOW), Some(Outcome::Ok));
        assert_eq!(outcome(NOW.plus(MAX_SKEW)), Some(Outcome::Warning));
        assert_eq!(outcome(NOW.plus(MAX_SKEW + Duration::from_millis(1))), None);
    }

    #[test]
    fn what_ends_soon_is_told_on_each_side_of_the_limit() {
        let outcome = |at: Time| ending(NOW, at, String::new(), String::new()).map(|seen| seen.outcome()).ok();
        assert_eq!(outcome(NOW), None);
        assert_eq!(outcome(NOW.plus(Duration::from_millis(1))), Some(Outcome::Warning));
        assert_eq!(outcome(NOW.plus(ENDS_SOON)), Some(Outcome::Warning));
        assert_eq!(outcome(NOW.plus(ENDS_SOON + Duration::from_millis(1))), Some(Outcome::Ok));
    }
}
