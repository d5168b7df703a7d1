//! An excerpt of one version of the global configuration: the few files that prove, from the anchor, what that version
//! says of some members and of some keys (PROTOCOL.md 8.2). Evidence carries one, because nobody prints a whole country
//! to prove one call.
//!
//! What [`update`](mod@super::update) checks of the version as a whole (that nothing is missing, that nothing goes back)
//! was checked by whoever took the excerpt, and cannot be checked again here.

use std::collections::BTreeSet;

use bytes::Bytes;
use sigstore_tuf::{DelegatedRole, TrustedMetadataSet};

use super::Configuration;
use super::document::{
    GovernedInstance, INSTANCE_PATH, InstanceDocument, MAX_DOCUMENT_BYTES, MemberDocument, Refused, RevokedDocument,
};
use super::update::{
    Files, MAX_ROLE_BYTES, MAX_ROOTS, MAX_TIMESTAMP_BYTES, Rejected, SIGNED_AT, TIMESTAMP, Target, allowed, check_keys,
    is_role_name, named, root_file, target_file, targets_of, within,
};
use crate::digest::Digest;
use crate::identifier::MemberId;
use crate::signature::KeyId;
use crate::time::Time;

/// Whom an excerpt is about.
#[derive(Clone, Debug, Default)]
pub struct Subjects {
    /// Members whose documents it holds.
    pub members: BTreeSet<MemberId>,
    /// Keys of which it says whether they are revoked.
    pub keys: BTreeSet<KeyId>,
}

/// What a version says of its subjects. Only [`Excerpt::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Excerpt {
    configuration: Configuration,
    files: Files,
}

/// Why an excerpt proves nothing, and the step of PROTOCOL.md that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unverified {
    /// The step.
    pub step: &'static str,
    /// The reason.
    pub reason: Rejected,
}

impl Excerpt {
    /// Verifies from the anchor what these files say of the subjects (PROTOCOL.md 8.2), expiry judged at `now`. Files
    /// that no step asks for are not looked at.
    pub fn verify(anchor: &Bytes, files: &Files, subjects: &Subjects, now: Time) -> Result<Self, Unverified> {
        let at = |step: &'static str| move |reason: Rejected| Unverified { step, reason };
        let mut walk = Walk::from(anchor, files, now).map_err(at("8.2.1"))?;
        walk.roots().map_err(at("8.2.1"))?;
        let signed_at = walk.timestamp().map_err(at("8.2.2"))?;
        walk.snapshot().map_err(at("8.2.3"))?;
        let (instance, authorities, timestamping, purposes) = walk.instance().map_err(at("8.2.4"))?.into_parts();
        let timestamp = walk.set.timestamp().expect("it was verified above");
        let mut configuration = Configuration {
            instance,
            version: timestamp.version,
            digest: Digest::of(&[&walk.used[TIMESTAMP]]),
            signed_at,
            expires_at: Time::default(),
            members: Default::default(),
            servers: Default::default(),
            authentication: Default::default(),
            authorities,
            timestamping,
            purposes,
            revoked: BTreeSet::new(),
            last_heads: Default::default(),
            catalogue: Default::default(),
            ledger: None,
        };
        walk.members(&subjects.members, &mut configuration).map_err(at("8.2.5"))?;
        walk.revoked(&subjects.keys, &mut configuration).map_err(at("8.2.6"))?;
        configuration.expires_at = walk.expires_at;
        Ok(Self { configuration, files: walk.used })
    }

    /// What the version says of its subjects. Other members are absent from it.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The files that prove it, without the anchor.
    pub fn files(&self) -> &Files {
        &self.files
    }
}

/// The way from the anchor to the last document that is asked for.
struct Walk<'a> {
    files: &'a Files,
    now: Time,
    set: TrustedMetadataSet,
    used: Files,
    expires_at: Time,
}

impl<'a> Walk<'a> {
    fn from(anchor: &Bytes, files: &'a Files, now: Time) -> Result<Self, Rejected> {
        within("bytes of the anchor", anchor.len(), MAX_ROLE_BYTES)?;
        let set = TrustedMetadataSet::from_root(anchor).map_err(|error| named("root", "the anchor", error))?;
        check_keys("root", &set.root().keys)?;
        Ok(Self { files, now, set, used: Files::new(), expires_at: Time::from_millis(u64::MAX) })
    }

