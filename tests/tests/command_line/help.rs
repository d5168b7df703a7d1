//! What the programs say of themselves: every command is classed, its examples are true, shells complete it.

use std::collections::BTreeSet;
use std::process::Command as Process;

use command_line::{Does, Exit};
use tests::programs::{program, repository};

use crate::both;

#[test]
fn every_command_is_classed_and_has_the_options_of_its_class() {
    for program in both() {
        let name = program.name();
        let nodes = program.nodes();
        let known: BTreeSet<&str> = nodes.iter().map(|(words, _)| &**words).collect();
        let classed: BTreeSet<&str> = program.commands.iter().map(|each| each.name).collect();
        assert_eq!(classed, known, "{name}: the table has each command once, and no other");
        assert_eq!(classed.len(), program.commands.len(), "{name}: a command stands twice in the table");
        for (words, command) in &nodes {
            let does = program.commands.iter().find(|each| each.name == words).unwrap().does;
            let has = |option: &str| command.get_arguments().any(|each| each.get_long() == Some(option));
            let wanted = match does {
                Does::Reads => (true, false),
                Does::Changes => (true, true),
                Does::Serves | Does::Generates | Does::Groups => (false, false),
            };
            assert_eq!((has("json"), has("dry-run")), wanted, "{name} {words}: --json, --dry-run");
            assert_eq!(does == Does::Groups, command.has_subcommands(), "{name} {words}");
        }
    }
}

/// The words of a command as bash takes them apart, where this program stands for itself.
fn words(name: &str, example: &str) -> Vec<String> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let script = format!("{name}() {{ printf '%s\\0' {name} \"$@\" >&3; }}\nexec 3>&1 >/dev/null\n{example}");
    let directory = tempfile::tempdir().unwrap();
    let mut bash = Process::new("bash");
    bash.args(["-c", &script]).env("FINGERPRINT", &digest).env("ANCHOR_DIGEST", &digest).env("JOURNAL_KEY", &digest);
    let output = bash.current_dir(directory.path()).output().unwrap();
    let words: Vec<_> = output.stdout.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word)).collect();
    words[..words.len() - 1].iter().map(ToString::to_string).collect()
}

#[test]
fn help_begins_with_two_examples_or_more_and_each_is_a_command_that_is_taken() {
    for program in both() {
        let name = program.name();
        for (path, _) in program.nodes() {
            let described = program.commands.iter().find(|each| each.name == path).unwrap();
            assert!(described.examples.len() >= 2, "{name} {path}");
            for example in described.examples {
                assert!(example.lines().all(|line| line.len() <= 90), "{example}");
                let begins = format!("{name} {path}");
                assert!(example.contains(begins.trim()), "{example:?} is none of {begins}");
                let mut words = words(name, example);
                // Whoever types it has said once which server, or who they are.
                for (option, file) in [("config", "security-server.toml"), ("admin", "admin.toml")] {
                    let (known, option) = (program.has_by_variable(&words, option), format!("--{option}"));
                    if known && !words.contains(&option) {
                        words.extend([option, file.to_owned()]);
                    }
                }
                let tree = command_line::described(program.tree.clone(), program.commands);
                if let Err(error) = tree.try_get_matches_from(&words) {
                    panic!("{words:?}: {error}");
                }
            }
        }
    }
}

/// The help of a program's command, as it is typed.
fn help(name: &str, path: &str) -> String {
    let output = Process::new(program(name)).args(path.split_whitespace()).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{name} {path} --help");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_programs_show_examples_before_options_and_say_how_they_end() {
    for of in both() {
        for described in of.commands {
            let help = help(of.name(), described.name);
            let place = |part: &str| help.find(part).unwrap_or_else(|| panic!("{part:?} is not in\n{help}"));
            assert!(place("Examples:\n") < place("\nUsage: ") && place("\nUsage: ") < place("\nOptions:"), "{help}");
            for example in described.examples {
                assert!(help.contains(&format!("  {example}\n")), "{example:?} is not in\n{help}");
            }
        }
        let help = help(of.name(), "");
        for exit in Exit::ALL {
            assert!(help.contains(&format!("\n  {}  {}", exit.code(), exit.meaning())), "{exit:?} is not in\n{help}");
        }
    }
    for name in ["sandbox", "agency"] {
        let help = help(name, "");
        assert!(help.find("Examples:\n").unwrap() < help.find("\nUsage: ").unwrap(), "{help}");
        for option in help.split("Usage: ").next().unwrap().split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(help.matches(option).count() > 1, "{option} is in an example, and no option in\n{help}");
        }
    }
}

