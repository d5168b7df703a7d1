//! What the pages say is true: every command in them is run as it stands there, or is one that runs this very test.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use tests::processes::{Instance, Member};
use tests::programs::{directory, program, repository};

/// Longest time that a server may take until it says that it runs.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A fenced block of a page: the words behind its fence, and its text.
struct Block {
    words: Vec<String>,
    text: String,
    place: String,
}

impl Block {
    fn is(&self, words: &[&str]) -> bool {
        self.words == words
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(words)) => {
                let words = words.split(' ').map(str::to_owned).collect();
                open = Some(Block { words, text: String::new(), place: format!("{page}:{}", number + 1) });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

/// The commands of a shell block, without comments.
fn commands(text: &str) -> Vec<String> {
    let whole = text.replace("\\\n", " ");
    let commands = whole.lines().map(|line| line.split("  #").next().unwrap_or_default());
    commands.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty()).collect()
}

/// A directory in which the commands of a page are run, as if it were the repository.
struct Place {
    at: tempfile::TempDir,
    /// What stands before each block.
    before: String,
    /// Text of the page, and what stands for it here: addresses that are free.
    instead: Vec<(String, String)>,
}

impl Place {
    fn new() -> Self {
        let at = tempfile::tempdir().unwrap();
        for directory in ["examples", "proto"] {
            symlink(repository().join(directory), at.path().join(directory)).unwrap();
        }
        Self { at, before: String::new(), instead: Vec::new() }
    }

    fn shell(&self, text: &str) -> Command {
        let mut text = format!("set -euo pipefail\n{}\n{text}", self.before);
        for (said, here) in &self.instead {
            text = text.replace(said, here);
        }
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", directory().display())).env_remove("CAUSEWAY_LOG");
        command.args(["-c", &text]).current_dir(self.at.path()).stdin(Stdio::null());
        command
    }

    /// Runs a block; all of its commands succeed.
    fn run(&self, block: &Block) -> String {
        let output = self.shell(&block.text).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}:\n{}\n{out}\n{err}", block.place, block.text);
        out.into_owned()
    }

    /// Starts a block that runs on, and waits until it says that it runs.
    fn start(&self, block: &Block, says: &'static str) -> Server {
        Server::start(self.shell(&format!("exec {}", block.text)), says)
    }
}

/// A program that runs until the test is over.
struct Server {
    child: Child,
}

impl Server {
    fn start(mut command: Command, says: &'static str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, heard) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = said.clone();
            // Reads on to the end, so that the program never waits for a reader.
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(said.send(line)))
            });
        }
        drop(said);
        let server = Self { child };
        let mut all = String::new();
        loop {
            let line = heard.recv_timeout(STARTS_WITHIN).unwrap_or_else(|_| panic!("it never said {says:?}:\n{all}"));
            if line.contains(says) {
                return server;
            }
            all += &format!("{line}\n");
        }
    }

    /// Asks it to stop; it ends by itself, and well.
    fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now, and that no outgoing connection gets meanwhile.
fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((RandomState::new().hash_one(0) % 8_192) as u16));
    (0..8_192)
        .map(|_| 11_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 8_192)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// Where a page's Python environment is kept between runs: the page's own commands fill it.
fn kept_python(name: &str) -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_owned()
}

/// A text as it is whatever the numbers are.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for word in text.split_whitespace() {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        plain += if digits > 1 { "#" } else { word };
        plain.push(' ');
    }
    plain
}

#[test]
fn every_command_of_the_pages_is_run_or_known() {
    // Run by whoever runs the tests, by the sandbox's own test below, or by nobody but root under systemd.
    let known = [
        "cargo sandbox",
        "cargo test",
        "cargo build --release",
        "export PATH=\"$PWD/target/release:$PATH\"",
        "cargo sandbox --dir country",
    ];
    // An office's are run by `python.rs`.
    let run = [
        "country", "terminal", "instance", "auditor", "systemd", "keys", "life", "archive", "backup", "restore",
        "office",
    ];
    for page in ["README.md", "deploy/README.md", "examples/auditor/README.md"] {
        for block in blocks(page) {
            match block.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["sh"] => {
                    for command in commands(&block.text) {
                        assert!(known.contains(&&*command), "{}: {command:?} is run by no test", block.place);
                    }
                }
                ["sh", name] | ["sh", name, "serve"] => assert!(run.contains(&name), "{}: {name}", block.place),
                ["python", _] | ["text", "sandbox"] => {}
                ref other => panic!("{}: what is a block of {other:?}?", block.place),
            }
        }
    }
    let ci = fs::read_to_string(repository().join(".ci/run")).unwrap();
    assert!(ci.contains("cargo test --workspace"), "`cargo test` at the root is what lands are judged by");
    let aliases = fs::read_to_string(repository().join(".cargo/config.toml")).unwrap();
    assert!(aliases.contains("sandbox = \"run "), "`cargo sandbox` is an alias");
}

