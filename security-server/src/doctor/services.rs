//! Services of ours, called with the server's own code, and the grants held against what they offer.

use std::time::Duration;

use checks::{Found, Limit, Looked, Wrong, failed, names, not_checked, ok, reach, warning};
use futures_util::future::join_all;
use proto::identifier::MethodPath;

use super::reflection::{self, Offered};
use super::{File, Here, OTHERS, Part, Sheet};
use crate::config::RawService;

/// A grant that ends sooner is told.
pub const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Calls each service, and holds the grants against what it offers.
pub(super) async fn each(sheet: &Sheet, here: &Here) {
    let Here { file, .. } = here;
    let listed = file.get().map(|file| file.configuration.services.as_slice()).unwrap_or_default();
    let lines = listed.iter().enumerate().map(|(number, listed)| {
        let line = sheet.line(Part::Services, format!("service {}", listed.name), &listed.address);
        let drift = sheet.line(Part::Services, format!("methods of {}", listed.name), "");
        async move {
            let at =
                |key: &str| file.get().map(|file| file.at(&["service", &number.to_string(), key])).unwrap_or_default();
            let slow = Limit::new(
                OTHERS,
                format!("look whether it hangs: it accepts connections; or correct {}", at("address")),
            );
            let offered = line.looks(slow, called(here, listed, &at)).await;
            drift.says(drifted(here, listed, &offered, &at("name")));
        }
    });
    join_all(lines).await;
    sheet.line(Part::Services, "grants", "").says(named(here));
    sheet.line(Part::Services, "grants' time", "").says(timely(here));
}

async fn called(here: &Here, listed: &RawService, at: &impl Fn(&str) -> String) -> Looked<Offered> {
    if listed.is_built_in() {
        return Ok(ok(Offered::Unsaid, "this server answers it itself"));
    }
    let identity = match listed.mutual_tls {
        true => Some(here.file.get()?.configuration.identity(here.keys.get()?)),
        false => None,
    };
    let unusable = |error: &dyn std::fmt::Display| failed(error.to_string(), format!("correct {}", at("address")));
    let identity = identity.transpose().map_err(|error| unusable(&error))?;
    let service = listed.called_by(identity.as_ref()).map_err(|error| unusable(&error))?;
    reach::name(service.host(), &at("address")).await?;
    if let Some(web) = service.over_http() {
        web.reach().await.map_err(|error| unreached(&service, &error, at))?;
        return Ok(ok(Offered::Unsaid, "it accepts connections; it is not asked for more"));
    }
    let connection = service.connection().await.map_err(|error| unreached(&service, &error, at))?;
    match reflection::ask(&service, connection).await {
        Ok(Offered::NoGrpc(status)) => {
            let finding = format!("it answers with HTTP {status}, and not in gRPC, to a method that it need not have");
            Ok(warning(Offered::Unsaid, finding, format!("look whether it is the service: {}", at("address"))))
        }
        Ok(offered) => Ok(ok(offered, "it answers")),
        Err(mute) => {
            let finding = format!("it accepts connections, and does not speak HTTP/2: {mute}");
            let remedy = format!("look what listens there; https:// is TLS, http:// is none: {}", at("address"));
            Err(failed(finding, remedy))
        }
    }
}

fn unreached(service: &crate::services::Service, error: &std::io::Error, at: &impl Fn(&str) -> String) -> Wrong {
    let host = service.host();
    let tls = error.get_ref().is_some_and(|error| error.is::<rustls::Error>());
    if tls {
        let finding = format!("TLS with it fails: {error}; what counts is its key");
        let remedy = format!(
            "compare its key with {}: openssl s_client -connect {host} </dev/null | openssl x509 -pubkey -noout | openssl \
             pkey -pubin -outform DER | sha256sum",
            at("certificate_key_sha256")
        );
        return failed(finding, remedy);
    }
    let finding = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "the service is down: nobody listens there".to_owned(),
        _ => format!("the service is not reached: {error}"),
    };
    let remedy = format!("start it; nc -vz {} tries it; or correct {}: address", reach::apart(host), at("address"));
    failed(finding, remedy)
}

