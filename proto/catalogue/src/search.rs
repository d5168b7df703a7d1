//! Words as people type them: without capitals, and without the marks of Vietnamese and its neighbours. "ho tich" finds
//! "Hộ tịch", written in either of Unicode's ways.

/// Each letter with what is written without its marks.
const MARKED: &[(&str, &str)] = &[
    ("a", "àáảãạăằắẳẵặâầấẩẫậäåāą"),
    ("ae", "æ"),
    ("c", "çćčĉċ"),
    ("d", "đďð"),
    ("e", "èéẻẽẹêềếểễệëēėęě"),
    ("g", "ğĝġģ"),
    ("i", "ìíỉĩịîïīįı"),
    ("l", "łĺľļ"),
    ("n", "ñńňņ"),
    ("o", "òóỏõọôồốổỗộơờớởỡợöøōő"),
    ("oe", "œ"),
    ("r", "ŕřŗ"),
    ("s", "śšşșŝ"),
    ("ss", "ß"),
    ("t", "ťţț"),
    ("u", "ùúủũụưừứửữựûüūůűų"),
    ("y", "ỳýỷỹỵÿŷ"),
    ("z", "źžż"),
];

/// Small letters without marks; whatever is neither letter nor digit is a space.
pub fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        if ('\u{300}'..='\u{36f}').contains(&letter) {
            continue;
        }
        if letter.is_ascii() {
            folded.push(if letter.is_ascii_alphanumeric() { letter } else { ' ' });
            continue;
        }
        match MARKED.iter().find(|(_, marked)| marked.contains(letter)) {
            Some((plain, _)) => folded.push_str(plain),
            None => folded.push(if letter.is_alphanumeric() { letter } else { ' ' }),
        }
    }
    folded
}

/// What is looked for: words, each of which must occur.
#[derive(Clone, Debug)]
pub struct Query(Vec<String>);

impl Query {
    /// As somebody typed it.
    pub fn new(text: &str) -> Self {
        Self(folded(text).split_whitespace().map(str::to_owned).collect())
    }

    /// Whether every word occurs in this folded text.
    pub fn finds(&self, folded: &str) -> bool {
        self.0.iter().all(|word| folded.contains(word.as_str()))
    }

    /// Nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_capitals_do_not_count() {
        for text in ["Hộ tịch", "HO TICH", "hộ_tịch", "Ho\u{302}\u{323} ti\u{323}ch"] {
            assert!(Query::new("ho tich").finds(&folded(text)), "{text}: {}", folded(text));
            assert!(Query::new(text).finds(&folded("civil.v1 hộ tịch")), "{text}");
        }
        assert_eq!(folded("Đường ẩn Ữ"), "duong an u");
        assert!(!Query::new("ho tich").finds(&folded("Hộ chiếu")));
    }

    #[test]
    fn each_word_must_occur_in_any_order() {
        assert!(Query::new("tich ho").finds(&folded("Hộ tịch")));
        assert!(!Query::new("ho khau").finds(&folded("Hộ tịch")));
        assert!(Query::new("  ").is_empty());
    }
}
