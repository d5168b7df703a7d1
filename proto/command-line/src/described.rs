//! The command line as help shows it: examples before options, every command described in one table of its program.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::{Ended, Exit, nearest};

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

/// The command line with the table's examples in its help.
pub fn described(program: clap::Command, commands: &[Command]) -> clap::Command {
    dressed(program, "", commands)
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
        _ => mistake(&error, &asked(&program, &typed)).report(program.get_name()),
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
fn mistake(error: &clap::Error, asked: &str) -> Ended {
    let told = error.render().to_string();
    let mut paragraphs = told.split("\n\n").map(|each| each.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let usage = paragraphs.find_map(|each| each.strip_prefix("Usage: ").map(|usage| format!("usage: {usage}")));
    let remedy = match (meant(error), usage) {
        (Some(name), _) => format!("did you mean {name}? See `{asked} --help`"),
        // What our own parsers say holds its remedy.
        (None, _) if what.contains("; ") => return Ended::new(Exit::Usage, what),
        (None, Some(usage)) => usage,
        (None, None) => format!("see `{asked} --help`"),
    };
    Ended::new(Exit::Usage, format!("{what}; {remedy}"))
}

/// The nearest of the names that clap knows in the place of a wrong one.
fn meant(error: &clap::Error) -> Option<String> {
    let pairs = [
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ];
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        _ => None,
    };
    pairs.into_iter().find_map(|(wrong, suggested)| match error.get(suggested)? {
        ContextValue::String(name) => Some(name.clone()),
        // The likeliest stands last.
        ContextValue::Strings(names) => nearest(&text(wrong).unwrap_or_default(), names).or(names.last()).cloned(),
        _ => None,
    })
}