/// Every method that is granted is one that the service has.
fn drifted(here: &Here, listed: &RawService, offered: &Found<Offered>, at: &str) -> Looked<()> {
    let (offered, grants, file) = (offered.get()?, here.grants.get()?, here.file.get()?);
    let methods = match offered {
        Offered::Methods(methods) => methods,
        Offered::Unsaid | Offered::NoGrpc(_) => return Err(not_checked("the service has no reflection")),
        Offered::Others(others) => {
            let near = names::did_you_mean(&listed.name, others.iter().map(String::as_str));
            let finding = format!("there is no service {} there, but: {}{near}", listed.name, others.join(", "));
            return Err(failed(finding, format!("correct {at}: name")));
        }
    };
    for grant in grants.iter().filter(|grant| grant.provider == listed.subsystem) {
        for path in grant.methods.iter().filter_map(|path| path.parse::<MethodPath>().ok()) {
            let method = path.as_str().rsplit('/').next().unwrap_or_default();
            if path.service() == listed.name && !methods.iter().any(|offered| offered == method) {
                let near = names::did_you_mean(method, methods.iter().map(String::as_str));
                let number = grant.number.0;
                let finding = format!("grant {number} names {path}, which the service does not have{near}");
                return Err(failed(finding, end(file, number, "the service has no such method")));
            }
        }
    }
    Ok(ok((), methods.join(", ")))
}

fn end(file: &File, number: u64, reason: &str) -> String {
    let config = file.path.display();
    format!("security-server access end {number} --reason \"{reason}\" --config {config}; then grant what was meant")
}

/// Every grant names a service that the file lists, and a consumer that is registered.
fn named(here: &Here) -> Looked<()> {
    let (file, grants, stored) = (here.file.get()?, here.grants.get()?, here.stored.get()?);
    let services =
        file.configuration.known_services(None).map_err(|error| failed(error.to_string(), file.at(&["service"])))?;
    for grant in grants {
        let (number, provider) = (grant.number.0, &grant.provider);
        for path in grant.methods.iter().filter_map(|path| path.parse::<MethodPath>().ok()) {
            // The very look-up that a call goes through.
            if services.find(provider, path.service()).is_none() {
                let listed = file.configuration.services.iter().map(|listed| listed.name.as_str());
                let near = names::did_you_mean(path.service(), listed);
                let finding = format!(
                    "grant {number} names {path}, and the file lists no service {} of {provider}{near}",
                    path.service()
                );
                let list = format!("list it under [[service]] in {}", file.path.display());
                return Err(failed(finding, format!("{list}; or {}", end(file, number, "no such service"))));
            }
        }
    }
    let configuration = stored.configuration();
    for grant in grants {
        let (number, consumer) = (grant.number.0, &grant.consumer);
        let is_suspended = configuration.members.contains_key(&consumer.member())
            && configuration.active_member(&consumer.member()).is_none();
        if !is_suspended && configuration.servers_of(consumer).is_none() {
            let known = configuration.members.values().flat_map(|member| member.subsystems.keys());
            let near = names::did_you_mean(consumer.as_str(), known.map(|subsystem| subsystem.as_str()));
            let finding = format!("grant {number} is for {consumer}, which is not registered{near}");
            return Ok(warning((), finding, end(file, number, "another was meant")));
        }
    }
    Ok(ok(
        (),
        format!("{} grants, each of a service that is listed and for a consumer that is registered", grants.len()),
    ))
}

/// No grant ends soon.
fn timely(here: &Here) -> Looked<()> {
    let (file, grants, now) = (here.file.get()?, here.grants.get()?, here.clock.now());
    let soon = now.plus(ENDS_SOON).as_millis();
    let ending: Vec<_> = grants.iter().filter(|grant| grant.valid_until <= soon).collect();
    let Some(first) = ending.iter().min_by_key(|grant| grant.valid_until) else { return Ok(ok((), "none ends soon")) };
    let until = proto::time::Time::from_millis(first.valid_until);
    let ends = if until <= now { "ended" } else { "ends" };
    let finding = format!(
        "{} grants end within {} days or have ended; grant {} for {} {ends} at {until}",
        ending.len(),
        ENDS_SOON.as_secs() / 86_400,
        first.number.0,
        first.consumer
    );
    let config = file.path.display();
    let remedy =
        format!("security-server access grant {} ... --days N --config {config}, if it is to go on", first.consumer);
    Ok(warning((), finding, remedy))
}
