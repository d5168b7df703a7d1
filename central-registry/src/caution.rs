//! Before an order takes somebody off the road, its admin sees what it would take, and is asked. The registry says it, by
//! the rules by which it would carry the order out; what it cannot know is said too.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use proto::registration::Order;
use proto::wire::registry::Foreseen;
use proto::wire::registry::command_result::Result as Answer;

use crate::command::{Admin, Failed};

/// How sure the admin is.
#[derive(Args, Clone, Copy, Debug)]
pub struct Caution {
    /// Only show what it would take off the road.
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking: needed where no terminal is there to ask at.
    #[arg(long)]
    pub yes: bool,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// The registry's word, or none.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Nobody could be asked.
    #[error("nobody is here to be asked whether this is meant: look at it with --dry-run, then add --yes")]
    NobodyToAsk,
    /// The admin said no.
    #[error("nothing was done")]
    Declined,
    /// The terminal.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

impl NotDone {
    /// The exit code that stands for it: 2 where a flag is missing, 1 where the admin said no, else the registry's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(failed) => failed.exit_code(),
            Self::NobodyToAsk => 2,
            Self::Declined | Self::Terminal(_) => 1,
        }
    }
}

/// Shows what the order would take off the road, asks where `--yes` does not say it already, and gives it. For a dry run
/// what would be taken is the answer.
pub async fn carry_out(admin: &Admin, order: &Order, caution: Caution) -> Result<Answer, NotDone> {
    let foreseen = admin.foresee(order).await?;
    if caution.dry_run {
        return Ok(Answer::Foreseen(foreseen));
    }
    let mut terminal = io::stderr();
    writeln!(terminal, "{}", in_words(&foreseen))?;
    if !caution.yes {
        if !io::stdin().is_terminal() {
            return Err(NotDone::NobodyToAsk);
        }
        write!(terminal, "\nIs this meant? [y/N] ")?;
        let mut said = String::new();
        io::stdin().lock().read_line(&mut said)?;
        if !matches!(said.trim(), "y" | "Y" | "yes") {
            return Err(NotDone::Declined);
        }
    }
    Ok(admin.submit(order).await?)
}

/// For people.
pub fn in_words(foreseen: &Foreseen) -> String {
    let mut lines = Vec::new();
    let mut list = |what: &str, each: &[String]| {
        lines.extend(each.iter().enumerate().map(|(n, name)| {
            let what = if n == 0 { what } else { "" };
            format!("  {what:<12}{name}")
        }));
    };
    list("members", &foreseen.members);
    list("servers", &foreseen.servers);
    list("subsystems", &foreseen.subsystems);
    let thinned = foreseen.thinned.iter().map(|each| format!("{}, and keeps another server", each.subsystem));
    list("weakened", &thinned.collect::<Vec<_>>());
    let what = if lines.is_empty() {
        "This takes nobody off the road.".to_owned()
    } else {
        format!("This takes off the road, on their next message, open streams too:\n{}", lines.join("\n"))
    };
    format!(
        "{what}\nNot known here: which services these offer, who holds a grant for them or uses one, and what runs now. \
         Any of the {} other active members, with {} subsystems, may be among them; each provider's `security-server access \
         list` says.",
        foreseen.other_members, foreseen.other_subsystems
    )
}

#[cfg(test)]
mod tests {
    use proto::wire::registry::Thinned;

    use super::*;

    #[test]
    fn what_is_lost_is_named_and_what_is_not_known_is_said() {
        let foreseen = Foreseen {
            servers: vec!["VN/GOV/moj/ss1".into()],
            subsystems: vec!["VN/GOV/moj/births".into(), "VN/GOV/moj/deaths".into()],
            thinned: vec![Thinned { subsystem: "VN/GOV/moj/land".into(), server: "VN/GOV/moj/ss1".into() }],
            other_members: 3,
            other_subsystems: 5,
            ..Default::default()
        };
        let words = in_words(&foreseen);
        for word in ["ss1", "births", "deaths", "land, and keeps", "Not known here", "3 other", "5 subsystems"] {
            assert!(words.contains(word), "{word} is missing in\n{words}");
        }
        let nothing = in_words(&Foreseen::default());
        assert!(nothing.starts_with("This takes nobody off the road.") && nothing.contains("Not known"), "{nothing}");
    }
}
