//! The command lines of both programs, as people and scripts rely on them: help, exit codes, errors, JSON, dry runs.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

mod command_line {
    mod at_work;
    mod clumsy;
    mod help;
}

use ::command_line::{Command, described};
use clap::CommandFactory;

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
    fn name(&self) -> &str {
        self.tree.get_name()
    }

    /// Whether the command that these words name has an option that an environment variable can stand in for.
    fn has_by_variable(&self, words: &[String], option: &str) -> bool {
        let mut command = &self.tree;
        while let Some(next) = words.iter().find_map(|word| command.find_subcommand(word)) {
            command = next;
        }
        command.get_arguments().any(|each| each.get_long() == Some(option) && each.get_env().is_some())
    }

    /// Every command and group of the tree, by its words, as help shows it.
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
