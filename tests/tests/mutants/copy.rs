//! The copy of the workspace that has the mutants in it. All of them at once, each asleep: the environment says which one
//! wakes. So everything is built once, and nothing of it is in what is shipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::table::Mutant;

/// Says which mutant is awake, by its number. Only the copy asks for it.
pub const AWAKE: &str = "CAUSEWAY_MUTANT";
/// In a replacement: the question whether this mutant is awake.
const IS_AWAKE: &str = "{awake}";
/// Larger files of the build are linked instead of copied: nobody writes to them in place.
const LINKED_FROM_BYTES: u64 = 64 * 1024;

/// See the module. Nobody else changes it as long as this lives.
pub struct Copy {
    sources: PathBuf,
    target: PathBuf,
    release: bool,
    _lock: File,
}

/// A test of the copy, built.
#[derive(Clone)]
pub struct Program {
    pub executable: PathBuf,
    /// Of its package.
    pub directory: PathBuf,
}

impl Copy {
    /// Copies what changed of the workspace, and puts the mutants in.
    pub fn with(mutants: &[Mutant]) -> Self {
        // This test itself stands in target/PROFILE/deps.
        let test = std::env::current_exe().unwrap();
        let built = test.parent().and_then(Path::parent).unwrap();
        let place = built.parent().unwrap().join("mutants");
        fs::create_dir_all(&place).unwrap();
        let lock = File::create(place.join("lock")).unwrap();
        lock.lock().unwrap();
        let copy = Self {
            sources: place.join("src"),
            target: place.join("target"),
            release: built.ends_with("release"),
            _lock: lock,
        };
        copy.write(&mutated(mutants));
        take_over(built, &copy.target.join(built.file_name().unwrap()));
        copy
    }

    fn write(&self, files: &BTreeMap<PathBuf, Vec<u8>>) {
        for path in files_below(&self.sources) {
            if !files.contains_key(&path) {
                fs::remove_file(self.sources.join(path)).unwrap();
            }
        }
        for (path, bytes) in files {
            let path = self.sources.join(path);
            // What did not change keeps its time, and is not built again.
            if fs::read(&path).is_ok_and(|old| old == *bytes) {
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// Builds these files of tests, offline, and says where each is. Two packages may have one of the same name.
    pub fn build(&self, tests: &BTreeSet<&str>) -> BTreeMap<String, Vec<Program>> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&self.sources).args(["test", "--workspace", "--no-run", "--locked", "--offline", "--quiet"]);
        cargo.args(["--message-format", "json"]).arg("--target-dir").arg(&self.target);
        cargo.args(tests.iter().flat_map(|test| ["--test", test]));
        if self.release {
            cargo.arg("--release");
        }
        // Neither is needed here, and both cost time. What is built of others stays as it is.
        cargo.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "false");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().unwrap();
        let messages = || {
            let lines = output.stdout.split(|byte| *byte == b'\n');
            lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        };
        if !output.status.success() {
            let errors: String = messages()
                .filter(|message| message["message"]["level"] == "error")
                .filter_map(|message| message["message"]["rendered"].as_str().map(ToOwned::to_owned))
                .collect();
            panic!("the copy with the mutants does not compile:\n{errors}{}", String::from_utf8_lossy(&output.stderr));
        }
        let program = |message: Value| {
            let executable = PathBuf::from(message["executable"].as_str()?);
            let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
            let is_test = message["target"]["kind"][0] == "test";
            is_test.then(|| (message["target"]["name"].as_str().unwrap().to_owned(), Program { executable, directory }))
        };
        let mut programs = BTreeMap::<String, Vec<Program>>::new();
        for (name, program) in messages().filter_map(program) {
            programs.entry(name).or_default().push(program);
        }
        programs
    }
}

