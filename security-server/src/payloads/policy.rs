//! Which payloads are kept, and for how long: of each service, ours or another member's. Of a service that is not named nothing
//! is kept.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use proto::identifier::SubsystemId;
use proto::message::{Operation, Route};
use proto::time::Time;

/// Most days for which payloads are kept, other than always: a hundred years.
pub const MAX_DAYS: u32 = 36_500;
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// For how long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Keep {
    /// For so many days after the exchange was opened, and erased within the day that follows.
    Days(u32),
    /// Until somebody erases them.
    Always,
}

impl Keep {
    /// When the payloads of an exchange opened at this time are erased. Days are those of UTC.
    pub fn until(self, opened: Time) -> Option<Time> {
        match self {
            Self::Always => None,
            Self::Days(days) => {
                Some(Time::from_millis((opened.as_millis() / DAY_MS + u64::from(days) + 1).saturating_mul(DAY_MS)))
            }
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Days(1) => f.write_str("1 day"),
            Self::Days(days) => write!(f, "{days} days"),
        }
    }
}

/// What is kept of which service at which provider.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy(HashMap<SubsystemId, HashMap<String, Keep>>);

impl Policy {
    /// Of these services; of all others nothing.
    pub fn of(kept: impl IntoIterator<Item = (SubsystemId, String, Keep)>) -> Self {
        let mut policy = Self::default();
        for (provider, service, keep) in kept {
            policy.0.entry(provider).or_default().insert(service, keep);
        }
        policy
    }

    /// Whether nothing is kept at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is kept of an exchange on this route.
    pub(super) fn for_route(&self, route: &Route) -> Option<Keep> {
        // Both are written /service/method (PROTOCOL.md 2.3 and 22.4).
        let operation = match &route.operation {
            Operation::Grpc(path) => path.as_str(),
            Operation::Http { target, .. } => target,
        };
        let service = operation.strip_prefix('/')?.split('/').next()?;
        self.0.get(&route.provider)?.get(service).copied()
    }

    /// Each term for which something is kept.
    pub(super) fn terms(&self) -> BTreeSet<Keep> {
        self.0.values().flat_map(HashMap::values).copied().collect()
    }

    /// Each service of which something is kept, sorted.
    pub fn services(&self) -> Vec<(&SubsystemId, &str, Keep)> {
        let mut all = Vec::new();
        for (provider, services) in &self.0 {
            all.extend(services.iter().map(|(name, keep)| (provider, name.as_str(), *keep)));
        }
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_provider_and_its_whole_name_whatever_it_speaks() {
        let provider: SubsystemId = "VN/GOV/moj/civil-registry".parse().unwrap();
        let policy = Policy::of([
            (provider.clone(), "pets.v1".to_owned(), Keep::Always),
            (provider.clone(), "civil.v1.Births".to_owned(), Keep::Days(3)),
        ]);
        let kept = |provider: &str, operation| {
            policy.for_route(&Route {
                instance: "VN".parse().unwrap(),
                consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
                consumer_server: "VN/GOV/portal/ss1".parse().unwrap(),
                provider: provider.parse().unwrap(),
                provider_server: "VN/GOV/moj/ss1".parse().unwrap(),
                operation,
            })
        };
        let grpc = |path: &str| Operation::Grpc(path.parse().unwrap());
        let rest = |target: &str| Operation::Http { verb: "GET".to_owned(), target: target.to_owned() };
        assert_eq!(kept("VN/GOV/moj/civil-registry", grpc("/civil.v1.Births/Register")), Some(Keep::Days(3)));
        assert_eq!(kept("VN/GOV/moj/civil-registry", rest("/pets.v1/getPet")), Some(Keep::Always));
        for other in [grpc("/civil.v1.Birth/Register"), grpc("/civil.v1/Births"), rest("/pets/getPet"), rest("pets.v1")]
        {
            assert_eq!(kept("VN/GOV/moj/civil-registry", other), None);
        }
        assert_eq!(kept("VN/GOV/moj/another", grpc("/civil.v1.Births/Register")), None);
        assert_eq!(
            policy.services(),
            [(&provider, "civil.v1.Births", Keep::Days(3)), (&provider, "pets.v1", Keep::Always)]
        );
    }

    #[test]
    fn a_payload_is_kept_for_whole_days_and_erased_within_the_next() {
        let at = |text: &str| text.parse::<Time>().unwrap();
        let until = |opened: &str| Keep::Days(1).until(at(opened)).unwrap().to_string();
        assert_eq!(until("2026-03-01T00:00:00Z"), "2026-03-03T00:00:00.000Z");
        assert_eq!(until("2026-03-01T23:59:59.999Z"), "2026-03-03T00:00:00.000Z");
        assert_eq!(until("2026-03-02T00:00:00Z"), "2026-03-04T00:00:00.000Z");
        assert_eq!(Keep::Always.until(at("2026-03-01T00:00:00Z")), None);
        assert!(Keep::Days(MAX_DAYS).until(Time::from_millis(u64::MAX)).is_some());
    }
}
