//! Who received what about a person, when, for what purpose and on what legal basis: what an agency can tell everybody of
//! their own data (PROTOCOL.md 21.5).

pub mod over_the_bus;

use std::collections::BTreeSet;

use proto::catalogue::ElementName;
use proto::global_configuration::Configuration;
use proto::identifier::{MemberId, ServerId, SubsystemId};
use proto::purposes::PurposeCode;
use proto::refusal::Language;
use proto::time::Time;
use serde::{Deserialize, Serialize};

use crate::SecurityServer;
use crate::message_log::OpenError;
use crate::message_log::exchanges::{FoundExchange, ResultKind, RowKey, Search};
use crate::subjects::Subject;

/// Most disclosures that are told at once.
pub const MAX_DISCLOSURES: usize = 200;

/// About whom, and which of them. What is absent asks nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// The identifier, as requests name it. It is not written down anywhere.
    pub subject: String,
    /// Of requests at this time or later, RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// Before this time.
    #[serde(default)]
    pub until: Option<String>,
    /// Older than where an earlier answer ended.
    #[serde(default)]
    pub before: Option<String>,
    /// At most so many, the newest.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A text in both languages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InBoth {
    /// In English.
    pub en: String,
    /// In Vietnamese.
    pub vi: String,
}

impl InBoth {
    /// In this language.
    pub fn in_language(&self, language: Language) -> &str {
        match language {
            Language::English => &self.en,
            Language::Vietnamese => &self.vi,
        }
    }
}

/// One exchange that was about a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disclosure {
    /// When it was asked, by the asking server's clock, RFC 3339.
    pub time: String,
    /// The exchange: whoever doubts it asks for its evidence.
    pub exchange: String,
    /// Which of its attempts.
    pub attempt: u32,
    /// The subsystem that asked.
    pub consumer: String,
    /// Its member's name, as it is registered.
    pub consumer_name: String,
    /// The subsystem that was asked.
    pub provider: String,
    /// The gRPC path.
    pub method: String,
    /// What the service is called, where it is listed still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What the method does, as its publisher says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The data elements that its answers carry.
    #[serde(default)]
    pub elements: BTreeSet<ElementName>,
    /// For what: the code.
    pub purpose: String,
    /// The same for people, where it is on the instance's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose_text: Option<InBoth>,
    /// By which law.
    pub legal_basis: String,
    /// The number of the grant at this server.
    pub grant: u64,
    /// How it ended.
    pub result: ResultKind,
    /// The gRPC status of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
}

/// What an agency's server tells of a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disclosures {
    /// Which server tells it.
    pub server: ServerId,
    /// Other servers of its member, of which each tells what it was asked itself.
    #[serde(default)]
    pub not_covered: BTreeSet<ServerId>,
    /// The newest first.
    pub disclosures: Vec<Disclosure>,
    /// Where to go on, if there are older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What is asked cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Nobody.
    #[error("subject: it names nobody; give the identifier as requests write it")]
    Nobody,
    /// No time.
    #[error("{0:?} is no time; write 2026-11-22T00:00:00Z")]
    Time(String),
    /// No place.
    #[error("before: {0}")]
    Before(#[from] crate::message_log::exchanges::NotAPlace),
    /// Too many, or none.
    #[error("limit: {0} is not from 1 to {MAX_DISCLOSURES}; go on with `before`")]
    Limit(usize),
}

/// A question, understood. The identifier is not in it any more.
#[derive(Clone)]
pub struct Asked {
    subject: Subject,
    search: Search,
}

impl Asked {
    /// About whom, as the log knows them.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Of one provider's only.
    pub(crate) fn of(mut self, provider: SubsystemId) -> Self {
        self.search.provider = Some(provider);
        self
    }
}

impl SecurityServer {
    /// Understands a question about a person.
    pub fn asked_about(&self, asking: &Asking) -> Result<Asked, NotAsked> {
        if asking.subject.is_empty() || asking.subject == "0" {
            return Err(NotAsked::Nobody);
        }
        let limit = asking.limit.unwrap_or(MAX_DISCLOSURES);
        if !(1..=MAX_DISCLOSURES).contains(&limit) {
            return Err(NotAsked::Limit(limit));
        }
        let before = asking.before.as_ref().map(|before| before.parse::<RowKey>()).transpose()?;
        let subject = self.subjects.of(&asking.subject);
        let time = |text: &Option<String>| {
            text.as_deref().map(|text| text.parse::<Time>().map_err(|_| NotAsked::Time(text.to_owned()))).transpose()
        };
        let (since, until) = (time(&asking.since)?, time(&asking.until)?);
        Ok(Asked {
            subject,
            search: Search { subject: Some(subject), since, until, before, limit, ..Search::default() },
        })
    }

    /// Who received what about this person through this server. Reads the disk: not for the message path.
    pub fn disclosures(&self, asked: &Asked) -> Result<Disclosures, OpenError> {
        let configuration = self.configuration.load();
        let (found, next) = self.message_log.disclosed(&asked.search)?;
        let told = found.into_iter().map(|(found, why)| {
            let (service, method) = found.operation.trim_start_matches('/').split_once('/').unwrap_or_default();
            let provider = found.provider.parse::<SubsystemId>().ok();
            let facts = provider.and_then(|provider| self.subjects.facts(&configuration, &provider, service));
            let of_method = facts.as_ref().and_then(|facts| facts.methods.get(method));
            Disclosure {
                consumer_name: name(&configuration, &found),
                service: facts.as_ref().map(|facts| facts.title.clone()),
                description: of_method.map(|method| method.description.clone()).filter(|text| !text.is_empty()),
                elements: of_method.map(|method| method.gives.clone()).unwrap_or_default(),
                purpose_text: meaning(&configuration, &why.purpose),
                purpose: why.purpose,
                legal_basis: why.legal_basis,
                grant: why.grant,
                time: found.time,
                exchange: found.exchange,
                attempt: found.attempt,
                consumer: found.consumer,
                provider: found.provider,
                method: found.operation,
                result: found.result,
                status: found.status,
            }
        });
        let members = self.subjects.members().iter().filter_map(|member| configuration.members.get(member));
        let subsystems = members.flat_map(|member| &member.subsystems);
        let meant = |(id, _): &(&SubsystemId, _)| asked.search.provider.as_ref().is_none_or(|provider| provider == *id);
        let servers = subsystems.filter(meant).flat_map(|(_, servers)| servers);
        let not_covered = servers.filter(|server| **server != self.id).cloned().collect();
        Ok(Disclosures { server: self.id.clone(), not_covered, disclosures: told.collect(), next })
    }
}

/// Who asked, by name: of a member that is not registered any more there is the identifier.
fn name(configuration: &Configuration, found: &FoundExchange) -> String {
    let member: Option<MemberId> = found.consumer.parse::<SubsystemId>().ok().map(|consumer| consumer.member());
    let registered = member.and_then(|member| configuration.members.get(&member).map(|member| member.name.to_string()));
    registered.unwrap_or_else(|| found.consumer.clone())
}

fn meaning(configuration: &Configuration, purpose: &str) -> Option<InBoth> {
    let meaning = configuration.purposes.get(&purpose.parse::<PurposeCode>().ok()?)?;
    Some(InBoth { en: meaning.en.to_string(), vi: meaning.vi.to_string() })
}
