//! Who may order what, and how many persons what matters needs. It is stated in the signed root: whoever has the keys of the
//! registry that runs cannot change it, and every root is everybody's to read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use proto::digest::Digest;
use proto::global_configuration::document::Der;
use proto::identifier::InstanceId;
use proto::registration::{Order, Text};
use proto::signature::{KeyId, PublicKey};
use serde::{Deserialize, Serialize};

/// Most persons of an instance.
pub const MAX_PERSONS: usize = 100;
/// Most persons that may be needed for one decision.
pub const MAX_THRESHOLD: usize = 8;

/// What a person may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Says who is a member, with which servers.
    Registrar,
    /// Takes off the road.
    SecurityOfficer,
    /// Reads all, and changes nothing.
    Auditor,
}

impl Role {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Registrar => "registrar",
            Self::SecurityOfficer => "security-officer",
            Self::Auditor => "auditor",
        }
    }
}

/// The roles that may give this order. What only reads is everybody's who has a key.
pub fn may_order(order: &Order) -> &'static [Role] {
    match order {
        Order::Invite(_)
        | Order::Approve(_)
        | Order::Move(..)
        | Order::Maintain(..)
        | Order::Host(..)
        | Order::Unhost(..)
        | Order::SetPurpose(_)
        | Order::RemovePurpose(..)
        | Order::Remove(..) => &[Role::Registrar],
        Order::Suspend(..) | Order::Revoke(_) => &[Role::SecurityOfficer],
        Order::Reject(..) | Order::Restore(_) | Order::Confirm(_) => &[Role::Registrar, Role::SecurityOfficer],
        Order::ListRequests
        | Order::ListMembers
        | Order::ListProposals
        | Order::ListPurposes
        | Order::ListGrants(_) => &[Role::Registrar, Role::SecurityOfficer, Role::Auditor],
    }
}

/// Whether the order is one of those that need as many persons as the root states: who is a member, who speaks for it, who
/// is back, who is gone for good, for what data may be asked. What only takes off the road for a time, or revokes, is one
/// person's: it is urgent.
pub fn needs_all(order: &Order) -> bool {
    matches!(
        order,
        Order::Approve(_)
            | Order::Host(..)
            | Order::Restore(_)
            | Order::Remove(..)
            | Order::SetPurpose(_)
            | Order::RemovePurpose(..)
    )
}

/// Somebody with a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Who; also the name of this person's files.
    pub name: Text,
    /// What this person may do.
    pub roles: BTreeSet<Role>,
    /// The DER SubjectPublicKeyInfo of this person's key.
    pub key: Der,
}

impl Person {
    /// The key's name.
    pub fn id(&self) -> KeyId {
        Digest::of(&[self.key.as_bytes()])
    }

    fn decides(&self) -> bool {
        self.roles.iter().any(|role| *role != Role::Auditor)
    }
}

/// What the root states of persons.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persons {
    /// How many persons what matters needs.
    pub threshold: usize,
    /// All of them.
    pub persons: Vec<Person>,
}

