//! This server as others know it: its certificate, its keys in the configuration, its member, its subsystems.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use checks::{Found, Looked, blocking, disk, failed, names, ok, warning};
use proto::certificate::{Authentication, Authority, Signing};
use proto::global_configuration::update::Trusted;
use proto::global_configuration::{Configuration, Standing};
use proto::identifier::SubsystemId;
use proto::server_request::ENDED_AT_MOST;
use proto::signature::KeyId;
use proto::time::Time;

use super::doors::State;
use super::{File, Here, Part, Sheet};
use crate::clock::Clock;
use crate::global_configuration::Current;
use crate::keys::ring::{self, Use};
use crate::keys::{KEYS, Keys};
use crate::relay::Peers;
use crate::tls::PeerTls;

/// Of a certificate's life, this part should be left: a quarter. Renewal keeps more than that.
const LEFT: u32 = 4;

const JOIN_AGAIN: &str = "join again, with a new invitation: security-server join";

/// The authentication certificate in its file: of its form, this server's, by an authority of the instance, and of the
/// key that is here.
pub(super) async fn certificate(
    sheet: &Sheet,
    file: &Found<File>,
    keys: &Found<Keys>,
    stored: &Found<Trusted>,
) -> Found<Authentication> {
    let here = |of: fn(&Path, Use) -> PathBuf| {
        file.get().map(|file| of(&file.directory(), Use::Authentication)).unwrap_or_default()
    };
    let (path, key) = (here(ring::certificate_in_use), here(ring::key_in_use));
    let line = sheet.line(Part::Own, "authentication certificate", path.display().to_string());
    let copy = format!("put {} back from a copy; or {JOIN_AGAIN}", path.display());
    let looked = async {
        let configuration = file.get()?.configuration.clone();
        let server = configuration.server.clone();
        let authorities = stored.get()?.configuration().authorities.clone();
        let held = keys.get().ok().map(|keys| keys.authentication_key().public().clone());
        blocking(move || {
            let wrong = |finding: String| failed(finding, &copy);
            let chain = configuration.chain(Use::Authentication).map_err(|error| wrong(error.to_string()))?;
            let der = &chain[0];
            let read = Authentication::parse(der).map_err(|error| wrong(error.to_string()))?;
            if read.server != server {
                return Err(wrong(format!("it is the certificate of {}, and this server is {server}", read.server)));
            }
            let issued = |authority: &Vec<u8>| Authority::parse(authority).and_then(|authority| authority.issued(der));
            if !authorities.iter().any(|authority| issued(authority).is_ok()) {
                return Err(wrong(format!("no authority of {} issued it", server.owner().instance())));
            }
            if held.is_some_and(|held| held != read.key) {
                let key = key.file_name().unwrap_or_default().display();
                return Err(wrong(format!("it is for another key than {KEYS}/{key} holds")));
            }
            Ok(ok(read, "this server's, by an authority of the instance"))
        })
        .await
    };
    line.looks(disk::slow(&path), looked).await
}

/// TLS with peers, set up as the server sets it up.
pub(super) fn tls(
    sheet: &Sheet,
    file: &Found<File>,
    keys: &Found<Keys>,
    stored: &Found<Trusted>,
    certificate: &Found<Authentication>,
    clock: &Clock,
) -> Found<Arc<Peers>> {
    let looked = || {
        certificate.get()?;
        let (file, keys, stored) = (file.get()?, keys.get()?, stored.get()?);
        let wrong =
            |error: &dyn std::fmt::Display| failed(error.to_string(), "put certificates/ and keys/ back from one copy");
        let identity = file.configuration.identity(keys).map_err(|error| wrong(&error))?;
        let current = Arc::new(Current::new(Arc::clone(stored.configuration())));
        let tls = PeerTls::new(identity, current, clock.clone(), crate::names::Names::system());
        tls.accepting().map_err(|error| wrong(&error))?;
        Ok(ok(Peers::new(Arc::new(tls)), "certificate and key fit, the authorities are taken"))
    };
    sheet.line(Part::Own, "TLS with peers", "").says(looked())
}

