//! Completions for shells, made of the command line itself.

/// A shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Shell {
    /// For ~/.local/share/bash-completion/completions/.
    Bash,
    /// For a directory of $fpath.
    Zsh,
    /// For ~/.config/fish/completions/.
    Fish,
}

/// What makes the shell complete this program's commands and options.
pub fn completions(shell: Shell, mut command: clap::Command) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8(script).expect("names and help are texts")
}
