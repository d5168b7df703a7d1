//! How our programs speak with whoever runs them, person or script: exit codes, errors in two lines, text or JSON, help
//! that begins with examples, colour on a terminal only, the nearest name. It asks nobody and decides nothing.

mod completions;
mod described;
mod diagnostics;
mod exit;
mod nearest;
mod output;
mod paint;
mod progress;
mod written;

pub use completions::{Shell, completions};
pub use described::{Command, Does, described, parse};
pub use diagnostics::{LogFormat, diagnostics};
pub use exit::{Ended, Exit};
pub use nearest::{did_you_mean, nearest};
pub use output::{Changing, Foreseen, Reading, say, show};
pub use paint::Paint;
pub use progress::Progress;
pub use written::{file_remedy, read_toml};
