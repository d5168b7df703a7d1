//! Data elements: what a field carries, whatever it is called, and who is asked for it (PROTOCOL.md 17.6).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MAX_SERVICE_BYTES;
use crate::registration::{Malformed, Text, rule, within};
use crate::wire::registry as wire;

/// Most fields with an element of one service.
pub const MAX_ELEMENT_FIELDS: usize = 512;
/// Longest name of an element.
pub const MAX_ELEMENT_BYTES: usize = 100;

/// The name of a data element: `person.birth.date`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ElementName(String);

impl ElementName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ElementName {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let word = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_lowercase())
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if text.len() <= MAX_ELEMENT_BYTES && text.contains('.') && text.split('.').all(word) {
            Ok(Self(text.to_owned()))
        } else {
            let rules = "it is two or more words of small letters, digits and _, with dots between them, at most 100 bytes, as \
                         person.birth.date";
            Err(rule("the element", text, rules))
        }
    }
}

impl TryFrom<String> for ElementName {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<ElementName> for String {
    fn from(name: ElementName) -> Self {
        name.0
    }
}

impl fmt::Display for ElementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a service does with an element in one of its fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It answers with it, having it from elsewhere.
    Gives,
    /// It answers with it, and is where others ask for it.
    Authoritative,
    /// A system hands it on in a request.
    Takes,
    /// A person is asked for it, and it comes in a request.
    Collects,
}

impl Part {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gives => "gives",
            Self::Authoritative => "authoritative",
            Self::Takes => "takes",
            Self::Collects => "collects",
        }
    }
}

/// A field of a service that carries an element.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ElementField {
    /// What it carries.
    pub element: ElementName,
    /// Its full name: `population.v1.Person.date_of_birth`.
    pub field: String,
    /// What the service does with it.
    pub part: Part,
    /// Why people are asked for it, where they are and a reason is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

impl ElementField {
    pub(super) fn to_wire(&self) -> wire::CatalogueElement {
        let part = match self.part {
            Part::Gives => wire::ElementPart::Gives,
            Part::Authoritative => wire::ElementPart::Authoritative,
            Part::Takes => wire::ElementPart::Takes,
            Part::Collects => wire::ElementPart::Collects,
        };
        wire::CatalogueElement {
            element: self.element.to_string(),
            field: self.field.clone(),
            part: part.into(),
            reason: self.reason.as_ref().map(Text::to_string).unwrap_or_default(),
        }
    }

    fn parse(read: wire::CatalogueElement) -> Result<Self, Malformed> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
        within("a field's name", read.field.len(), 2 * MAX_SERVICE_BYTES)?;
        if read.field.is_empty() || !read.field.bytes().all(word) {
            return Err(rule("a field's name", &read.field, "it is a full name of Protocol Buffers"));
        }
        let part = match read.part() {
            wire::ElementPart::Gives => Part::Gives,
            wire::ElementPart::Authoritative => Part::Authoritative,
            wire::ElementPart::Takes => Part::Takes,
            wire::ElementPart::Collects => Part::Collects,
            wire::ElementPart::Unspecified => {
                let found = read.part.to_string();
                return Err(rule("an element's part", &found, "it is 1 to 4, as PROTOCOL.md 17.6 has them"));
            }
        };
        let reason = Some(&read.reason).filter(|reason| !reason.is_empty());
        if reason.is_some() && part != Part::Collects {
            return Err(rule("a reason", &read.reason, "only a field that is collected from people has one"));
        }
        let reason = reason.map(|reason| reason.parse()).transpose()?;
        Ok(Self { element: read.element.parse()?, field: read.field, part, reason })
    }
}

/// The rows of an entry: each field in each part once, in one order.
pub(super) fn parse(read: Vec<wire::CatalogueElement>) -> Result<Vec<ElementField>, Malformed> {
    if read.len() > MAX_ELEMENT_FIELDS {
        let found = read.len().to_string();
        return Err(rule("the number of fields with an element", &found, "a service of the catalogue has at most 512"));
    }
    let fields = read.into_iter().map(ElementField::parse).collect::<Result<Vec<_>, _>>()?;
    let place = |each: &ElementField| (each.element.clone(), each.field.clone(), each.part);
    match fields.windows(2).find(|pair| place(&pair[0]) >= place(&pair[1])) {
        None => Ok(fields),
        Some(pair) => {
            let rules = "each field stands once, in the order of elements, fields and parts";
            Err(rule("the place of an element", &format!("{} of {}", pair[1].element, pair[1].field), rules))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_called_by_small_words_with_dots() {
        for good in ["person.name", "person.birth.date", "a.b2_c"] {
            assert_eq!(good.parse::<ElementName>().unwrap().as_str(), good);
        }
        let long = format!("a.{}", "b".repeat(MAX_ELEMENT_BYTES - 1));
        for bad in ["", "person", "Person.name", "person..name", ".a", "a.", "a.1b", "a.b c", "người.tên", &long] {
            assert!(bad.parse::<ElementName>().unwrap_err().to_string().contains("the element"), "{bad}");
        }
        assert!(long[..MAX_ELEMENT_BYTES].parse::<ElementName>().is_ok());
    }

    #[test]
    fn rows_have_one_order_and_each_stands_once() {
        let row = |element: &str, field: &str, part: Part, reason: &str| {
            let reason = Some(reason).filter(|reason| !reason.is_empty()).map(|reason| reason.parse().unwrap());
            ElementField { element: element.parse().unwrap(), field: field.into(), part, reason }.to_wire()
        };
        let (name, again) = (row("p.name", "a.B.c", Part::Takes, ""), row("p.name", "a.B.c", Part::Collects, "why"));
        assert_eq!(parse(vec![name.clone(), again.clone()]).unwrap().len(), 2);
        let refused = |rows: Vec<wire::CatalogueElement>| parse(rows).unwrap_err().to_string();
        assert!(refused(vec![again.clone(), name.clone()]).contains("the place of an element"));
        assert!(refused(vec![name.clone(); 2]).contains("the place of an element"));
        let other = wire::CatalogueElement { reason: "another".into(), ..again.clone() };
        assert!(refused(vec![again.clone(), other]).contains("the place of an element"), "one reason for each");
        assert!(refused(vec![wire::CatalogueElement { part: 9, ..name.clone() }]).contains("an element's part"));
        assert!(refused(vec![wire::CatalogueElement { part: 0, ..name.clone() }]).contains("an element's part"));
        assert!(refused(vec![wire::CatalogueElement { part: 1, ..again }]).contains("a reason"));
        assert!(
            refused(vec![wire::CatalogueElement { field: "a b".into(), ..name.clone() }]).contains("a field's name")
        );
        assert!(refused(vec![name; MAX_ELEMENT_FIELDS + 1]).contains("at most 512"));
    }
}
