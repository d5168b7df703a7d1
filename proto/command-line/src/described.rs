//! The command line as help shows it: examples before options, every command described in one table of its program.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::{Ended, Exit};

/// A command of a program, as its one table describes it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its words, like `access grant`; none: the program itself.
    pub name: &'static str,
    /// What it does to the world.
    pub does: Does,
    /// Examples, true ones: each is the whole command.
    pub examples: &'static [&'static str],
}

/// What a command does to the world. It says which options the command has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Does {
    /// It reads, and has [`Reading`](crate::Reading)'s options.
    Reads,
    /// It changes something, and has [`Changing`](crate::Changing)'s options.
    Changes,
    /// It runs until it is told to stop.
    Serves,
    /// It writes a text that is for another program as it is.
    Generates,
    /// It is only the beginning of other commands.
    Groups,
}

/// Examples stand before the options: they are what people look for.
const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The command line with the table's examples in its help, and the exit codes at the end of the program's own.
pub fn described(program: clap::Command, commands: &[Command]) -> clap::Command {
    dressed(program, "", commands).after_help(Exit::table())
}

fn dressed(mut command: clap::Command, words: &str, commands: &[Command]) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|each| each.get_name().to_owned()).collect();
    for name in names {
        let path = if words.is_empty() { name.clone() } else { format!("{words} {name}") };
        command = command.mut_subcommand(&name, |each| dressed(each, &path, commands));
    }
    command = command.help_template(TEMPLATE);
    match commands.iter().find(|each| each.name == words) {
        Some(described) => command.before_help(format!("Examples:\n  {}", described.examples.join("\n  "))),
        None => command,
    }
}

/// Parses what was typed. A mistake is told in two lines, help is shown: both end the program with the code returned.
pub fn parse<P: clap::Parser>(commands: &[Command]) -> Result<P, ExitCode> {
    let mut program = described(P::command(), commands);
    let typed: Vec<OsString> = std::env::args_os().collect();
    let parsed = program.try_get_matches_from_mut(&typed);
    parsed.and_then(|matches| P::from_arg_matches(&matches)).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Where nobody reads it, the exit code still says it.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()))
        }
        _ => mistake(&error.render().to_string(), &asked(&program, &typed)).report(program.get_name()),
    })
}

/// The command that was typed, as far as it is one.
fn asked(program: &clap::Command, typed: &[OsString]) -> String {
    let (mut command, mut words) = (program, program.get_name().to_owned());
    for word in typed.iter().skip(1).filter_map(|word| word.to_str()) {
        let Some(next) = command.find_subcommand(word) else { break };
        command = next;
        words = format!("{words} {word}");
    }
    words
}

/// What clap says in paragraphs, in two lines: the mistake, then the nearest name, or how the command is used.
fn mistake(told: &str, asked: &str) -> Ended {
    let mut paragraphs = told.split("\n\n").map(|each| each.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let see = format!("see `{asked} --help`");
    let remedies: Vec<String> = paragraphs.collect();
    let said = |prefix: &str| remedies.iter().find_map(|each| each.strip_prefix(prefix).map(str::to_owned));
    match (said("tip: "), said("Usage: ")) {
        // One tip is enough: further ones begin with the same word.
        (Some(tip), _) => Ended::new(
            Exit::Usage,
            format!("{what}; {}, or {see}", tip.split(" tip: ").next().unwrap_or_default().trim_end()),
        ),
        // What our own parsers say holds its remedy.
        (None, None) if what.contains("; ") => Ended::new(Exit::Usage, what),
        (None, Some(usage)) => Ended::new(Exit::Usage, format!("{what}; usage: {usage}")),
        (None, None) => Ended::new(Exit::Usage, format!("{what}; {see}")),
    }
}