/// Why persons cannot govern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotGovern {
    /// Too few decide for what the threshold wants, or it is none.
    #[error(
        "{deciding} persons who may decide are not enough for a threshold of {threshold}; name others with \
         --person NAME:registrar, or give --persons-threshold 1 where one person is to decide alone"
    )]
    Threshold {
        /// How many may decide.
        deciding: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// Nobody has a role.
    #[error("nobody is {0}; give somebody that role")]
    Nobody(&'static str),
    /// Two with one name, or one key.
    #[error("{0} is named twice, or has another's key; a person has one name and one key")]
    Twice(Text),
    /// A person without a role, or with a key that is none.
    #[error("{0} has no role, or a key that is no P-256 key; give both")]
    Person(Text),
    /// Too many.
    #[error("{0} persons are too many; {MAX_PERSONS} are the most")]
    TooMany(usize),
}

impl Persons {
    /// Checks that these can govern.
    pub fn check(&self) -> Result<(), CannotGovern> {
        if self.persons.len() > MAX_PERSONS {
            return Err(CannotGovern::TooMany(self.persons.len()));
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for person in &self.persons {
            if !names.insert(person.name.as_str().to_lowercase()) || !keys.insert(person.id()) {
                return Err(CannotGovern::Twice(person.name.clone()));
            }
            if person.roles.is_empty() || PublicKey::from_spki(person.key.as_bytes()).is_err() {
                return Err(CannotGovern::Person(person.name.clone()));
            }
        }
        for role in [Role::Registrar, Role::SecurityOfficer] {
            if !self.persons.iter().any(|person| person.roles.contains(&role)) {
                return Err(CannotGovern::Nobody(role.word()));
            }
        }
        let deciding = self.persons.iter().filter(|person| person.decides()).count();
        let threshold = self.threshold;
        if (1..=deciding.min(MAX_THRESHOLD)).contains(&threshold) {
            Ok(())
        } else {
            Err(CannotGovern::Threshold { deciding, threshold })
        }
    }
}

/// A person as `init` is told: NAME:ROLE or NAME:ROLE+ROLE, and @FILE where the person made the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appointed {
    /// Who.
    pub name: Text,
    /// What this person may do.
    pub roles: BTreeSet<Role>,
    /// The file with the public half of a key that the person made; none: `init` makes one.
    pub key: Option<PathBuf>,
}

impl Appointed {
    /// Somebody who may decide everything of which one person may: the first admin.
    pub fn with_all_roles(name: Text) -> Self {
        Self { name, roles: [Role::Registrar, Role::SecurityOfficer].into(), key: None }
    }
}

impl FromStr for Appointed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no person; it is NAME:ROLE or NAME:ROLE+ROLE, and @FILE with that person's public key, the roles registrar, security-officer and auditor"
            )
        };
        let (text_before, key) = text.split_once('@').map_or((text, None), |(before, key)| (before, Some(key)));
        let (name, roles) = text_before.split_once(':').ok_or_else(wrong)?;
        if key == Some("") {
            return Err(wrong());
        }
        let named = |word: &str| {
            [Role::Registrar, Role::SecurityOfficer, Role::Auditor].into_iter().find(|role| role.word() == word)
        };
        let roles: Option<BTreeSet<Role>> = roles.split('+').map(named).collect();
        // The name becomes one of files.
        name.parse::<InstanceId>().map_err(|_| wrong())?;
        let (name, roles) = (name.parse().map_err(|_| wrong())?, roles.ok_or_else(wrong)?);
        Ok(Self { name, roles, key: key.map(PathBuf::from) })
    }
}

#[cfg(test)]
mod tests {
    use proto::signature::SigningKey;

    use super::*;

    fn person(text: &str) -> Person {
        let Appointed { name, roles, .. } = text.parse().unwrap();
        Person { name, roles, key: SigningKey::generate().0.public().to_spki().into() }
    }

    #[test]
    fn as_many_must_be_there_who_decide_as_are_needed_and_an_auditor_is_none_of_them() {
        let persons = |threshold, texts: &[&str]| {
            Persons { threshold, persons: texts.iter().map(|text| person(text)).collect() }.check()
        };
        assert_eq!(persons(1, &["an:registrar+security-officer"]), Ok(()));
        assert_eq!(persons(2, &["an:registrar", "binh:security-officer"]), Ok(()));
        let refused = persons(2, &["an:registrar+security-officer", "chi:auditor"]);
        assert_eq!(refused, Err(CannotGovern::Threshold { deciding: 1, threshold: 2 }));
        assert!(matches!(persons(0, &["an:registrar+security-officer"]), Err(CannotGovern::Threshold { .. })));
        assert_eq!(persons(1, &["an:registrar"]), Err(CannotGovern::Nobody("security-officer")));
        let twice = persons(2, &["an:registrar", "AN:security-officer"]);
        assert!(matches!(twice, Err(CannotGovern::Twice(_))), "{twice:?}");
        let (an, mut binh) = (person("an:registrar"), person("binh:security-officer"));
        binh.key = an.key.clone();
        let one_key = Persons { threshold: 2, persons: vec![an, binh] }.check();
        assert!(matches!(one_key, Err(CannotGovern::Twice(_))), "one person with two names is one: {one_key:?}");
    }

    #[test]
    fn a_person_is_a_name_and_roles() {
        for bad in
            ["an", "an:", "an:registrar@", ":registrar", "an:king", "a/b:auditor", "an:registrar+", "an:Registrar"]
        {
            assert!(bad.parse::<Appointed>().is_err(), "{bad}");
        }
        let both: Appointed = "an:registrar+security-officer".parse().unwrap();
        assert_eq!(both, Appointed::with_all_roles("an".parse().unwrap()));
    }
}
