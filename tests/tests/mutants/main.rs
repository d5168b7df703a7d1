//! Each security step, mutated: skipped, moved, or always content. Every mutant dies, by type or by test.
//!
//! A step of `exchange.rs` that is skipped or moved does not compile: `cannot_compile` has the programs. What a step asks
//! is mutated in `table`, a row for each question. All rows that compile stand in one copy of the workspace, asleep; one
//! at a time wakes, and the test that its row names must fail.
//!
//! ```sh
//! cargo test --workspace --test mutants -- --nocapture             # every mutant, and what each dies of
//! CAUSEWAY_ONLY='replay|token' cargo test --workspace --test mutants    # those whose row says so
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod copy;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use copy::{AWAKE, Copy, Program};
use futures_util::{StreamExt, stream};
use table::{BY_TYPE, MUTANTS, Mutant};
use tokio::process::Command;

/// A test that has not failed by then hangs, and that is a failure too.
const HANGS: Duration = Duration::from_secs(90);

#[test]
fn each_row_has_one_place_and_a_test_that_is_there() {
    let mut wrong = Vec::new();
    let (mut meanings, tests) = (BTreeSet::new(), tests());
    for mutant in MUTANTS {
        let text = std::fs::read_to_string(root().join(mutant.file)).unwrap_or_default();
        if let Err(found) = mutant.place(&text) {
            wrong.push(format!(
                "{:?}: {} has this text {found} times, and not once: write the row anew for what stands there now\n    {}",
                mutant.means, mutant.file, mutant.text
            ));
        }
        if !tests.get(mutant.killer.0).is_some_and(|text| text.contains(&format!("fn {}()", mutant.killer.1))) {
            wrong.push(format!("{:?}: there is no test {}::{}", mutant.means, mutant.killer.0, mutant.killer.1));
        }
        if !meanings.insert(mutant.means) {
            wrong.push(format!("{:?}: two rows mean this", mutant.means));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_step_of_an_exchange_is_skipped_and_moved_by_type_and_always_content_by_test() {
    let exchange = std::fs::read_to_string(root().join("security-server/src/exchange.rs")).unwrap();
    let programs = root().join("tests/cannot_compile");
    let steps: Vec<&str> = exchange
        .lines()
        .map(|line| line.split(" //").next().unwrap_or_default().trim())
        .filter(|code| {
            code.starts_with("let ") && !code.starts_with("let ended") || code.starts_with("server.message_log")
        })
        .map(|code| code.split(" = ").last().unwrap().split('(').next().unwrap().trim_start_matches("server."))
        .collect();
    assert!(steps.len() > 12, "{steps:?}");
    let listed: BTreeSet<&str> = BY_TYPE.iter().map(|(step, ..)| *step).collect();
    assert_eq!(listed, steps.into_iter().collect(), "the steps of exchange.rs");
    for (step, skipped, moved) in BY_TYPE {
        for program in skipped.iter().chain(*moved) {
            assert!(programs.join(format!("{program}.rs")).exists(), "{step}: there is no program {program}");
        }
        assert!(!skipped.is_empty() && !moved.is_empty(), "{step} is skipped once and moved once");
        assert!(MUTANTS.iter().any(|mutant| mutant.step == *step), "{step} is never made always content");
    }
}

#[test]
fn what_is_shipped_knows_no_mutants() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(AWAKE) && !text.contains("is_awake"), "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mutant_dies() {
    let only = std::env::var("CAUSEWAY_ONLY").unwrap_or_default();
    let chosen: Vec<(usize, &Mutant)> = MUTANTS
        .iter()
        .enumerate()
        .filter(|(_, mutant)| only.split('|').any(|one| mutant.to_string().contains(one)))
        .collect();
    assert!(!chosen.is_empty(), "no row says {only:?}");
    let killers: BTreeSet<(&str, &str)> = chosen.iter().map(|(_, mutant)| mutant.killer).collect();
    let files: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.killer.0).collect();
    let copy = tokio::task::block_in_place(|| Copy::with(MUTANTS));
    let programs = tokio::task::block_in_place(|| copy.build(&files));
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);

    // Asleep they change nothing: every test that is to kill one passes.
    let passed = stream::iter(killers).map(|killer| run(&programs, killer, None)).buffer_unordered(at_once);
    let ill: Vec<String> =
        passed.filter_map(async |ran| ran.failed.map(|why| format!("{}: {why}", ran.test))).collect().await;
    assert!(ill.is_empty(), "these fail without a mutant:\n{}", ill.join("\n"));

    let mut woken = stream::iter(chosen)
        .map(async |(number, mutant)| (number, mutant, run(&programs, mutant.killer, Some(number)).await))
        .buffer_unordered(at_once);
    let (mut survived, mut died) = (Vec::new(), 0);
    while let Some((_, mutant, ran)) = woken.next().await {
        match ran.failed {
            Some(why) => {
                died += 1;
                println!("{mutant}\n    dies of {} in {:.1} s: {why}", ran.test, ran.took.as_secs_f64());
            }
            None => survived.push(format!("{mutant}\n    survives {}", ran.test)),
        }
    }
    println!("{died} mutants died by test, {} programs do not compile", programs_that_do_not_compile());
    assert!(
        survived.is_empty(),
        "{} mutants survive: a test is missing for each, or its row names the wrong one\n{}",
        survived.len(),
        survived.join("\n")
    );
}