    /// 8.2.1: "While the file of the next root is there, it is the next root. The last one has not expired."
    fn roots(&mut self) -> Result<(), Rejected> {
        loop {
            let file = root_file(self.set.root().version.saturating_add(1));
            if !self.files.contains_key(&file) {
                break;
            }
            within("roots", self.used.len(), MAX_ROOTS)?;
            let bytes = self.take(&file, MAX_ROLE_BYTES)?;
            self.set.update_root(&bytes).map_err(|error| named("root", &file, error))?;
            check_keys("root", &self.set.root().keys)?;
        }
        self.unexpired("root", self.set.root().expires)
    }

    fn timestamp(&mut self) -> Result<Time, Rejected> {
        let bytes = self.take(TIMESTAMP, MAX_TIMESTAMP_BYTES)?;
        let now = self.now.to_jiff();
        self.set.update_timestamp(&bytes, now).map_err(|error| named("timestamp", TIMESTAMP, error))?;
        let timestamp = self.set.timestamp().expect("it was verified above");
        let signed_at = timestamp.extra.get(SIGNED_AT).and_then(|value| value.as_str());
        let signed_at: Option<jiff::Timestamp> = signed_at.and_then(|text| text.parse().ok());
        let (signed_at, expires) = (signed_at.filter(|signed_at| *signed_at <= timestamp.expires), timestamp.expires);
        self.unexpired("timestamp", expires)?;
        let reason = || format!("{SIGNED_AT:?} is to be the time of signing, before it expires");
        signed_at.map(Time::from_jiff).ok_or_else(|| malformed(TIMESTAMP, reason()))
    }

    fn snapshot(&mut self) -> Result<(), Rejected> {
        let timestamp = self.set.timestamp().expect("it was verified above");
        let pin = timestamp.snapshot_meta();
        let pin = pin.ok_or_else(|| malformed(TIMESTAMP, "it does not pin snapshot.json".into()))?;
        if !pin.hashes.as_ref().is_some_and(|hashes| hashes.contains_key("sha256")) {
            return Err(malformed(TIMESTAMP, "it pins snapshot.json without its SHA-256".into()));
        }
        let file = format!("{}.snapshot.json", pin.version);
        let bytes = self.take(&file, MAX_ROLE_BYTES)?;
        let now = self.now.to_jiff();
        self.set.update_snapshot(&bytes, now).map_err(|error| named("snapshot", &file, error))?;
        self.unexpired("snapshot", self.set.snapshot().expect("it was verified above").expires)
    }

    fn instance(&mut self) -> Result<GovernedInstance, Rejected> {
        self.role("targets", None)?;
        let bytes = self.target("targets", INSTANCE_PATH, &[])?;
        Ok(InstanceDocument::parse(&bytes)?)
    }

    fn members(&mut self, members: &BTreeSet<MemberId>, configuration: &mut Configuration) -> Result<(), Rejected> {
        let delegation = self.delegation("targets", |role| Ok(role.name == "members"), "members")?;
        self.role("members", Some("targets"))?;
        for member in members {
            let path = MemberDocument::path_of(member);
            if member.instance() != configuration.instance {
                let instance = configuration.instance.clone();
                return Err(Refused::ForeignMember { member: member.clone(), instance }.into());
            }
            let of_path =
                |role: &DelegatedRole| role.matches_path(&path).map_err(|error| named(&role.name, &path, error));
            let bin = self.delegation("members", of_path, &path)?;
            if self.set.targets_role(&bin.name).is_none() {
                self.role(&bin.name, Some("members"))?;
            }
            let bytes = self.target(&bin.name, &path, &[delegation.clone(), bin.clone()])?;
            MemberDocument::parse(&path, &bytes)?.add_to(configuration);
        }
        Ok(())
    }

    fn revoked(&mut self, keys: &BTreeSet<KeyId>, configuration: &mut Configuration) -> Result<(), Rejected> {
        let delegation = self.delegation("targets", |role| Ok(role.name == "revoked"), "revoked")?;
        self.role("revoked", Some("targets"))?;
        let shards: BTreeSet<usize> = keys.iter().map(RevokedDocument::shard_of).collect();
        for path in shards.into_iter().map(RevokedDocument::path_of) {
            let bytes = self.target("revoked", &path, std::slice::from_ref(&delegation))?;
            configuration.revoke(&RevokedDocument::parse(&path, &bytes)?);
        }
        Ok(())
    }

