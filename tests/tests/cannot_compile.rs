//! A step of an exchange that is skipped, moved or done twice does not compile.
//!
//! Each program in `cannot_compile` is what stands in `exchange.rs`, but for one line. That line ends with `// twin:` and
//! the line as it should be: with that one instead, the program is its twin, and compiles. Beside each program stands
//! what the compiler says to it; `CANNOT_COMPILE=overwrite cargo test --test cannot_compile` writes that down anew.
//!
//! The compiler is asked directly, with the crates that this test itself was built with: nothing is built again, and
//! nothing is fetched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

/// Where a program says what its twin has in place of a line.
const TWIN: &str = "// twin: ";

#[test]
fn a_step_that_is_skipped_moved_or_done_twice_does_not_compile() {
    let (compiler, programs) = (Compiler::find(), programs());
    let overwrite = std::env::var("CANNOT_COMPILE").is_ok_and(|set| set == "overwrite");
    let wrong = each(&programs, |program| {
        let path = program.path.with_extension("stderr");
        let Err(said) = compiler.compile(&program.name, &program.text) else {
            return Some(format!("{} compiles", program.name));
        };
        if overwrite {
            std::fs::write(&path, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        (said != expected).then(|| format!("{}: the compiler says\n{said}\nexpected was\n{expected}", program.name))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn with_the_one_line_as_it_should_be_each_of_them_compiles() {
    let compiler = Compiler::find();
    // Many have the same twin.
    let twins: BTreeSet<_> = programs().iter().map(|program| program.twin()).collect();
    let twins: Vec<_> = twins.into_iter().enumerate().collect();
    let wrong = each(&twins, |(number, twin)| {
        let said = compiler.compile(&format!("twin_{number}"), twin).err()?;
        Some(format!("{said}\nin\n{twin}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_twin_is_what_stands_in_exchange_rs() {
    let exchange = functions(&std::fs::read_to_string(root().join("security-server/src/exchange.rs")).unwrap());
    assert_eq!(exchange.len(), 5, "consume, provide, carry, seal and record: {exchange:?}");
    for program in programs() {
        for function in functions(&program.twin()) {
            assert!(exchange.contains(&function), "{}: exchange.rs has no such function:\n{function}", program.name);
        }
    }
}

#[test]
fn each_step_of_an_exchange_is_left_out_once() {
    let exchange = std::fs::read_to_string(root().join("security-server/src/exchange.rs")).unwrap();
    let left_out: String = programs().iter().map(|program| program.right()).collect();
    let left_out = squeezed(&left_out);
    for line in exchange.lines().map(|line| line.split(" //").next().unwrap_or_default().trim()) {
        let is_step =
            line.starts_with("let ") && !line.starts_with("let ended") || line.starts_with("server.message_log");
        assert!(!is_step || left_out.contains(&squeezed(line)), "no program goes without `{line}`");
    }
}

/// A program that must not compile.
struct Program {
    name: String,
    path: PathBuf,
    text: String,
}

impl Program {
    /// The program as it should be.
    fn twin(&self) -> String {
        let mut twin = String::new();
        for line in self.text.lines().filter(|line| !line.starts_with("//!")) {
            let right = line.split_once(TWIN).map_or(line, |(_, right)| right);
            writeln!(twin, "{right}").unwrap();
        }
        twin
    }

    fn right(&self) -> &str {
        let mut right = self.text.lines().filter_map(|line| line.split_once(TWIN));
        match (right.next(), right.next()) {
            (Some((_, right)), None) => right,
            (None, _) | (_, Some(_)) => panic!("{} differs from its twin in exactly one line", self.name),
        }
    }
}

fn programs() -> Vec<Program> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cannot_compile");
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            programs.push(Program { name, text: std::fs::read_to_string(&path).unwrap(), path });
        }
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(programs.len() > 50, "the programs are there");
    programs
}

/// The functions of a program, without comments and white space.
fn functions(text: &str) -> Vec<String> {
    let code: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let mut functions = Vec::new();
    let mut rest = code.as_slice();
    while let Some(begins) =
        rest.iter().position(|line| ["fn ", "pub fn ", "async fn "].iter().any(|function| line.starts_with(function)))
    {
        let ends = begins + rest[begins..].iter().position(|line| *line == "}").unwrap();
        functions.push(squeezed(&rest[begins..=ends].concat()));
        rest = &rest[ends..];
    }
    functions
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The compiler, and what it needs to know the security server's crate.
struct Compiler {
    security_server: PathBuf,
    directory: tempfile::TempDir,
}

impl Compiler {
    /// Asks cargo where it put the crate when it built this test. It is built already: this builds nothing.
    fn find() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["test", "--workspace", "--test", "cannot_compile", "--no-run"]);
        cargo.args(["--locked", "--offline", "--quiet", "--message-format", "json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let security_server = lines(&output.stdout)
            .filter(|message| message["reason"] == "compiler-artifact")
            .filter(|message| message["target"]["name"] == "security_server" && message["profile"]["test"] == false)
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .find_map(|file| file.as_str().filter(|file| file.ends_with(".rlib")).map(PathBuf::from))
            .expect("this test depends on the security server");
        Self { security_server, directory: tempfile::tempdir().unwrap() }
    }

    /// Checks a program, and says what is wrong with it.
    fn compile(&self, name: &str, text: &str) -> Result<(), String> {
        let (program, checked) =
            (self.directory.path().join(name), self.directory.path().join(format!("{name}.rmeta")));
        std::fs::write(&program, text).unwrap();
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.current_dir(root()).args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "program"]);
        rustc.args(["--emit", "metadata", "--cap-lints", "allow", "--error-format", "json"]);
        // As wide everywhere, or names are cut differently.
        rustc.args(["--diagnostic-width", "140"]);
        rustc.arg("--extern").arg(format!("security_server={}", self.security_server.display()));
        rustc.arg("-L").arg(format!("dependency={}", self.security_server.parent().unwrap().display()));
        let output = rustc.arg("-o").arg(checked).arg(program).output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        let errors: String = lines(&output.stderr).filter_map(|message| told(&message)).collect();
        assert!(!errors.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Err(errors)
    }
}

fn lines(output: &[u8]) -> impl Iterator<Item = Value> {
    output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// An error in the compiler's words, without the places in other files that it points to: those move.
fn told(message: &Value) -> Option<String> {
    let spans = message["spans"].as_array().filter(|spans| message["level"] == "error" && !spans.is_empty())?;
    let mut told = String::from("error");
    if let Some(code) = message["code"]["code"].as_str() {
        write!(told, "[{code}]").unwrap();
    }
    writeln!(told, ": {}", message["message"].as_str()?).unwrap();
    for span in spans.iter().filter(|span| span["is_primary"] == true) {
        let line = span["text"][0]["text"].as_str().unwrap_or_default();
        let line = line.split(TWIN).next().unwrap_or_default();
        writeln!(told, "  --> {}", line.trim()).unwrap();
        if let Some(label) = span["label"].as_str() {
            writeln!(told, "  {label}").unwrap();
        }
    }
    for note in message["children"].as_array()? {
        if note["level"] == "note" && note["spans"].as_array().is_some_and(Vec::is_empty) {
            for line in note["message"].as_str()?.lines() {
                writeln!(told, "  {}", line.trim()).unwrap();
            }
        }
    }
    Some(told)
}

/// What each of them gives, found on all cores.
fn each<'a, T: Sync, R: Send>(of: &'a [T], find: impl Fn(&'a T) -> Option<R> + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let find_some = || {
            let mut found = Vec::new();
            while let Some(one) = of.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.extend(find(one));
            }
            found
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(find_some)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
