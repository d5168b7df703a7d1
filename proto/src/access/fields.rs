//! The fields of an answer that a grant names (PROTOCOL.md 19.4): what a consumer may receive, by number, each with its name
//! for people.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::minimise::{FieldPath, NoTable, Table};
use crate::registration::{Malformed, rule};

/// Longest name of a field with those of the messages that it is in, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// A field as people call it, `person.name`; or its path in numbers, where it was named so. It is shown, and decides nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldName(String);

impl FromStr for FieldName {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let part =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if text.len() <= MAX_NAME_BYTES && text.split('.').all(part) {
            return Ok(Self(text.to_owned()));
        }
        Err(rule("the name of a field", text, "it is names of fields with dots between, like person.name, or numbers"))
    }
}

impl TryFrom<String> for FieldName {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Each field that may be received of a method's response.
pub type Named = BTreeMap<FieldPath, FieldName>;

/// By method, the fields that may be received. Of a method that is not among them, all may. Read, it has its tables: no grant
/// is there of which messages could not be minimised.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Named>", into = "BTreeMap<String, Named>")]
pub struct Fields(BTreeMap<String, (Named, Arc<Table>)>);

/// Fields that no grant can name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("of {method}: {why}")]
pub struct NoFields {
    method: String,
    why: NoTable,
}

impl TryFrom<BTreeMap<String, Named>> for Fields {
    type Error = NoFields;
    fn try_from(named: BTreeMap<String, Named>) -> Result<Self, NoFields> {
        let table = |(method, named): (String, Named)| match Table::of(named.keys()) {
            Ok(table) => Ok((method, (named, Arc::new(table)))),
            Err(why) => Err(NoFields { method, why }),
        };
        named.into_iter().map(table).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Fields> for BTreeMap<String, Named> {
    fn from(fields: Fields) -> Self {
        fields.0.into_iter().map(|(method, (named, _))| (method, named)).collect()
    }
}

impl Fields {
    /// Whether no method's are named: all of everything may be received.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the names in it.
    pub fn text_bytes(&self) -> usize {
        let named =
            |named: &Named| named.iter().map(|(path, name)| path.to_string().len() + name.0.len()).sum::<usize>();
        self.0.iter().map(|(method, (names, _))| method.len() + named(names)).sum()
    }

    /// The methods of which fields are named.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What this method's answers are held against. None: they pass whole.
    pub fn table(&self, method: &str) -> Option<&Arc<Table>> {
        self.0.get(method).map(|(_, table)| table)
    }
}

impl fmt::Display for Fields {
    /// For people: `/a.B/C: person.name, person.born; /a.B/D: name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (method, (named, _))) in self.0.iter().enumerate() {
            let names: Vec<String> = named.values().map(ToString::to_string).collect();
            write!(f, "{}{method}: {}", if at == 0 { "" } else { "; " }, names.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_as_they_were_written_or_not_at_all() {
        let text = r#"{"/a.B/C":{"1.2":"person.name","3":"number"},"/a.B/D":{"1":"1"}}"#;
        let fields: Fields = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&fields).unwrap(), text);
        assert_eq!(fields.to_string(), "/a.B/C: person.name, number; /a.B/D: 1");
        assert!(fields.table("/a.B/C").is_some() && fields.table("/a.B/E").is_none() && !fields.is_empty());
        for wrong in [
            r#"{"/a.B/C":{}}"#,
            r#"{"/a.B/C":{"1":"person","1.2":"person.name"}}"#,
            r#"{"/a.B/C":{"01":"name"}}"#,
            r#"{"/a.B/C":{"0":"name"}}"#,
            r#"{"/a.B/C":{"1":"a name"}}"#,
            r#"{"/a.B/C":{"1":"\u001b[2J"}}"#,
            r#"{"/a.B/C":{"1":""}}"#,
            r#"{"/a.B/C":["1"]}"#,
        ] {
            assert!(serde_json::from_str::<Fields>(wrong).is_err(), "{wrong}");
        }
    }
}