#[test]
fn the_sandbox_shows_what_the_first_screen_says() {
    let output = Command::new(program("sandbox")).arg("--once").output().unwrap();
    let (shown, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}\n{err}");
    let shown: Vec<_> = shown.lines().map(without_numbers).collect();
    let said = blocks("README.md").into_iter().find(|block| block.is(&["text", "sandbox"])).unwrap();
    for line in said.text.lines().filter(|line| *line != "...") {
        let begins = without_numbers(line.trim_end_matches("..."));
        assert!(shown.iter().any(|line| line.starts_with(begins.trim_end())), "{line:?} is not among\n{shown:#?}");
    }
}

#[test]
fn a_first_call_of_ones_own_goes_as_the_page_says() {
    let mut place = Place::new();
    let python = kept_python("client");
    place.instead.push(("venv client".into(), format!("venv {python}")));
    place.instead.push(("client/bin/".into(), format!("{python}/bin/")));
    let mut sandbox = Command::new(program("sandbox"));
    sandbox.args(["--dir", "country"]).current_dir(place.at.path());
    let country = Server::start(sandbox, "Three things to try");
    let mut said = String::new();
    for block in blocks("README.md") {
        if let [language, file] = &block.words[..]
            && language == "python"
        {
            fs::write(place.at.path().join(file), &block.text).unwrap();
        } else if block.is(&["sh", "country"]) {
            said += &place.run(&block);
        }
    }
    for word in [
        "exchange ",
        "All that a shell and openssl can check",
        "  proven ",
        "GRANT_PURPOSE",
        "not allowed: GRANT_PURPOSE",
        "Granted, and in force",
        "marriage",
        "\"personalNumber\":\"000196000001\"",
    ] {
        assert!(said.contains(word), "{word} is missing in\n{said}");
    }
    let call = |purpose: &str| place.shell(&format!("client/bin/python first_call.py {purpose}")).output().unwrap();
    let refused = String::from_utf8(call("marketing").stderr).unwrap();
    assert!(refused.contains("Your subsystem's grant does not cover this purpose."), "{refused}");
    drop(country);
}

#[test]
fn an_instance_begins_and_an_agency_joins_as_the_page_says() {
    let mut place = Place::new();
    for said in ["4001", "5500", "5580", "5590"] {
        place.instead.push((format!("127.0.0.1:{said}"), format!("127.0.0.1:{}", free_port())));
    }
    let operators = place.instead.iter().find(|(said, _)| said.ends_with(":5580")).unwrap().1.clone();
    let file = place.at.path().join("moj/security-server.toml");
    let (mut servers, mut said) = (Vec::new(), String::new());
    for block in blocks("README.md") {
        if block.is(&["sh", "terminal"]) {
            place.before.clone_from(&block.text);
        } else if block.is(&["sh", "instance", "serve"]) {
            // `join` wrote the operators' door where every other server on this machine has it.
            if let Ok(text) = fs::read_to_string(&file) {
                fs::write(&file, text.replace("127.0.0.1:5580", &operators)).unwrap();
            }
            let says = if block.text.starts_with("central") { "listening" } else { "the security server runs" };
            servers.push(place.start(&block, says));
        } else if block.is(&["sh", "instance"]) {
            said += &place.run(&block);
        }
    }
    for word in ["anchor digest", "R-1", "has joined", "causeway-token", "is ready", "allowed by", "Bên cung cấp"] {
        assert!(said.contains(word), "{word} is missing in\n{said}");
    }
    assert!(said.contains("FAILED   service civil.v1.Births"), "the doctor says first what is not up:\n{said}");
    assert!(said.contains("with exit code 7"), "{said}");
    for block in blocks("deploy/README.md").iter().filter(|block| block.is(&["sh", "instance"])) {
        let said = place.run(block);
        assert!(said.contains("0 failed"), "{}: {said}", block.place);
    }
    while let Some(server) = servers.pop() {
        server.stop();
    }
}

