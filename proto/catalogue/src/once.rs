//! Collected once: which service is the source of a data element, which others ask people for it, and what may be listed beside
//! what is. An index: nothing here looks through services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::catalogue::{ElementField, ElementName, Part, ServiceName};
use proto::identifier::SubsystemId;
use proto::registration::Text;

/// A service at the subsystem that offers it.
pub type Offer = Arc<(SubsystemId, ServiceName)>;

/// Who does what with each element.
#[derive(Debug, Default)]
pub struct Elements(BTreeMap<ElementName, Users>);

/// Who does what with one element.
#[derive(Debug, Default)]
pub struct Users([BTreeSet<Offer>; 4]);

impl Users {
    /// The services in whose fields it has this part.
    pub fn with(&self, part: Part) -> &BTreeSet<Offer> {
        &self.0[part as usize]
    }

    /// All services that have it in a field.
    pub fn all(&self) -> BTreeSet<Offer> {
        self.0.iter().flatten().cloned().collect()
    }

    /// The service that is its source. Several of one subsystem may be: the versions of one register.
    pub fn source(&self) -> Option<&Offer> {
        self.with(Part::Authoritative).first()
    }

    /// Who asks people for it though another subsystem is its source.
    pub fn asked_again(&self) -> impl Iterator<Item = &Offer> {
        let source = self.source();
        let again = move |offer: &&Offer| source.is_some_and(|source| source.0 != offer.0);
        self.with(Part::Collects).iter().filter(again)
    }
}

/// What is found against a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// The field of the service, and what it carries.
    pub field: ElementField,
    /// Who is the source.
    pub source: Offer,
}

/// The rules of the lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// People are asked for what another is the source of.
    Once001,
    /// An element has a source already.
    Once002,
}

impl Rule {
    /// As people look for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Once001 => "ONCE001",
            Self::Once002 => "ONCE002",
        }
    }
}

impl Finding {
    /// Why people are asked again, where that is said: then it is a warning, and everybody can read it.
    pub fn excuse(&self) -> Option<&Text> {
        self.field.reason.as_ref().filter(|_| self.rule == Rule::Once001)
    }
}

/// How many fields of a service's requests carry an element, by where they come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// A system hands them on.
    pub reused: u64,
    /// People are asked, and nobody else is their source.
    pub first: u64,
    /// People are asked, though another subsystem is their source.
    pub again: u64,
}

impl Asked {
    /// Whether anything is asked.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Asked {
    fn add_assign(&mut self, other: Self) {
        self.reused += other.reused;
        self.first += other.first;
        self.again += other.again;
    }
}

impl Elements {
    /// The service is listed with these fields.
    pub fn list(&mut self, offer: &Offer, fields: &[ElementField]) {
        for field in fields {
            let users = self.0.entry(field.element.clone()).or_default();
            users.0[field.part as usize].insert(offer.clone());
        }
    }

    /// It was listed with these fields, and is not any more.
    pub fn forget(&mut self, offer: &Offer, fields: &[ElementField]) {
        for field in fields {
            let Some(users) = self.0.get_mut(&field.element) else { continue };
            users.0[field.part as usize].remove(offer);
            if users.0.iter().all(BTreeSet::is_empty) {
                self.0.remove(&field.element);
            }
        }
    }

    /// Who does what with this element.
    pub fn get(&self, element: &ElementName) -> Option<&Users> {
        self.0.get(element)
    }