/// How the configuration knows this server. What is found is that its certificate is good now.
pub(super) fn registered(sheet: &Sheet, here: &Here, clock: &Found<()>, newest: &Found<Trusted>) -> Found<()> {
    let Here { file, stored, certificate, .. } = here;
    let now = here.clock.now();
    let validity = || {
        clock.get()?;
        let certificate = certificate.get()?;
        good(now, certificate.not_before, certificate.not_after, "no peer talks to this server")
    };
    let validity = sheet.line(Part::Own, "certificate's validity", "").says(validity());

    // What the registry says now counts, where it can be asked.
    let configuration = || newest.get().or_else(|_| stored.get()).map(|trusted| Arc::clone(trusted.configuration()));
    let id = file.get().map(|file| file.configuration.server.to_string()).unwrap_or_default();
    let registered = || {
        let (file, configuration) = (file.get()?, configuration()?);
        let server = &file.configuration.server;
        let Some(registered) = configuration.servers.get(server) else {
            let finding = format!("the registry lists no server of this name{}", {
                names::did_you_mean(server.as_str(), configuration.servers.keys().map(|server| server.as_str()))
            });
            return Err(failed(finding, format!("correct {}: server; or {JOIN_AGAIN}", file.at(&["server"]))));
        };
        let found = format!("others reach it at {}", registered.address);
        if let Some(notice) = &registered.maintenance {
            let remedy = "ask the registry's admin to end it, when it is over";
            return Ok(warning(configuration.clone(), format!("{found}; it is in maintenance: {notice}"), remedy));
        }
        Ok(ok(configuration.clone(), found))
    };
    let registered = sheet.line(Part::Own, "registration", &id).says(registered());

    let authentication = || {
        let (file, configuration, certificate) = (file.get()?, registered.get()?, certificate.get()?);
        let key = certificate.key.id();
        not_revoked(configuration, &key, "TLS with peers")?;
        if !configuration.authenticates(&file.configuration.server, &key) {
            let finding = format!("key {key} is not registered for this server: no peer talks to it");
            return Err(failed(finding, format!("put keys/ and certificates/ back from a copy; or {JOIN_AGAIN}")));
        }
        Ok(ok((), format!("{key}, registered")))
    };
    sheet.line(Part::Own, "authentication key", "").says(authentication());

    let member = || {
        let (file, configuration) = (file.get()?, registered.get()?);
        let member = &file.configuration.member;
        match configuration.members.get(member).map(|member| member.standing) {
            Some(Standing::Active) => Ok(ok((), "active")),
            Some(Standing::Suspended) => {
                let remedy = format!("ask the registry's admin why; back again: central-registry restore {member}");
                Err(failed("suspended: nothing of it is exchanged", remedy))
            }
            None => {
                Err(failed("the registry lists no such member", format!("correct {}: member", file.at(&["member"]))))
            }
        }
    };
    let id = file.get().map(|file| file.configuration.member.to_string()).unwrap_or_default();
    let member = sheet.line(Part::Own, "member", id).says(member());

    sheet.line(Part::Own, "signing key", "").says(signing(here, clock, &registered));
    sheet.line(Part::Own, "renewal", "").says(renewal(here));
    sheet.line(Part::Own, "subsystems", "").says(subsystems(file, &registered, &member));
    validity
}

fn signing(here: &Here, clock: &Found<()>, registered: &Found<Arc<Configuration>>) -> Looked<()> {
    clock.get()?;
    let (file, configuration, now) = (here.file.get()?, registered.get()?, here.clock.now());
    // Without the passphrase the certificate beside the key says which it is.
    let key = match here.keys.get() {
        Ok(keys) => keys.signing.public().id(),
        Err(skipped) => {
            let chain = file.configuration.chain(Use::Signing).map_err(|_| skipped.clone())?;
            Signing::parse(&chain[0]).map_err(|_| skipped)?.key.id()
        }
    };
    not_revoked(configuration, &key, "messages of this member")?;
    let (server, member) = (&file.configuration.server, &file.configuration.member);
    let listed = configuration.members.get(member).and_then(|member| member.signing_keys.get(&key));
    let Some(listed) = listed.filter(|listed| listed.server == *server) else {
        let finding = format!("key {key} is not registered for {member} at this server: nobody takes its messages");
        return Err(failed(finding, format!("put keys/ back from a copy; or {JOIN_AGAIN}")));
    };
    good(now, listed.not_before, listed.not_after, "nobody takes this member's messages")?;
    if let Some(until) = listed.until.filter(|until| *until < now) {
        let finding = format!("another key took the place of {key} at {until}: nobody takes this member's messages");
        return Err(failed(finding, format!("put keys/ and certificates/ back from a newer copy; or {JOIN_AGAIN}")));
    }
    // The very question that a peer asks of each message; a suspension was told above.
    if configuration.active_member(member).is_some() && configuration.signing_key(member, server, &key, now).is_none() {
        return Err(failed(format!("key {key} is not good now"), JOIN_AGAIN));
    }
    good(now, listed.not_before, listed.not_after, "")
}