#[test]
fn the_auditors_page_is_true() {
    let python = kept_python("auditor");
    assert!(Command::new("python3").args(["-m", "venv"]).arg(&python).status().unwrap().success());
    for block in blocks("examples/auditor/README.md") {
        let path = format!("{python}/bin:{}", std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-euc", &block.text])
            .env("PATH", path)
            .current_dir(repository().join("examples/auditor"))
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{out}\n{err}", block.place);
    }
}

/// An instance in a directory like the one of the first page, backed up, lost and put back by the page's own commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_a_server_is_maintained_and_it_and_the_registry_are_backed_up_and_put_back_as_the_page_says() {
    let instance = Instance::founded().await;
    fs::write(instance.path("credentials").join("backup"), "correct horse battery staple\n").unwrap();
    let registry = instance.serve_registry().await;
    let moj = Member::new("moj", "civil-registry");
    instance.join(&moj).await;
    moj.configure(instance.directory.path(), &[]);
    let mojs = instance.serve(&moj).await;
    let run = async |words: &[&str], with: &str| {
        for block in blocks("deploy/README.md").iter().filter(|block| block.is(words) && block.text.contains(with)) {
            let mut bash = instance.command("security-server");
            let program = Path::new(bash.as_std().get_program()).parent().unwrap().display().to_string();
            bash = tokio::process::Command::new("bash");
            bash.env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap()));
            bash.env("CREDENTIALS_DIRECTORY", instance.path("credentials")).current_dir(instance.directory.path());
            let output = bash.args(["-euo", "pipefail", "-c", &block.text]).output().await.unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}:\n{}\n{out}\n{err}", block.place, block.text);
        }
    };
    run(&["sh", "keys"], "keys rotate").await;
    run(&["sh", "life"], "maintenance").await;
    fs::write(instance.path("passphrase"), "kept elsewhere\n").unwrap();
    run(&["sh", "archive"], "openssl genpkey").await;
    let public = ::backup::Recipient::from_pem(&fs::read(instance.path("archive.pub.pem")).unwrap()).unwrap();
    let passphrase = keystore::Passphrase::new("kept elsewhere".into()).unwrap();
    let private = keystore::open_pkcs8(&instance.path("archive.pem"), &passphrase).unwrap();
    assert_eq!(::backup::RecipientKey::from_pkcs8(&private).unwrap().id(), public.id());
    run(&["sh", "backup"], "backup create").await;
    // The registry first: it is put back with what the server was told last.
    registry.kill().await;
    run(&["sh", "restore"], "central-registry backup restore").await;
    let registry = instance.serve_registry().await;
    mojs.kill().await;
    run(&["sh", "restore"], "security-server backup restore").await;
    instance.serve(&moj).await.stops().await;
    registry.stops().await;
}

/// Nobody but root under systemd runs these: what can be checked is that the programs take every option that they name.
#[test]
fn the_deployment_page_names_options_that_there_are() {
    for block in blocks("deploy/README.md") {
        for command in commands(&block.text) {
            let words: Vec<&str> = command.split(' ').collect();
            let Some(start) = words.windows(2).position(|pair| {
                matches!(pair, ["security-server", "join" | "doctor"] | ["central-registry", "init" | "doctor"])
            }) else {
                continue;
            };
            let help = Command::new(program(words[start])).args([words[start + 1], "--help"]).output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            let known: BTreeSet<&str> = help.split_whitespace().collect();
            for option in words[start..].iter().filter(|word| word.starts_with("--")) {
                assert!(known.contains(option), "{}: {option} is none of {}", block.place, words[start + 1]);
            }
        }
    }
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "deploy/README.md",
        "deploy/COMMANDS.md",
        "deploy/KEY_CEREMONY.md",
    ] {
        let path = repository().join(page);
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            let file = link.split('#').next().unwrap();
            if !link.starts_with("http") && !file.is_empty() {
                assert!(path.parent().unwrap().join(file).exists(), "{page}: {link} leads nowhere");
            }
        }
    }
}