    /// Every element, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ElementName, &Users)> {
        self.0.iter()
    }

    /// Holds the fields of a service at this subsystem against what others are the source of.
    pub fn findings(&self, subsystem: &SubsystemId, fields: &[ElementField]) -> Vec<Finding> {
        let found = |field: &ElementField| {
            let rule = match field.part {
                Part::Authoritative => Rule::Once002,
                Part::Collects => Rule::Once001,
                Part::Gives | Part::Takes => return None,
            };
            let source = self.source_elsewhere(subsystem, &field.element)?.clone();
            Some(Finding { rule, field: field.clone(), source })
        };
        fields.iter().filter_map(found).collect()
    }

    /// How much of what a service at this subsystem asks for is reused, and how much is asked again.
    pub fn asked(&self, subsystem: &SubsystemId, fields: &[ElementField]) -> Asked {
        let mut asked = Asked::default();
        for field in fields {
            match field.part {
                Part::Takes => asked.reused += 1,
                Part::Collects if self.source_elsewhere(subsystem, &field.element).is_some() => asked.again += 1,
                Part::Collects => asked.first += 1,
                Part::Gives | Part::Authoritative => {}
            }
        }
        asked
    }

    fn source_elsewhere(&self, subsystem: &SubsystemId, element: &ElementName) -> Option<&Offer> {
        let sources = self.0.get(element)?.with(Part::Authoritative);
        sources.iter().find(|source| source.0 != *subsystem)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [Part; 4] = [Part::Gives, Part::Authoritative, Part::Takes, Part::Collects];

    fn offer(agency: usize, service: usize) -> Offer {
        let subsystem = format!("VN/GOV/a{agency}/register").parse().unwrap();
        Arc::new((subsystem, format!("a{agency}.v{service}.S").parse().unwrap()))
    }

    fn field(element: usize, part: Part, reason: Option<&str>) -> ElementField {
        let element: ElementName = format!("person.e{element}").parse().unwrap();
        let reason = reason.map(|reason| reason.parse().unwrap());
        ElementField { field: format!("a.v1.M.{}", part.word()), element, part, reason }
    }

    #[test]
    fn an_element_has_one_source_and_people_are_not_asked_for_it_elsewhere() {
        let mut elements = Elements::default();
        let (register, form) = (offer(1, 1), offer(2, 1));
        elements.list(&register, &[field(1, Part::Authoritative, None)]);
        let found = |subsystem: &Offer, fields: &[ElementField]| elements.findings(&subsystem.0, fields);
        let second = found(&form, &[field(1, Part::Authoritative, None)]);
        assert_eq!((second[0].rule, &second[0].source), (Rule::Once002, &register));
        assert_eq!(second[0].excuse(), None);
        let asks = found(&form, &[field(1, Part::Collects, None), field(2, Part::Collects, None)]);
        assert_eq!((asks.len(), asks[0].rule, asks[0].excuse()), (1, Rule::Once001, None));
        let excused = found(&form, &[field(1, Part::Collects, Some("it is urgent"))]);
        assert_eq!(excused[0].excuse().unwrap().as_str(), "it is urgent");
        // A reason is for asking, not for a second source.
        let claims = found(&form, &[field(1, Part::Authoritative, Some("because"))]);
        assert_eq!(claims[0].excuse(), None);
        assert_eq!(found(&form, &[field(1, Part::Takes, None), field(1, Part::Gives, None)]), []);
        // The register's next version, beside this one, and what it asks people itself.
        assert_eq!(found(&offer(1, 2), &[field(1, Part::Authoritative, None), field(1, Part::Collects, None)]), []);
    }

    #[test]
    fn what_forms_ask_is_counted_by_where_it_comes_from() {
        let mut elements = Elements::default();
        elements.list(&offer(1, 1), &[field(1, Part::Authoritative, None)]);
        let fields = [1, 2].map(|element| field(element, Part::Collects, None));
        let fields = [&fields[..], &[field(3, Part::Takes, None)]].concat();
        assert_eq!(elements.asked(&offer(2, 1).0, &fields), Asked { reused: 1, first: 1, again: 1 });
        assert_eq!(elements.asked(&offer(1, 1).0, &fields), Asked { reused: 1, first: 2, again: 0 });
    }

    proptest! {
        /// Services come, change and go: the index says what a look at all of them says.
        #[test]
        fn the_index_is_what_looking_through_everything_would_find(
            steps in proptest::collection::vec(
                (0..4_usize, 0..2_usize, proptest::collection::btree_set((0..3_usize, 0..4_usize), 0..4)), 0..30),
        ) {
            let mut elements = Elements::default();
            let mut listed: BTreeMap<Offer, Vec<ElementField>> = BTreeMap::new();
            for (agency, service, fields) in steps {
                let offer = offer(agency, service);
                let fields: Vec<_> = fields.into_iter().map(|(element, part)| field(element, PARTS[part], None)).collect();
                if let Some(before) = listed.remove(&offer) {
                    elements.forget(&offer, &before);
                }
                if !fields.is_empty() {
                    elements.list(&offer, &fields);
                    listed.insert(offer, fields);
                }
            }
            for agency in 0..4 {
                let subsystem = offer(agency, 0).0.clone();
                for element in 0..3 {
                    for part in PARTS {
                        let asked = field(element, part, None);
                        let claimed = |each: &ElementField| each.element == asked.element && each.part == Part::Authoritative;
                        let elsewhere = listed.iter().any(|(offer, fields)| offer.0 != subsystem && fields.iter().any(claimed));
                        let counts = matches!(part, Part::Authoritative | Part::Collects);
                        let found = elements.findings(&subsystem, std::slice::from_ref(&asked));
                        prop_assert_eq!(!found.is_empty(), counts && elsewhere);
                    }
                }
            }
            let names: BTreeSet<_> = listed.values().flatten().map(|field| field.element.clone()).collect();
            prop_assert!(elements.iter().map(|(name, _)| name).eq(names.iter()));
        }
    }
}