/// Whether the server that runs gets its keys renewed.
fn renewal(here: &Here) -> Looked<()> {
    let State::Running(health) = here.state.get()? else {
        return Ok(ok((), "the server is stopped: it renews what is due when it starts"));
    };
    if let Some(why) = &health.keys_not_renewed {
        let remedy = format!(
            "mend what it says: the server tries again by itself; `security-server keys list --config {}` shows until when \
             its keys are good",
            here.file.get()?.path.display()
        );
        return Ok(warning((), format!("not renewed: {why}"), remedy));
    }
    Ok(ok((), "the server renews its keys"))
}

fn not_revoked(configuration: &Configuration, key: &KeyId, for_what: &str) -> Result<(), checks::Wrong> {
    if configuration.revoked.contains(key) {
        let finding = format!("key {key} is REVOKED: it is no good for {for_what}, anywhere, ever again");
        return Err(failed(finding, format!("ask the registry's admin why; then {JOIN_AGAIN}")));
    }
    Ok(())
}

/// Whether a certificate is good now, and for how long.
fn good(now: Time, from: Time, until: Time, else_what: &str) -> Looked<()> {
    if now > until {
        let remedy = if now <= until.plus(ENDED_AT_MOST) {
            "start the server, and let it reach the registry: it asks for another by itself".to_owned()
        } else {
            format!("it ended too long ago to be renewed: {JOIN_AGAIN}")
        };
        return Err(failed(format!("EXPIRED at {until}: {else_what}"), remedy));
    }
    if now < from {
        let finding = format!("not good before {from}: {else_what}");
        return Err(failed(finding, "timedatectl: is this machine's clock right? Else wait until then"));
    }
    let (left, whole) = (now.distance(until), from.distance(until));
    let days = left.as_secs() / Duration::from_secs(86_400).as_secs();
    if left < whole / LEFT {
        let remedy = "it should have been renewed by now: look at \"renewal\" below, and at the registry above";
        return Ok(warning((), format!("good until {until}, {days} days more"), remedy));
    }
    Ok(ok((), format!("good until {until}, {days} days more")))
}

/// Every subsystem of ours that the file names is one that the registry knows at this server.
fn subsystems(file: &Found<File>, registered: &Found<Arc<Configuration>>, member: &Found<()>) -> Looked<()> {
    member.get()?;
    let (file, configuration) = (file.get()?, registered.get()?);
    let ours = &file.configuration;
    let hosted: Vec<&SubsystemId> = configuration
        .active_member(&ours.member)
        .into_iter()
        .flat_map(|member| member.subsystems.iter())
        .filter_map(|(subsystem, servers)| servers.contains(&ours.server).then_some(subsystem))
        .collect();
    let doors = ours.doors().enumerate().filter_map(|(at, (_, bound))| Some(("clients", at, bound?)));
    let clients = ours.clients().enumerate().map(|(at, subsystem)| ("client", at, subsystem));
    let services = ours.services.iter().enumerate().map(|(at, service)| ("service", at, &service.subsystem));
    for (section, at, subsystem) in doors.chain(clients).chain(services) {
        if !configuration.hosts(&ours.server, subsystem) {
            let near = names::did_you_mean(subsystem.as_str(), hosted.iter().map(|subsystem| subsystem.as_str()));
            let finding = format!("[[{section}]] names {subsystem}, which is not registered at this server{near}");
            let place = file.at(&[section, &at.to_string(), "subsystem"]);
            return Err(failed(finding, format!("correct {place}: subsystem; or have the registry register it")));
        }
    }
    let hosted: Vec<_> = hosted.iter().map(|subsystem| subsystem.as_str()).collect();
    Ok(ok((), hosted.join(", ")))
}

#[cfg(test)]
mod tests {
    use checks::Outcome;

    use super::*;

    #[test]
    fn a_certificate_is_good_from_its_first_instant_to_its_last_and_warns_in_its_last_quarter() {
        let at =
            |ms: u64| good(Time::from_millis(ms), Time::from_millis(1000), Time::from_millis(4000), "nothing goes");
        let outcome = |ms| at(ms).map(|seen| seen.outcome()).ok();
        assert_eq!(outcome(999), None);
        assert_eq!(outcome(1000), Some(Outcome::Ok));
        assert_eq!(outcome(3250), Some(Outcome::Ok));
        assert_eq!(outcome(3251), Some(Outcome::Warning));
        assert_eq!(outcome(4000), Some(Outcome::Warning));
        assert_eq!(outcome(4001), None);
    }
}