#[test]
fn shells_take_the_completions() {
    for of in both() {
        let name = of.name();
        let script = |shell: &str| {
            let output = Process::new(program(name)).args(["completions", shell]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{name} completions {shell}");
            String::from_utf8(output.stdout).unwrap()
        };
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("completions"), script("bash")).unwrap();
        // What bash would offer after `PROGRAM com`, asked as it asks itself.
        let asked = format!(
            "set -eu; bash -n completions; source ./completions; complete -p {name}\n\
             COMP_WORDS=({name} com); COMP_CWORD=1; COMPREPLY=()\n\
             $(complete -p {name} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {name} com {name}; echo \"${{COMPREPLY[@]}}\""
        );
        let bash = Process::new("bash").args(["-c", &asked]).current_dir(directory.path()).output().unwrap();
        let said = String::from_utf8_lossy(&bash.stdout);
        assert!(bash.status.success(), "{said}{}", String::from_utf8_lossy(&bash.stderr));
        assert!(
            said.lines().any(|line| line.starts_with("complete ") && line.ends_with(name))
                && said.trim_end().ends_with("\ncompletions"),
            "{said}"
        );
        for shell in ["zsh", "fish"] {
            let script = script(shell);
            for (path, _) in of.nodes() {
                let last = path.split(' ').next_back().unwrap();
                assert!(script.contains(last), "{name}: {shell} does not complete {path}");
            }
        }
    }
}

#[test]
fn the_page_has_the_table_of_exit_codes() {
    let page = std::fs::read_to_string(repository().join("deploy/COMMANDS.md")).unwrap();
    for exit in Exit::ALL {
        assert!(page.contains(&format!("\n| {} | {} |", exit.code(), exit.meaning())), "{exit:?} is not on the page");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| ")).count(), Exit::ALL.len() + 1, "and no other");
}

/// What a program says on a terminal: Python makes one.
fn on_a_terminal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut python = Process::new("python3");
    python.args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]);
    python.arg(program(arguments[0])).args(&arguments[1..]).stdin(std::process::Stdio::null());
    // A build server's `CI` asks for colour on any terminal, a dumb one too.
    python.env_remove("NO_COLOR").env_remove("CI").env_remove("CLICOLOR_FORCE");
    python.env("TERM", "xterm").envs(variables.iter().copied());
    String::from_utf8(python.output().unwrap().stdout).unwrap()
}

#[test]
fn colour_is_for_terminals_and_not_where_it_is_not_wanted() {
    for arguments in [["security-server", "sevre"], ["central-registry", "aprove"], ["security-server", "--help"]] {
        let coloured = on_a_terminal(&arguments, &[]);
        assert!(coloured.contains("\u{1b}["), "{coloured:?}");
        assert!(on_a_terminal(&arguments, &[("NO_COLOR", "")]).contains("\u{1b}["), "empty is as if it were not set");
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let plain = on_a_terminal(&arguments, &[(name, value)]);
            assert!(!plain.contains('\u{1b}') && plain.contains(arguments[1].trim_matches('-')), "{name}: {plain:?}");
        }
        let piped = Process::new(program(arguments[0])).args(&arguments[1..]).env("TERM", "xterm").output().unwrap();
        assert!(!(piped.stdout.contains(&0x1b) || piped.stderr.contains(&0x1b)), "{arguments:?} in a pipe");
    }
}
