//! `catalogue/<INSTANCE>/<CLASS>/<MEMBER>.json`: which services a member lists, and where the entry of each is found by its
//! SHA-256. Entries and descriptors are no part of a version: whoever wants one fetches it by that name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::document::{MAX_DOCUMENT_BYTES, Refused};
use crate::catalogue::{Audience, ServiceForm, ServiceName, Version};
use crate::digest::Digest;
use crate::identifier::{MemberId, SubsystemId};

/// Most services of one member.
pub const MAX_SERVICES: usize = 800;

/// What a member lists, as it stands in the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueDocument {
    /// The member.
    pub member: MemberId,
    /// Its services.
    pub services: Vec<ListedService>,
}

/// A service that is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedService {
    /// The subsystem that offers it.
    pub subsystem: SubsystemId,
    /// Its full name.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// What describes it.
    #[serde(default, skip_serializing_if = "ServiceForm::is_grpc")]
    pub form: ServiceForm,
    /// SHA-256 of the signed entry.
    #[serde(with = "super::document::as_text")]
    pub entry: Digest,
    /// Who may ask for it; none: every member.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub open_to: BTreeSet<Audience>,
}

impl ListedService {
    /// Whether this member may ask for it, and so may see what it is.
    pub fn is_open_to(&self, member: &MemberId) -> bool {
        self.open_to.is_empty() || self.open_to.iter().any(|audience| audience.takes_in(member))
    }
}

impl CatalogueDocument {
    /// Where the document of this member stands.
    pub fn path_of(member: &MemberId) -> String {
        format!("catalogue/{member}.json")
    }

    /// Checks the document on its own.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, Refused> {
        let unreadable = |reason: String| Refused::Unreadable { path: path.into(), reason };
        let limit = |what, found, most| Refused::Limit { path: path.into(), what, found, least: 0, most };
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(limit("bytes", bytes.len(), MAX_DOCUMENT_BYTES));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if path != Self::path_of(&document.member) {
            return Err(Refused::ElsewheresDocument { path: path.into(), owner: document.member.to_string() });
        }
        if document.services.len() > MAX_SERVICES {
            return Err(limit("services", document.services.len(), MAX_SERVICES));
        }
        let mut seen = BTreeSet::new();
        for listed in &document.services {
            let subsystem = &listed.subsystem;
            if subsystem.member() != document.member {
                return Err(Refused::ForeignSubsystem {
                    member: document.member.clone(),
                    subsystem: subsystem.clone(),
                });
            }
            if !seen.insert((subsystem, &listed.service)) {
                let what = format!("the service {} at {subsystem}", listed.service);
                return Err(Refused::Twice { path: path.into(), what });
            }
        }
        Ok(document)
    }

    /// The document's bytes: the same document always has the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document has string keys only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "catalogue/VN/GOV/moj.json";

    fn listed(number: usize) -> ListedService {
        ListedService {
            subsystem: "VN/GOV/moj/civil-registry".parse().unwrap(),
            service: format!("civil.v1.S{number}").parse().unwrap(),
            version: Version::FIRST,
            form: if number == 0 { ServiceForm::Grpc } else { ServiceForm::Rest },
            entry: Digest::of(&[b"entry"]),
            open_to: BTreeSet::new(),
        }
    }

    fn document(services: usize) -> CatalogueDocument {
        let services = (0..services).map(listed).collect();
        CatalogueDocument { member: "VN/GOV/moj".parse().unwrap(), services }
    }

    #[test]
    fn what_is_written_is_what_is_read_within_its_limits() {
        for services in [0, 1, MAX_SERVICES] {
            let document = document(services);
            assert_eq!(CatalogueDocument::parse(PATH, &document.to_bytes()).unwrap(), document);
        }
        let refused = CatalogueDocument::parse(PATH, &document(MAX_SERVICES + 1).to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::Limit { .. }), "{refused}");
    }

    #[test]
    fn a_document_speaks_of_its_member_at_its_place_and_of_each_service_once() {
        let refused = CatalogueDocument::parse("catalogue/VN/GOV/tax.json", &document(1).to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::ElsewheresDocument { .. }), "{refused}");
        let mut twice = document(1);
        twice.services.push(listed(0));
        let refused = CatalogueDocument::parse(PATH, &twice.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::Twice { .. }), "{refused}");
        let mut foreign = document(1);
        foreign.services[0].subsystem = "VN/GOV/tax/returns".parse().unwrap();
        let refused = CatalogueDocument::parse(PATH, &foreign.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::ForeignSubsystem { .. }), "{refused}");
        let text = String::from_utf8(document(1).to_bytes()).unwrap();
        let broken = [
            text.replace("1.0", "one"),
            text.replace("services\"", "more\""),
            text.replace("\"entry\"", "\"extra\":1,\"entry\""),
        ];
        for broken in broken {
            let refused = CatalogueDocument::parse(PATH, broken.as_bytes());
            assert!(matches!(refused, Err(Refused::Unreadable { .. })), "{broken}");
        }
    }
}
