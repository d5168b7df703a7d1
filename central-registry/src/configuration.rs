//! The registry's own configuration file: where it keeps its things and where it listens. Nothing secret is in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use command_line::{file_remedy, read_toml};
use keystore::Source;
use proto::registration::Text;
use serde::Deserialize;

use crate::timestamping::{External, Timestamping};

/// What a configuration file says, meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// The directory that `init` made.
    pub directory: PathBuf,
    /// Where servers and admins reach it.
    pub listen: SocketAddr,
    /// Where mirrors find the published files, over plain HTTP; none: nowhere.
    pub public: Option<SocketAddr>,
    /// Where the passphrase of the keys comes from.
    pub unlock: Source,
    /// The timestamping authorities to be approved. None: the registry's own.
    pub timestamping: Vec<Timestamping>,
}

/// Why a configuration file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NoConfiguration {
    /// It cannot be read.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "`central-registry init` writes one"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not of its form.
    #[error(
        "{path}: {reason}; the keys are directory, listen, public, unlock and timestamping, as in the commented file that `init` writes"
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        reason: String,
    },
    /// A value is not right.
    #[error("{path}: {key} = {value:?} cannot be; {rule}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    directory: PathBuf,
    listen: String,
    #[serde(default)]
    public: Option<String>,
    unlock: String,
    #[serde(default)]
    timestamping: Vec<RawTimestamping>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTimestamping {
    name: Text,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    certificate: Option<PathBuf>,
    #[serde(default)]
    policy: Option<String>,
}

impl Configuration {
    /// Reads a file. A relative directory is meant from where the file stands.
    pub fn read(path: &Path) -> Result<Self, NoConfiguration> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| NoConfiguration::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, NoConfiguration> {
        let raw: Raw = read_toml(text).map_err(|reason| NoConfiguration::Form { path: path.to_owned(), reason })?;
        let wrong = |key, value: &str, rule| NoConfiguration::Value {
            path: path.to_owned(),
            key,
            value: value.to_owned(),
            rule,
        };
        let from = path.parent().unwrap_or(Path::new(""));
        let timestamping = raw.timestamping.into_iter().map(|raw| {
            let external = match (raw.address, raw.certificate) {
                (None, None) if raw.policy.is_none() => None,
                (Some(address), Some(certificate)) => Some(External {
                    address: address.parse().map_err(|_| {
                        wrong(
                            "timestamping.address",
                            &address,
                            "it is like \"http://tsa.example:318/tsr\": tokens are signed and need no TLS",
                        )
                    })?,
                    certificate: from.join(certificate),
                    policy: raw.policy,
                }),
                _ => {
                    let rule = "another's has address and certificate, the registry's own has neither and no policy";
                    return Err(wrong("timestamping.name", raw.name.as_str(), rule));
                }
            };
            Ok(Timestamping { name: raw.name, external })
        });
        let timestamping = timestamping.collect::<Result<_, _>>()?;
        Ok(Self {
            timestamping,
            // Without the dots in between, so that paths below it read well.
            directory: path.parent().unwrap_or(Path::new("")).join(&raw.directory).components().collect(),
            listen: raw
                .listen
                .parse()
                .map_err(|_| wrong("listen", &raw.listen, "it is an IP address and a port, like \"0.0.0.0:4001\""))?,
            public: raw
                .public
                .map(|public| {
                    let rule = "it is an IP address and a port, like \"0.0.0.0:4080\"";
                    public.parse().map_err(|_| wrong("public", &public, rule))
                })
                .transpose()?,
            unlock: raw.unlock.parse().map_err(|_| {
                wrong(
                    "unlock",
                    &raw.unlock,
                    "it says where the passphrase comes from: credential:NAME, fd:NUMBER or prompt",
                )
            })?,
        })
    }

    /// The commented file that `init` writes.
    pub fn text(listen: SocketAddr, unlock: &Source) -> String {
        format!(
            r#"# The central registry. A relative path is meant from where this file stands.

# The directory that `central-registry init` made: keys, audit journal, published files.
directory = "."

# Where security servers and admins reach the registry: an IP address and a port. TLS 1.3 only.
listen = "{listen}"

# Where mirrors and caches find the published files, over plain HTTP: an IP address and a port. All of them are signed, and
# security servers fetch them from a mirror while the registry cannot be reached. Without it there is no such door.
# public = "0.0.0.0:4080"

# Where the passphrase of the keys comes from, never the passphrase itself:
#   credential:NAME  a systemd credential (LoadCredentialEncrypted=NAME:FILE in the unit)
#   fd:NUMBER        an open file descriptor
#   prompt           whoever starts the registry types it
unlock = "{unlock}"

# The timestamping authorities (RFC 3161) that the instance approves, in the order in which servers ask them. None: the
# registry's own. With [[timestamping]] entries they are these and no others; `deploy/central-registry.toml` explains them.
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(Path::new("/etc/registry.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_that_init_writes_is_read() {
        let text = Configuration::text("0.0.0.0:4001".parse().unwrap(), &"credential:registry".parse().unwrap());
        let read = parse(&text).unwrap();
        assert_eq!(read.directory, Path::new("/etc/."));
        assert_eq!(read.unlock, Source::Credential("registry".into()));
    }

    #[test]
    fn the_example_in_deploy_is_read() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/central-registry.toml"));
        assert_eq!(Configuration::read(path).unwrap().directory, Path::new("/var/lib/central-registry/instance"));
    }

    #[test]
    fn an_error_names_the_file_the_key_and_the_rule() {
        let good = "directory = \"d\"\nlisten = \"127.0.0.1:1\"\nunlock = \"prompt\"\n";
        assert!(parse(good).is_ok());
        for (from, to, named) in [
            ("listen", "lisen", "lisen"),
            ("127.0.0.1:1", "localhost", "listen"),
            ("unlock", "public = \"everywhere\"\nunlock", "public"),
            ("\"prompt\"", "\"secret\"", "unlock"),
            ("\"prompt\"", "7", "unlock"),
            ("unlock = \"prompt\"", "", "unlock"),
            ("directory", "password = \"x\"\ndirectory", "password"),
            (
                "unlock = \"prompt\"",
                "unlock = \"prompt\"\n[[timestamping]]\nname = \"a\"\naddress = \"http://a\"",
                "certificate",
            ),
            (
                "unlock = \"prompt\"",
                "unlock = \"prompt\"\n[[timestamping]]\nname = \"a\"\naddress = \"https://a\"\ncertificate = \"a.pem\"",
                "http://",
            ),
        ] {
            let error = parse(&good.replace(from, to)).unwrap_err();
            assert!(error.contains("/etc/registry.toml") && error.contains(named), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
