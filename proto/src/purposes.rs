//! For what data may be asked: the instance's own list (PROTOCOL.md 18). Each purpose has a code, by which calls, grants and
//! access requests name it, and a text in English and in Vietnamese for whoever reads what became of their data.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::registration::{Malformed, Text, rule};
use crate::wire::registry as wire;

/// Most purposes of an instance.
pub const MAX_PURPOSES: usize = 200;
/// Longest code of a purpose, in bytes.
pub const MAX_PURPOSE_BYTES: usize = 64;

/// The code of a purpose: `birth-registration`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PurposeCode(String);

impl PurposeCode {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PurposeCode {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() <= MAX_PURPOSE_BYTES && text.split('-').all(word) {
            Ok(Self(text.to_owned()))
        } else {
            let rules =
                "it is words of small letters and digits with - between them, at most 64 bytes, as birth-registration";
            Err(rule("the purpose", text, rules))
        }
    }
}

impl TryFrom<String> for PurposeCode {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<PurposeCode> for String {
    fn from(code: PurposeCode) -> Self {
        code.0
    }
}

impl fmt::Display for PurposeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a purpose means, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meaning {
    /// In English.
    pub en: Text,
    /// In Vietnamese.
    pub vi: Text,
}

/// The purposes of an instance, by their codes.
pub type Purposes = BTreeMap<PurposeCode, Meaning>;

/// A purpose as it stands in the configuration and in an order: its texts may still be missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurposeDocument {
    /// Its code.
    pub purpose: PurposeCode,
    /// In English.
    #[serde(default)]
    pub en: String,
    /// In Vietnamese.
    #[serde(default)]
    pub vi: String,
}

/// A purpose that nobody could read in both languages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the purpose {purpose} has no text in {language} that could be shown; give 1 to 500 bytes on one line: --{option} \"…\""
)]
pub struct TextMissing {
    /// Which.
    pub purpose: PurposeCode,
    /// In which language.
    pub language: &'static str,
    /// By which option it is given.
    pub option: &'static str,
}

impl PurposeDocument {
    /// What it means, in both languages.
    pub fn meaning(&self) -> Result<Meaning, TextMissing> {
        let text = |text: &str, language, option| {
            text.parse().map_err(|_| TextMissing { purpose: self.purpose.clone(), language, option })
        };
        Ok(Meaning { en: text(&self.en, "English", "en")?, vi: text(&self.vi, "Vietnamese", "vi")? })
    }

    pub(crate) fn parse(it: wire::SetPurpose) -> Result<Self, Malformed> {
        let document = Self { purpose: it.purpose.parse()?, en: it.en, vi: it.vi };
        document.meaning().map_err(|missing| {
            let text = if missing.option == "en" { &document.en } else { &document.vi };
            let rules = "it needs a text in English and one in Vietnamese, each of 1 to 500 bytes on one line";
            rule(
                if missing.option == "en" { "the purpose's English text" } else { "the purpose's Vietnamese text" },
                text,
                rules,
            )
        })?;
        Ok(document)
    }

    /// As it goes onto the wire.
    pub fn to_wire(&self) -> wire::SetPurpose {
        wire::SetPurpose { purpose: self.purpose.to_string(), en: self.en.clone(), vi: self.vi.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_words_with_hyphens() {
        for good in ["birth-registration", "a", "tax2027", &"a".repeat(MAX_PURPOSE_BYTES)] {
            assert!(good.parse::<PurposeCode>().is_ok(), "{good}");
        }
        for bad in ["", "-", "a-", "-a", "a--b", "Births", "a b", "khai-sinh-trẻ", &"a".repeat(MAX_PURPOSE_BYTES + 1)]
        {
            assert!(bad.parse::<PurposeCode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_purpose_without_both_texts_names_the_language_that_is_missing() {
        let purpose = |en: &str, vi: &str| {
            PurposeDocument { purpose: "tax".parse().unwrap(), en: en.into(), vi: vi.into() }
                .meaning()
                .map_err(|missing| missing.language)
        };
        assert!(purpose("Taxes", "Thuế").is_ok());
        assert_eq!(purpose("", "Thuế"), Err("English"));
        assert_eq!(purpose("Taxes", " "), Err("Vietnamese"));
        assert_eq!(purpose("Taxes", "hai\ndòng"), Err("Vietnamese"));
    }
}
