//! The independent auditor, run as anyone would: Python, its standard library and `cryptography`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Where the auditor stands in the source tree.
const AUDITOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/auditor");

/// Verifies an evidence file with the anchor, by the auditor's own word: its findings as JSON.
pub fn verify(evidence: &Path, anchor: &Path) -> Result<serde_json::Value> {
    let python = python()?;
    let output = Command::new(python)
        .arg(Path::new(AUDITOR).join("auditor.py"))
        .arg("verify")
        .arg(evidence)
        .arg("--anchor")
        .arg(anchor)
        .arg("--json")
        .output()
        .context("the auditor did not start")?;
    match output.status.code() {
        Some(0 | 5) => Ok(serde_json::from_slice(&output.stdout)?),
        _ => bail!("the auditor failed: {}", words(&output)),
    }
}

/// A Python of our own with `cryptography` in it, made beside this program where there is none yet.
fn python() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let home = program.parent().context("this program stands in a directory")?.join("auditor-python");
    let python = home.join("bin/python");
    let ready = home.join("ready");
    if !ready.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&home)).context(
            "the auditor is a Python program: install python3 with its venv module (Debian: python3-venv) and try again",
        )?;
        let requirements = Path::new(AUDITOR).join("requirements.txt");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))
            .context("the auditor needs the Python package `cryptography` from PyPI")?;
        std::fs::write(&ready, "")?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() { Ok(()) } else { bail!("{}", words(&output)) }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