/// What came of a test.
struct Ran {
    test: String,
    /// Why it failed, in a line.
    failed: Option<String>,
    took: Duration,
}

async fn run(programs: &BTreeMap<String, Vec<Program>>, (file, test): (&str, &str), awake: Option<usize>) -> Ran {
    let named = format!("{file}::{test}");
    for program in programs.get(file).unwrap_or_else(|| panic!("no test {file} was built")) {
        let mut command = Command::new(&program.executable);
        command.current_dir(&program.directory).args([test, "--exact"]).env_remove(AWAKE).kill_on_drop(true);
        if let Some(number) = awake {
            command.env(AWAKE, number.to_string()).env("CAUSEWAY_SOON", "5");
        }
        let began = std::time::Instant::now();
        let output = tokio::time::timeout(HANGS, command.output()).await;
        let took = began.elapsed();
        let Ok(output) = output.map(|output| output.unwrap()) else {
            return Ran { test: named, failed: Some(format!("it hangs for {HANGS:?}")), took };
        };
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("running 0 tests\n") {
            continue;
        }
        assert!(said.contains("running 1 test\n"), "{named} ran: {said}{}", String::from_utf8_lossy(&output.stderr));
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
        let why = lines.nth(1).unwrap_or("it ends").chars().take(160).collect();
        return Ran { test: named, failed: (!output.status.success()).then_some(why), took };
    }
    panic!("{named} is in no program of that name");
}

fn programs_that_do_not_compile() -> usize {
    let programs = std::fs::read_dir(root().join("tests/cannot_compile")).unwrap();
    programs.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|is| is == "rs")).count()
}

/// Every file of tests by its name, with its text.
fn tests() -> BTreeMap<String, String> {
    let mut tests = BTreeMap::<String, String>::new();
    for package in directories() {
        let below = root().join(package).join("tests");
        for path in rust_files(&below) {
            let from_there = path.strip_prefix(&below).unwrap();
            let name = from_there.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            tests.entry(name).or_default().push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
    tests
}

/// The sources of what is shipped.
fn sources() -> Vec<PathBuf> {
    let shipped = directories().into_iter().filter(|package| package != "tests");
    let sources: Vec<_> = shipped.flat_map(|package| rust_files(&root().join(package).join("src"))).collect();
    assert!(sources.len() > 50, "the sources were found");
    sources
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let (mut files, mut directories) = (Vec::new(), vec![below.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|is| is == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The directories of the workspace's packages.
fn directories() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    members.split('"').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

/// Their names.
fn packages() -> Vec<String> {
    let name = |directory: &String| {
        let manifest = std::fs::read_to_string(root().join(directory).join("Cargo.toml")).unwrap();
        manifest.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap().trim_end_matches('"').to_owned()
    };
    directories().iter().map(name).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
