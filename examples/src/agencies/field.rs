//! The fields that agencies exchange, parsed at each agency's door: national standards, not anybody's schema.

use std::fmt;

use time::Date;
use time::format_description::well_known::Iso8601;
use time::macros::format_description;
use tonic::Status;

/// Most characters of a name or a place.
pub const MAX_TEXT_CHARS: usize = 120;

/// A field that breaks its rule. It names the field as it is written in the form, so that the form can show it there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Invalid {
    field: &'static str,
    rule: &'static str,
}

impl Invalid {
    /// A field that breaks a rule which the types here do not know.
    pub fn new(field: &'static str, rule: &'static str) -> Invalid {
        Invalid { field, rule }
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Status {
        Status::invalid_argument(invalid.to_string())
    }
}

/// A personal number: 12 digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonalNumber(String);

impl PersonalNumber {
    /// Reads the field named.
    pub fn parse(field: &'static str, text: &str) -> Result<PersonalNumber, Invalid> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(PersonalNumber(text.into()))
        } else {
            Err(Invalid::new(field, "a personal number has 12 digits (example: 000196000001)"))
        }
    }

    /// Reads a field that may be left empty.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<PersonalNumber>, Invalid> {
        if text.is_empty() { Ok(None) } else { Self::parse(field, text).map(Some) }
    }

    /// As Viet Nam builds them: place, century and sex, year, serial. Place 000 does not exist: nobody has this number.
    pub(super) fn synthetic(sex: Sex, born: Date, serial: u32) -> PersonalNumber {
        let century = 2 * (u32::from(born.year().unsigned_abs() >= 2000));
        let sex = match sex {
            Sex::Male => 0,
            Sex::Female => 1,
        };
        PersonalNumber(format!("000{}{:02}{serial:06}", century + sex, born.year().rem_euclid(100)))
    }

    /// The 12 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullName(String);

impl FullName {
    /// Reads the field named. Names are compared byte for byte, so only one spelling of each letter is taken.
    pub fn parse(field: &'static str, text: &str) -> Result<FullName, Invalid> {
        let words: Vec<_> = text.split(' ').collect();
        let is_word = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_alphabetic() || "-'’.".contains(c));
        if words.len() >= 2 && words.iter().all(is_word) && text.chars().count() <= MAX_TEXT_CHARS {
            Ok(FullName(text.into()))
        } else {
            Err(Invalid::new(
                field,
                "a full name is family name and given name, of composed letters (Unicode NFC) with one space between \
                 words, at most 120 characters (example: Trần Mẫu Minh)",
            ))
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A place: an address, a hospital.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Reads the field named.
    pub fn parse(field: &'static str, text: &str) -> Result<Place, Invalid> {
        let is_plain = text.trim() == text && !text.is_empty() && !text.chars().any(char::is_control);
        if is_plain && text.chars().count() <= MAX_TEXT_CHARS {
            Ok(Place(text.into()))
        } else {
            Err(Invalid::new(field, "a place is one line of 1 to 120 characters (example: Bệnh viện Mẫu, Hà Nội)"))
        }
    }

    /// The place as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person's sex, as registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sex {
    /// "female"
    Female,
    /// "male"
    Male,
}

impl Sex {
    /// Reads the field named.
    pub fn parse(field: &'static str, text: &str) -> Result<Sex, Invalid> {
        match text {
            "female" => Ok(Sex::Female),
            "male" => Ok(Sex::Male),
            _ => Err(Invalid::new(field, "it is \"female\" or \"male\"")),
        }
    }

    /// As written in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Sex::Female => "female",
            Sex::Male => "male",
        }
    }
}

/// Reads the date in the field named.
pub fn date(field: &'static str, text: &str) -> Result<Date, Invalid> {
    let form = format_description!("[year]-[month]-[day]");
    let is_plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_plain
        .then(|| Date::parse(text, form).ok())
        .flatten()
        .ok_or(Invalid::new(field, "a date is YYYY-MM-DD, a day that exists (example: 2026-02-28)"))
}

/// A date as written in messages.
pub fn written(date: Date) -> String {
    date.format(&Iso8601::DATE).expect("years of people have four digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_does_not_exist_is_refused() {
        for bad in ["", "2026-02-29", "2026-13-01", "2026-1-01", "26-01-01", "2026/01/01", "2026-01-01 ", "+026-01-01"]
        {
            assert!(date("date_of_birth", bad).unwrap_err().to_string().starts_with("date_of_birth: "), "{bad}");
        }
        assert_eq!(written(date("date_of_birth", "2024-02-29").unwrap()), "2024-02-29");
        assert_eq!(written(date("date_of_birth", "1987-01-05").unwrap()), "1987-01-05");
    }

    #[test]
    fn a_personal_number_has_twelve_digits() {
        for bad in ["", "00019600000", "0001960000011", "00019600000a", "٠٠٠١٩٦٠٠٠٠٠١", "000196 00001"] {
            assert!(PersonalNumber::parse("mother_number", bad).is_err(), "{bad}");
        }
        assert_eq!(PersonalNumber::parse_optional("father_number", ""), Ok(None));
        assert!(PersonalNumber::parse_optional("father_number", "1").is_err());
    }

    #[test]
    fn a_name_has_one_spelling() {
        for bad in
            ["", "An", "Trần  Minh", " Trần Minh", "Trần Minh ", "Trần\nMinh", "Tra\u{302}\u{300}n Minh", "Trần 7"]
        {
            assert!(FullName::parse("child_name", bad).is_err(), "{bad:?}");
        }
        assert!(FullName::parse("child_name", "Trần Mẫu Minh").is_ok());
        assert!(FullName::parse("child_name", &format!("A {}", "b".repeat(MAX_TEXT_CHARS - 2))).is_ok());
        assert!(FullName::parse("child_name", &format!("A {}", "b".repeat(MAX_TEXT_CHARS - 1))).is_err());
    }

    #[test]
    fn a_place_is_one_line() {
        for bad in ["", " ", "a\nb", " a", &"a".repeat(MAX_TEXT_CHARS + 1)] {
            assert!(Place::parse("place_of_birth", bad).is_err(), "{bad:?}");
        }
        assert!(Place::parse("place_of_birth", &"a".repeat(MAX_TEXT_CHARS)).is_ok());
    }
}
