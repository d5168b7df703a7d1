//! The registry's keys, and the certificates that go with two of them.

use std::path::Path;
use std::sync::Arc;

use checks::{Found, Looked, blocking, disk, failed, ok, warning};
use keystore::Passphrase;
use proto::certificate::Authority;
use proto::signature::SigningKey;
use registry_client::Fingerprint;
use tokio::task::JoinSet;

use super::{File, Options, Part, Sheet};
use crate::init::{AUTHORITY, KEY_NAMES, KEYS, OFFLINE, TLS};
use crate::publish::{Publication, RoleKeys};
use crate::serve;

/// What opens, and what goes with it.
pub(super) struct Keys {
    /// The keys of the roles that are in use.
    roles: Found<RoleKeys>,
    /// The authority's certificate.
    pub authority: Found<Authority>,
    /// What callers pin.
    pub fingerprint: Found<Fingerprint>,
}

/// Opens the keys, and reads the certificates.
pub(super) async fn open(sheet: &Sheet, options: &Options, file: &Found<File>) -> Keys {
    let source = file.get().map(|file| file.configuration.unlock.to_string()).unwrap_or_default();
    let at = file.get().map(|file| file.at("unlock")).unwrap_or_default();
    let passphrase = sheet.line(Part::Keys, "passphrase", source).says(options.unlock.looked(&at));
    let directory = file.get().map(File::directory).unwrap_or_default();
    let line = sheet.line(Part::Keys, "keys", directory.join(KEYS).display().to_string());
    let looked = async {
        file.get()?;
        opened(&directory, passphrase.get()?).await
    };
    let opened = line.looks(disk::slow(&directory.join(KEYS)), looked).await;

    let line = sheet.line(Part::Keys, "authority", directory.join(AUTHORITY).display().to_string());
    let looked = || {
        file.get()?;
        let copy = || format!("put {AUTHORITY} and {KEYS}/authority.pem back from one copy");
        let der = serve::certificate(&directory.join(AUTHORITY)).map_err(|error| failed(error.to_string(), copy()))?;
        let authority = Authority::parse(der.as_bytes()).map_err(|error| failed(error.to_string(), copy()))?;
        if opened.get().is_ok_and(|keys| *keys.authority.public() != authority.key) {
            return Err(failed("the certificate is for another key than keys/authority.pem holds", copy()));
        }
        Ok(ok(authority, ""))
    };
    let authority = line.says(looked());

    let line = sheet.line(Part::Keys, "TLS", directory.join(TLS).display().to_string());
    let looked = async {
        file.get()?;
        let passphrase = passphrase.get().ok().cloned();
        let directory = directory.clone();
        blocking(move || tls(&directory, passphrase.as_ref())).await
    };
    let fingerprint = line.looks(disk::slow(&directory.join(TLS)), looked).await;

    let offline = directory.join(OFFLINE);
    let away = || {
        file.get()?;
        match std::fs::read_dir(&offline).map(|mut keys| keys.next().is_some()) {
            Ok(true) => {
                let finding = "root keys are here, and whoever takes this machine takes the instance";
                Ok(warning((), finding, format!("take {} away, each key to another person", offline.display())))
            }
            Ok(false) | Err(_) => Ok(ok((), "not here")),
        }
    };
    sheet.line(Part::Keys, "root keys", offline.display().to_string()).says(away());
    Keys { roles: opened.map(|opened| opened.roles), authority, fingerprint }
}

/// The keys that are in use.
struct Opened {
    authority: SigningKey,
    roles: RoleKeys,
}

async fn opened(directory: &Path, passphrase: &Passphrase) -> Looked<Opened> {
    let directory = Arc::new(directory.join(KEYS));
    let mut opening = JoinSet::new();
    for name in KEY_NAMES {
        let (directory, passphrase) = (Arc::clone(&directory), passphrase.clone());
        opening.spawn_blocking(move || (name, keystore::open(&directory.join(format!("{name}.pem")), &passphrase)));
    }
    let mut keys: std::collections::BTreeMap<_, _> = opening.join_all().await.into_iter().collect();
    let mut key = |name| keys.remove(name).expect("each name was opened").map_err(checks::keys::key);
    let (authority, _, _) = (key("authority")?, key("tls")?, key("journal")?);
    let roles = RoleKeys {
        root: Vec::new(),
        targets: vec![key("targets")?],
        members: vec![key("members")?],
        catalogue: vec![key("catalogue")?],
        revoked: vec![key("revoked")?],
        snapshot: vec![key("snapshot")?],
        timestamp: vec![key("timestamp")?],
    };
    Ok(ok(Opened { authority, roles }, format!("all {} open", KEY_NAMES.len())))
}

/// TLS as the registry sets it up; without the passphrase as far as the certificate says.
fn tls(directory: &Path, passphrase: Option<&Passphrase>) -> Looked<Fingerprint> {
    let copy = || format!("put {TLS} and {KEYS}/tls.pem back from one copy: everybody pins this key");
    let wrong = |error: &dyn std::fmt::Display| failed(error.to_string(), copy());
    let fingerprint = match passphrase {
        Some(passphrase) => serve::tls_config(directory, passphrase).map_err(|error| wrong(&error))?.1,
        None => {
            let certificate = serve::certificate(&directory.join(TLS)).map_err(|error| wrong(&error))?;
            let key = proto::certificate::public_key(certificate.as_bytes()).map_err(|error| wrong(&error))?;
            Fingerprint(key.id())
        }
    };
    Ok(ok(fingerprint, format!("fingerprint {fingerprint}")))
}

/// Whether each role's key is one that the signed documents name for it, and the authority one that they carry.
pub(super) fn fit(sheet: &Sheet, keys: &Keys, published: &Found<Publication>) {
    let roles = || {
        let (roles, published) = (keys.roles.get()?, published.get()?);
        match published.foreign_key(roles) {
            None => Ok(ok((), "those that the root and its delegations name")),
            Some(role) => {
                let finding = format!("keys/{role}.pem is no key of the role {role}: no server takes what it signs");
                Err(failed(finding, format!("put keys/{role}.pem back from a copy")))
            }
        }
    };
    sheet.line(Part::Published, "roles' keys", "").says(roles());
    let authority = || {
        let (authority, published) = (keys.authority.get()?, published.get()?);
        let authorities = &published.trusted().configuration().authorities;
        let known = authorities.iter().filter_map(|der| Authority::parse(der).ok()).any(|known| known == *authority);
        if known {
            return Ok(ok((), "the one that members are told"));
        }
        let finding =
            format!("{AUTHORITY} is none of the authorities of the configuration: no server takes what it issues");
        Err(failed(finding, format!("put {AUTHORITY} and keys/authority.pem back from one copy")))
    };
    sheet.line(Part::Published, "authority in force", "").says(authority());
}
