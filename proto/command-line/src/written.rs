//! Files that people write or name: what is wrong with one is said with its place, and with what to do.

use std::io;

use serde::de::DeserializeOwned;

/// Reads TOML. What is wrong is said on one line, with line and column.
pub fn read_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        match error.span() {
            Some(span) => {
                let before = text.get(..span.start).unwrap_or(text);
                let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next());
                format!("line {line}, column {}: {message}", column.map_or(0, |column| column.chars().count()) + 1)
            }
            None => message,
        }
    })
}

/// What to do about a file that cannot be read; where there is none, what makes one.
pub fn file_remedy<'a>(error: &io::Error, maker: &'a str) -> &'a str {
    match error.kind() {
        io::ErrorKind::IsADirectory => "give the file in it, not the directory",
        io::ErrorKind::PermissionDenied => "run this as the user who owns it",
        io::ErrorKind::InvalidData => "give a text file",
        _ => maker,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[allow(dead_code, reason = "it is read from the text")]
        listen: std::net::SocketAddr,
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_column_on_one_line() {
        for (text, told) in [
            ("# a door\nlisen = 1\n", "line 2, column 1: unknown field `lisen`"),
            ("\nlisten = \"here\"\n", "line 2, column 10: invalid socket address"),
            ("listen = \"127.0.0.1:1\n", "line 1, column "),
            ("# Bộ Tư pháp\n= 1", "line 2, column 1"),
            ("", "missing field `listen`"),
        ] {
            let error = read_toml::<Asked>(text).unwrap_err();
            assert!(error.contains(told) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_place_of_a_mistake_panic(text in "\\PC{0,20}\n?\\PC{0,60}") {
            let _ = read_toml::<Asked>(&text);
        }
    }
}
