//! Fields of a message as people name them, `person.name`, and where they are, `1.2`.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use proto::access::fields::{FieldName, Named};
use proto::minimise::{FieldPath, NotAPath};
use proto::registration::Malformed;

/// Most names of a message that an error shows.
const MAX_NAMES: usize = 100;

/// A text that names no field that may be granted.
#[derive(Debug, thiserror::Error)]
pub enum Unnamed {
    /// There is none.
    #[error("{name:?} is no field of {message}")]
    Unknown {
        /// As named.
        name: String,
        /// Where it was looked for.
        message: String,
        /// What is there.
        known: Vec<String>,
    },
    /// It goes on behind what has no fields.
    #[error("{field} is no message, so {name:?} is not in it")]
    NoMessage {
        /// What has no fields.
        field: String,
        /// As named.
        name: String,
    },
    /// It goes into a group.
    #[error("{0} is a group, which is not gone into: name it whole, or none of it")]
    Group(String),
    /// Its entries would be one.
    #[error("{0} is a map: name {0}.key too, or what is left of its entries cannot be told apart")]
    Keyless(String),
    /// It is too deep.
    #[error(transparent)]
    Path(#[from] NotAPath),
    /// It is too long.
    #[error(transparent)]
    Name(#[from] Malformed),
}

/// The fields of this message that are named, by name or by number.
pub fn named<'n>(message: &MessageDescriptor, names: impl IntoIterator<Item = &'n str>) -> Result<Named, Unnamed> {
    let (mut named, mut maps) = (Named::new(), Named::new());
    for name in names {
        let (mut numbers, mut called) = (Vec::new(), Vec::new());
        let mut within = Some(message.clone());
        for part in name.split('.') {
            let Some(at) = within.take() else {
                return Err(Unnamed::NoMessage { field: called.join("."), name: name.to_owned() });
            };
            let field = field(&at, part)?;
            numbers.push(field.number());
            called.push(field.name().to_owned());
            if let Kind::Message(message) = field.kind() {
                within = Some(message);
            }
            let goes_on = name.split('.').count() > numbers.len();
            if goes_on && field.is_group() {
                return Err(Unnamed::Group(called.join(".")));
            }
            if goes_on && field.is_map() {
                maps.insert(FieldPath::of(&numbers)?, called.join(".").parse()?);
            }
        }
        let called: FieldName = called.join(".").parse()?;
        named.insert(FieldPath::of(&numbers)?, called);
    }
    for (map, called) in maps {
        let key = FieldPath::of(&[map.numbers(), &[1]].concat())?;
        if !named.contains_key(&key) {
            return Err(Unnamed::Keyless(called.to_string()));
        }
    }
    Ok(named)
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, Unnamed> {
    let by_number = || name.parse().ok().and_then(|number| message.get_field(number));
    message.get_field_by_name(name).or_else(by_number).ok_or_else(|| Unnamed::Unknown {
        name: name.to_owned(),
        message: message.full_name().to_owned(),
        known: message.fields().take(MAX_NAMES).map(|field| field.name().to_owned()).collect(),
    })
}
