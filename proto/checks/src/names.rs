//! Names in files: which line they stand in, and which name was meant where one is unknown.

use command_line::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// `; did you mean NAME?`, or nothing.
pub fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The line of a TOML text, from 1, in which the value at this path stands; in an array a number is the element's place.
/// A path that leads nowhere ends at the last thing that is there.
pub fn line(text: &str, path: &[&str]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut at = None;
    let (mut table, mut path) = (Some(table.get_ref()), path.iter());
    while let (Some(inside), Some(key)) = (table, path.next()) {
        let Some((key, value)) = inside.iter().find(|(name, _)| name.get_ref().as_ref() == *key) else { break };
        let mut value: &Spanned<DeValue<'_>> = value;
        at = Some(key.span().start);
        if let DeValue::Array(array) = value.get_ref() {
            let Some(element) = path.next().and_then(|number| array.get(number.parse::<usize>().ok()?)) else { break };
            value = element;
            at = Some(element.span().start);
        }
        table = value.get_ref().as_table();
    }
    Some(text[..at?].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_mistake_in_it_is_recognised_and_another_name_is_not() {
        let names = ["VN/GOV/moj/civil-registry", "VN/GOV/mps/population-register"];
        assert_eq!(did_you_mean("VN/GOV/mjo/civil-registri", names), "; did you mean VN/GOV/moj/civil-registry?");
        assert_eq!(did_you_mean("nothing", names), "");
        assert_eq!(did_you_mean("a.B", ["a.C"]), "; did you mean a.C?");
    }

    #[test]
    fn a_value_is_found_in_its_line() {
        let text = "a = 1\n\n[registry]\n# where\naddress = \"x\"\n\n[[service]]\nname = \"one\"\n\n[[service]]\nname = \"two\"\naddress = \"y\"\n\n[bind]\n\"a.B\" = \"c\"\n";
        for (path, expected) in [
            (&["a"][..], Some(1)),
            (&["registry", "address"], Some(5)),
            (&["service", "0", "name"], Some(8)),
            (&["service", "1", "address"], Some(12)),
            (&["bind", "a.B"], Some(15)),
            (&["registry", "nothing"], Some(3)),
            (&["nothing"], None),
        ] {
            assert_eq!(line(text, path), expected, "{path:?}");
        }
        assert_eq!(line("this is = no = toml", &["this"]), None);
    }
}
