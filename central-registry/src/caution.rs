//! Before an order takes somebody off the road, its admin sees what it would take, and is asked. The registry says it, by
//! the rules by which it would carry the order out; what it cannot know is said too.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use command_line::Exit;
use proto::registration::Order;
use proto::wire::registry::command_result::Result as Answer;

use crate::command::{Admin, Failed};

/// Whether the admin is asked before the order is given.
#[derive(Args, Clone, Copy, Debug)]
pub struct Caution {
    /// Do it without asking: needed where no terminal is there to ask at.
    #[arg(long)]
    pub yes: bool,
}

/// Why an order was not given, or not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// The registry's word, or none.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Nobody could be asked.
    #[error("nobody is here to be asked whether this is meant; look at it with --dry-run, then add --yes")]
    NobodyToAsk,
    /// The admin said no.
    #[error("nothing was done; give the order again when it is meant")]
    Declined,
    /// The terminal.
    #[error("the terminal: {0}; add --yes where there is none")]
    Terminal(#[from] io::Error),
}

impl NotDone {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed(failed) => failed.exit(),
            Self::NobodyToAsk => Exit::Usage,
            Self::Declined | Self::Terminal(_) => Exit::Failed,
        }
    }
}

/// Shows what the order would take off the road, asks where `--yes` does not say it already, and gives it.
pub async fn give(admin: &Admin, order: &Order, caution: Caution) -> Result<Answer, NotDone> {
    let foreseen = admin.foresee(order).await?;
    let mut terminal = io::stderr();
    writeln!(terminal, "This order is to:\n  {}", foreseen.changes.join("\n  "))?;
    if !caution.yes {
        if !io::stdin().is_terminal() {
            return Err(NotDone::NobodyToAsk);
        }
        write!(terminal, "Is this meant? [y/N] ")?;
        let mut said = String::new();
        io::stdin().lock().read_line(&mut said)?;
        if !matches!(said.trim(), "y" | "Y" | "yes") {
            return Err(NotDone::Declined);
        }
    }
    Ok(admin.submit(order).await?)
}
