//! Colour, sparingly: on a terminal, unless NO_COLOR is set. In a pipe there is none.

use std::io::IsTerminal;

use clap::builder::styling::{AnsiColor, Style};

/// How words are painted, or not.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output.
    pub fn out() -> Self {
        Self { on: wanted() && std::io::stdout().is_terminal() }
    }

    /// For standard error.
    pub fn err() -> Self {
        Self { on: wanted() && std::io::stderr().is_terminal() }
    }

    /// None, wherever it goes.
    pub fn none() -> Self {
        Self { on: false }
    }

    /// Whether there is colour at all.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// As it should be.
    pub fn good(self, text: &str) -> String {
        self.painted(AnsiColor::Green.on_default(), text)
    }

    /// To be looked at.
    pub fn doubtful(self, text: &str) -> String {
        self.painted(AnsiColor::Yellow.on_default(), text)
    }

    /// Not as it should be.
    pub fn bad(self, text: &str) -> String {
        self.painted(AnsiColor::Red.on_default().bold(), text)
    }

    /// A name that the eye looks for.
    pub fn name(self, text: &str) -> String {
        self.painted(Style::new().bold(), text)
    }

    fn painted(self, style: Style, text: &str) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// By https://no-color.org: any value but none. A terminal that says that it is dumb gets none either.
fn wanted() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