    /// A role of targets, its signatures, its pin in the snapshot, its expiry and the keys that it delegates to.
    fn role(&mut self, name: &str, delegator: Option<&str>) -> Result<(), Rejected> {
        let pins = &self.set.snapshot().expect("it was verified above").meta;
        let pin = pins.get(&format!("{name}.json")).ok_or_else(|| Rejected::NotPinned { role: name.into() })?;
        let file = format!("{}.{name}.json", pin.version);
        let bytes = self.take(&file, MAX_ROLE_BYTES)?;
        let now = self.now.to_jiff();
        let role = match delegator {
            None => self.set.update_targets(&bytes, now),
            Some(delegator) => self.set.update_delegated_targets(&bytes, name, delegator, now),
        }
        .map_err(|error| named(name, &file, error))?;
        if let Some(delegations) = &role.delegations {
            check_keys(name, &delegations.keys)?;
            let mut names = BTreeSet::new();
            for delegated in &delegations.roles {
                if !is_role_name(&delegated.name) {
                    let reason = "its name is 1 to 32 of a-z, 0-9 and '-'";
                    return Err(Rejected::BadDelegation { role: delegated.name.clone(), reason });
                }
                if !names.insert(&delegated.name) {
                    return Err(Rejected::RoleTwice { role: delegated.name.clone() });
                }
            }
        }
        let expires = role.expires;
        self.unexpired(name, expires)
    }

    /// The one delegation of a verified role that is looked for.
    fn delegation(
        &self,
        delegator: &str,
        looked_for: impl Fn(&DelegatedRole) -> Result<bool, Rejected>,
        what: &str,
    ) -> Result<DelegatedRole, Rejected> {
        let role = self.set.targets_role(delegator).expect("it was verified before");
        let mut found = None;
        for delegated in role.delegations.iter().flat_map(|delegations| &delegations.roles) {
            if looked_for(delegated)? && found.replace(delegated.clone()).is_some() {
                return Err(Rejected::RoleTwice { role: delegated.name.clone() });
            }
        }
        found.ok_or_else(|| Rejected::NotNamed { target: what.into() })
    }

    /// A document that a verified role names, with the length and SHA-256 that it says.
    fn target(&mut self, role: &str, path: &str, way: &[DelegatedRole]) -> Result<Bytes, Rejected> {
        let metadata = self.set.targets_role(role).expect("it was verified before");
        let targets = targets_of(role, metadata)?;
        let Target { length, digest } = *targets.get(path).ok_or_else(|| Rejected::NotNamed { target: path.into() })?;
        if !allowed(path, way)? {
            return Err(Rejected::NotAllowed { role: role.into(), target: path.into() });
        }
        let file = target_file(path, &digest);
        let bytes = self.take(&file, MAX_DOCUMENT_BYTES)?;
        if bytes.len() as u64 != length {
            let reason = format!("{} bytes, and {length} were signed for", bytes.len());
            return Err(Rejected::OtherBytes { file, reason });
        }
        let found = Digest::of(&[&bytes]);
        if found != digest {
            return Err(Rejected::OtherBytes { file, reason: format!("its SHA-256 is {found}") });
        }
        Ok(bytes)
    }

    fn take(&mut self, file: &str, most: usize) -> Result<Bytes, Rejected> {
        let bytes = self.files.get(file).ok_or_else(|| Rejected::Missing { file: file.into() })?.clone();
        within(file, bytes.len(), most)?;
        self.used.insert(file.into(), bytes.clone());
        Ok(bytes)
    }

    fn unexpired(&mut self, role: &str, expires: jiff::Timestamp) -> Result<(), Rejected> {
        let at = Time::from_jiff(expires);
        self.expires_at = self.expires_at.min(at);
        if self.now >= at { Err(Rejected::Expired { role: role.into(), at }) } else { Ok(()) }
    }
}

fn malformed(file: &str, reason: String) -> Rejected {
    Rejected::Malformed { file: file.into(), reason }
}
