//! The programs, as people run them. They are built before they are used, with the features that the tests are built with,
//! so that no test runs an older program than the source that it stands beside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the source stands.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The directory with `security-server`, `central-registry`, `sandbox` and `agency` in it.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // Beside `deps`, where this test itself stands.
        let test = std::env::current_exe().unwrap();
        let directory = test.parent().and_then(Path::parent).unwrap().to_owned();
        let mut build = Command::new(env!("CARGO"));
        // A package's programs are built with its tests. Each that has programs has one of these.
        build.args(["test", "--workspace", "--no-run", "--quiet", "--test", "command_line", "--test", "agencies"]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(repository()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        directory
    })
}

/// One of them.
pub fn program(name: &str) -> PathBuf {
    let program = directory().join(name);
    assert!(program.exists(), "{} was not built", program.display());
    program
}