/// The workspace's files, with the mutants in them.
fn mutated(mutants: &[Mutant]) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = super::root();
    let mut files: BTreeMap<PathBuf, Vec<u8>> =
        files_below(&root).into_iter().map(|path| (path.clone(), fs::read(root.join(path)).unwrap())).collect();
    let mut crates = BTreeSet::new();
    for file in mutants.iter().map(|mutant| mutant.file).collect::<BTreeSet<_>>() {
        let text = files.get_mut(Path::new(file)).unwrap_or_else(|| panic!("there is no file {file}"));
        let here = mutants.iter().enumerate().filter(|(_, mutant)| mutant.file == file);
        *text = with_schemata(std::str::from_utf8(text).unwrap(), here).into_bytes();
        crates.insert(Path::new(file.split_once("/src/").unwrap().0).join("src/lib.rs"));
    }
    for library in crates {
        files.get_mut(&library).unwrap().extend_from_slice(ASKS_WHO_IS_AWAKE.replace("{}", AWAKE).as_bytes());
    }
    files
}

const ASKS_WHO_IS_AWAKE: &str = r#"
/// Whether this mutant is awake.
#[doc(hidden)]
pub fn is_awake(mutant: usize) -> bool {
    static AWAKE: std::sync::LazyLock<Option<usize>> =
        std::sync::LazyLock::new(|| std::env::var("{}").ok().and_then(|number| number.parse().ok()));
    *AWAKE == Some(mutant)
}
"#;

/// A file in which each place is as it was, or mutated while its mutant is awake.
fn with_schemata<'a>(text: &str, mutants: impl Iterator<Item = (usize, &'a Mutant)>) -> String {
    let mut places: Vec<_> = mutants.map(|(number, mutant)| (mutant.place(text).unwrap(), number, mutant)).collect();
    places.sort_by_key(|(place, ..)| place.start);
    let (mut mutated, mut done) = (String::with_capacity(text.len()), 0);
    for (place, number, mutant) in places {
        assert!(place.start >= done, "{:?} and the mutant before it overlap", mutant.means);
        mutated.push_str(&text[done..place.start]);
        let awake = format!("crate::is_awake({number})");
        mutated.push_str(&match mutant.instead {
            whole if whole.contains(IS_AWAKE) => whole.replace(IS_AWAKE, &awake),
            statement if mutant.text.ends_with(';') => {
                format!("if {awake} {{ {statement} }} else {{ {} }}", mutant.text)
            }
            value => format!("(if {awake} {{ {value} }} else {{ {} }})", mutant.text),
        });
        done = place.end;
    }
    mutated + &text[done..]
}

/// Gives the copy's build what was built of the crates of others: they are the same, and their names say so.
fn take_over(from: &Path, into: &Path) {
    let ours: BTreeSet<String> = super::packages().iter().map(|package| package.replace('-', "_")).collect();
    let mut theirs = BTreeSet::new();
    for directory in [".fingerprint", "build"] {
        for path in children(&from.join(directory)) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some((package, hash)) = name.rsplit_once('-') else { continue };
            if !ours.contains(&package.replace('-', "_")) {
                theirs.insert(hash.to_owned());
                link_below(&path, &into.join(directory).join(name));
            }
        }
    }
    fs::create_dir_all(into.join("deps")).unwrap();
    for path in children(&from.join("deps")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let hash = name.split('.').next().and_then(|name| name.rsplit_once('-')).map(|(_, hash)| hash);
        if hash.is_some_and(|hash| theirs.contains(hash)) {
            link(&path, &into.join("deps").join(name));
        }
    }
}

fn link_below(from: &Path, into: &Path) {
    if from.is_file() {
        return link(from, into);
    }
    fs::create_dir_all(into).unwrap();
    for path in children(from) {
        link_below(&path, &into.join(path.file_name().unwrap()));
    }
}

/// A file that is there already was taken over before, or is the copy's own.
fn link(from: &Path, into: &Path) {
    let Ok(of) = fs::metadata(from) else { return };
    if into.exists() || of.len() >= LINKED_FROM_BYTES && fs::hard_link(from, into).is_ok() {
        return;
    }
    // Its time says that it is newer than what it was made of.
    let copied =
        fs::copy(from, into).and_then(|_| File::options().write(true).open(into)?.set_modified(of.modified()?));
    copied.unwrap_or_else(|error| panic!("{}: {error}", into.display()));
}

/// The project's own files below a directory, by their paths from there.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for path in children(&directory) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            } else if name != "target" && (name == ".cargo" || !name.starts_with('.')) {
                directories.push(path);
            }
        }
    }
    files
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(listed) = fs::read_dir(directory) else { return Vec::new() };
    listed.map(|entry| entry.unwrap().path()).collect()
}
