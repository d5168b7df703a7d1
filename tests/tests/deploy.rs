//! What an operator installs: the units start the programs as they are, and the example configurations are read.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keystore::Source;
use security_server::limits::Limits;
use tests::programs::{program, repository};

/// A unit: sections, and in each its keys and values, in order.
struct Unit(Vec<(String, Vec<(String, String)>)>);

impl Unit {
    fn read(name: &str) -> Self {
        let path = repository().join("deploy").join(format!("{name}.service"));
        let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let at = || format!("{}:{}: {line}", path.display(), number + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                assert!(["Unit", "Service", "Install"].contains(&section), "{}", at());
                sections.push((section.to_owned(), Vec::new()));
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{}", at()));
            let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(is_key && value.trim() == value, "{}", at());
            sections.last_mut().unwrap_or_else(|| panic!("{}", at())).1.push((key.to_owned(), value.to_owned()));
        }
        Self(sections)
    }

    fn all(&self, key: &str) -> Vec<&str> {
        let service = self.0.iter().find(|(section, _)| section == "Service").unwrap();
        service.1.iter().filter(|(each, _)| each == key).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, key: &str) -> &str {
        let [one] = self.all(key)[..] else { panic!("{key} stands {} times", self.all(key).len()) };
        one
    }

    fn configuration(&self) -> &str {
        self.one("ExecStart").split(' ').skip_while(|word| *word != "--config").nth(1).unwrap()
    }

    fn credential(&self) -> Source {
        let (name, _) = self.one("LoadCredentialEncrypted").split_once(':').unwrap();
        Source::Credential(name.to_owned())
    }
}

const BOTH: [&str; 2] = ["security-server", "central-registry"];

/// The program takes the unit's arguments: what it lacks is the file, which it names.
#[test]
fn a_unit_starts_its_program_with_arguments_that_it_takes() {
    for name in BOTH {
        let unit = Unit::read(name);
        let mut words = unit.one("ExecStart").split(' ');
        assert_eq!(words.next(), Some(&*format!("/usr/bin/{name}")));
        let ended = Command::new(program(name)).args(words).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(unit.configuration()) && !said.contains("Usage"), "{said}");
    }
}

#[test]
fn a_unit_gives_its_program_what_it_needs_and_nothing_else() {
    for name in BOTH {
        let unit = Unit::read(name);
        assert_eq!((unit.one("User"), unit.one("StateDirectory")), (name, name));
        assert!(unit.configuration().starts_with(&format!("/var/lib/{name}/")));
        for (key, value) in [
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("NoNewPrivileges", "yes"),
            ("CapabilityBoundingSet", ""),
            ("StateDirectoryMode", "0700"),
            ("UMask", "0077"),
            ("LimitCORE", "0"),
            ("KillSignal", "SIGTERM"),
            ("RestartPreventExitStatus", "2"),
        ] {
            assert_eq!(unit.one(key), value, "{name}: {key}");
        }
    }
}

#[test]
fn a_unit_waits_for_the_drain_and_allows_every_connection() {
    let limits = [
        (security_server::DRAIN_TIMEOUT, usize::try_from(Limits::default().connections).unwrap()),
        (central_registry::DRAIN_TIMEOUT, central_registry::MAX_CONNECTIONS),
    ];
    for (name, (drain, connections)) in BOTH.into_iter().zip(limits) {
        let unit = Unit::read(name);
        let stop: u64 = unit.one("TimeoutStopSec").parse().unwrap();
        assert!(Duration::from_secs(stop) >= drain + Duration::from_secs(15), "{name}: SIGKILL would come too soon");
        let files: usize = unit.one("LimitNOFILE").parse().unwrap();
        assert!(files >= 2 * connections, "{name}: {files} descriptors for {connections} connections");
    }
}

#[test]
fn the_example_configurations_are_read_and_fit_their_units() {
    let deploy = repository().join("deploy");
    let file = |name: &str| deploy.join(format!("{name}.toml"));
    let server = security_server::config::Configuration::read(&file("security-server")).unwrap();
    assert_eq!(server.unlock, Unit::read("security-server").credential());
    let registry = central_registry::configuration::Configuration::read(&file("central-registry")).unwrap();
    let unit = Unit::read("central-registry");
    assert_eq!(registry.unlock, unit.credential());
    assert_eq!(Some(&*registry.directory), Path::new(unit.configuration()).parent());
}
