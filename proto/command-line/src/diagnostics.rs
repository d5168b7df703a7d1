//! Diagnostics of a running program, on standard error. They never hold payload, credentials or personal data.

use tracing_subscriber::EnvFilter;

use crate::Paint;

/// How diagnostics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to write them: what `CAUSEWAY_LOG` asks for, else from `level` on.
pub fn diagnostics(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_env("CAUSEWAY_LOG").unwrap_or_else(|_| level.into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(Paint::err().is_on()).init(),
        LogFormat::Json => lines.json().init(),
    }
}
