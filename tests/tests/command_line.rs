//! The command lines of both programs, as people and scripts rely on them.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::BTreeSet;

use clap::CommandFactory;
use command_line::{Command, Does, described};

/// A program: its command line as clap has it, and the one table that describes its commands.
struct Program {
    tree: clap::Command,
    commands: &'static [Command],
}

fn both() -> [Program; 2] {
    use central_registry::usage as registry;
    use security_server::usage as server;
    [
        Program { tree: server::CommandLine::command(), commands: server::COMMANDS },
        Program { tree: registry::CommandLine::command(), commands: registry::COMMANDS },
    ]
}

impl Program {
    /// Every command and group of the tree, by its words.
    fn nodes(&self) -> Vec<(String, clap::Command)> {
        fn walk(words: &str, command: &clap::Command, nodes: &mut Vec<(String, clap::Command)>) {
            nodes.push((words.to_owned(), command.clone()));
            for each in command.get_subcommands() {
                walk(format!("{words} {}", each.get_name()).trim(), each, nodes);
            }
        }
        let mut nodes = Vec::new();
        walk("", &described(self.tree.clone(), self.commands), &mut nodes);
        nodes
    }
}

#[test]
fn every_command_is_classed_and_has_the_options_of_its_class() {
    for program in both() {
        let name = program.tree.get_name().to_owned();
        let nodes = program.nodes();
        let known: BTreeSet<&str> = nodes.iter().map(|(words, _)| &**words).collect();
        let classed: BTreeSet<&str> = program.commands.iter().map(|each| each.name).collect();
        assert_eq!(classed, known, "{name}: the table has each command once, and no other");
        assert_eq!(classed.len(), program.commands.len(), "{name}: a command stands twice in the table");
        for (words, command) in nodes {
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
