//! The name that was perhaps meant.

use strsim::damerau_levenshtein;

/// Longest name that is compared, in letters: what is longer is no slip of a finger.
const MAX_COMPARED: usize = 200;

/// The known name that is nearest to the one asked for, if one is near: a letter in four may be wrong, missing, too many
/// or in the wrong place, and capitals do not count.
pub fn nearest<K: AsRef<str>>(asked: &str, known: impl IntoIterator<Item = K>) -> Option<K> {
    let asked = asked.to_lowercase();
    let length = asked.chars().count();
    if length > MAX_COMPARED {
        return None;
    }
    let most = (length / 4).max(1);
    let near = |name: K| {
        let lower = name.as_ref().to_lowercase();
        // Counting letters is cheap, and rules out most of many.
        let distance = (lower.chars().count().abs_diff(length) <= most).then(|| damerau_levenshtein(&asked, &lower));
        distance.filter(|distance| *distance <= most).map(|distance| (distance, name))
    };
    known.into_iter().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// The end of an error about an unknown name: a question where a known name is near, else where to look.
pub fn did_you_mean<K: AsRef<str>>(asked: &str, known: impl IntoIterator<Item = K>, otherwise: &str) -> String {
    nearest(asked, known).map_or_else(|| otherwise.to_owned(), |name| format!("did you mean {}?", name.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let members = ["VN/GOV/moj", "VN/GOV/mps", "VN/GOV/portal"];
        assert_eq!(nearest("VN/GOV/mjo", members), Some("VN/GOV/moj"));
        assert_eq!(nearest("vn/gov/PORTAL", members), Some("VN/GOV/portal"));
        assert_eq!(nearest("VN/GOV/tax", members), None);
        assert_eq!(nearest("R-7", ["R-1"]), Some("R-1"));
        assert_eq!(nearest("GRANT_MISING", ["GRANT_PURPOSE", "GRANT_MISSING"]), Some("GRANT_MISSING"));
        assert_eq!(nearest("", ["a", "ab"]), Some("a"));
        assert_eq!(nearest(&"a".repeat(MAX_COMPARED + 1), [&"a".repeat(MAX_COMPARED)]), None);
    }

    #[test]
    fn where_nothing_is_near_it_is_said_where_to_look() {
        assert_eq!(did_you_mean("R-1", ["R-2"], "see `requests`"), "did you mean R-2?");
        assert_eq!(did_you_mean("R-1", [""; 0], "see `requests`"), "see `requests`");
    }
}
