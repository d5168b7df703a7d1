//! The bus as processes: three programs, command lines and files, as admins use them. Nothing here calls a function of
//! a server.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

use crate::wire::echo_client::EchoClient;
use crate::world::{Client, Fields};

/// What anything may take on a busy machine; a hundred times what is usual.
pub const SOON: Duration = Duration::from_secs(60);
/// How long a server may take to start: one whose view was spoiled reads its whole log first.
const STARTS_WITHIN: Duration = Duration::from_secs(600);
/// The purpose of every call.
pub const PURPOSE: &str = "birth-registration";
/// Ports that files name are of this range: below those that systems give to outgoing connections.
const RESERVED_PORTS: std::ops::Range<u16> = 20_000..32_000;

// ---- programs

/// Where the programs stand.
static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Where a program of the workspace stands, built as the tests are.
pub fn program(name: &str) -> PathBuf {
    let path = PROGRAMS.get_or_init(built).join(name);
    assert!(path.is_file(), "{} is not there: `cargo build --workspace --bins` makes it", path.display());
    path
}

/// The programs stand in this directory: for a program that is no test, and is asked before any other is.
pub fn programs_stand_in(directory: PathBuf) {
    // Each process has a directory of its own to run in.
    let directory = directory.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    PROGRAMS.set(directory).expect("it is said before a program is asked for");
}

/// Builds the programs, which is nothing to do where all of the workspace was built: together with what runs, a test or a
/// program of the tests, so that every crate has the features that its build gave it.
fn built() -> PathBuf {
    let itself = std::env::current_exe().unwrap();
    let directory = itself.parent().unwrap();
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--bins", "--locked", "--quiet"]);
    let profile = if directory.ends_with("deps") {
        let (test, _) = itself.file_stem().and_then(|stem| stem.to_str()?.rsplit_once('-')).unwrap();
        cargo.args(["--workspace", "--test", test]);
        directory.parent().unwrap()
    } else {
        cargo.args(["--package", "tests", "--package", "security-server", "--package", "central-registry"]);
        directory
    };
    let name = match profile.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    cargo.args(["--profile", name, "--target-dir"]).arg(profile.parent().unwrap());
    let built = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output().unwrap();
    assert!(built.status.success(), "the programs cannot be built: {}", String::from_utf8_lossy(&built.stderr));
    profile.to_owned()
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// What it said, having ended well.
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// The same, as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.well()).unwrap()
    }
}

/// A program that runs. Dropped, it is killed.
pub struct Process {
    line: String,
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts a program.
    pub fn start(command: Command) -> Self {
        Self::start_noting(command, None)
    }

    /// The same, and writes what it says to the end of this file, too.
    pub fn start_noting(mut command: Command, notes: Option<&Path>) -> Self {
        let line = format!("{:?}", command.as_std());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let (say, lines) = mpsc::unbounded_channel();
        let notes = || notes.map(|path| File::options().create(true).append(true).open(path).unwrap());
        listen(child.stdout.take().unwrap(), say.clone(), notes());
        listen(child.stderr.take().unwrap(), say, notes());
        Self { line, child, lines, said: Vec::new() }
    }

    /// Its number, while it runs.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// How it ended, if it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it says from now on is listened to no more.
    pub fn listen_no_more(&mut self) {
        self.lines.close();
        while self.lines.try_recv().is_ok() {}
        self.said.clear();
    }

    /// Waits for a line in which this is found. Each line is looked at once.
    pub async fn says<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        self.says_within(SOON, find).await
    }

    /// The same, where it may take longer.
    pub async fn says_within<T>(&mut self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let waiting = async {
            while let Some(line) = self.lines.recv().await {
                let found = find(&line);
                self.said.push(line);
                if found.is_some() {
                    return found;
                }
            }
            None
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{} ended without saying it:\n{}", self.line, self.said.join("\n")),
            Err(_) => panic!("{} did not say it in {patience:?}:\n{}", self.line, self.said.join("\n")),
        }
    }

    /// Waits for a line with this in it.
    pub async fn says_that(&mut self, part: &str) -> String {
        self.says(|line| line.contains(part).then(|| line.to_owned())).await
    }

    /// The same, where it may have been said before what was waited for last.
    pub async fn has_said(&mut self, part: &str) {
        if !self.said.iter().any(|line| line.contains(part)) {
            self.says_that(part).await;
        }
    }

    /// Its standard input; dropped, the program reads its end.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// SIGTERM, as systemd sends it.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// The signal of this name.
    pub async fn signal(&self, name: &str) {
        let (name, id) = (format!("-{name}"), self.id().to_string());
        assert!(Command::new("kill").args([name, id]).status().await.unwrap().success(), "{}", self.line);
    }

    /// SIGKILL: it does not get to do anything more.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end, as long as it takes.
    pub async fn until_ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) -> ExitStatus {
        match tokio::time::timeout(SOON, self.child.wait()).await {
            Ok(ended) => ended.unwrap(),
            Err(_) => panic!("{} did not end in {SOON:?}:\n{}", self.line, self.said.join("\n")),
        }
    }

    /// SIGTERM, and a good end.
    pub async fn stops(self) {
        self.terminate().await;
        let line = self.line.clone();
        assert_eq!(self.ended().await.code(), Some(0), "{line}");
    }
}

fn listen(pipe: impl AsyncRead + Unpin + Send + 'static, say: mpsc::UnboundedSender<String>, mut notes: Option<File>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        // Read to the end also when nobody listens any more: a full pipe would stop the program.
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(notes) = &mut notes {
                notes.write_all(format!("{line}\n").as_bytes()).unwrap();
            }
            let _ = say.send(line);
        }
    });
}

/// An address that is free now, for a file to name. None is given twice.
pub fn reserved() -> SocketAddr {
    static GIVEN: LazyLock<Mutex<BTreeSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap();
    loop {
        let drawn = RandomState::new().hash_one(0) % u64::from(RESERVED_PORTS.end - RESERVED_PORTS.start);
        let port = RESERVED_PORTS.start + u16::try_from(drawn).unwrap();
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return ([127, 0, 0, 1], port).into();
        }
    }
}

// ---- an instance

/// An instance in a directory, its programs and their credentials.
pub struct Instance {
    pub directory: TempDir,
    registry: SocketAddr,
}

/// A member to be: its server, its subsystem, and where they are reached.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: &'static str,
    pub subsystem: String,
    /// The peers' door.
    pub peers: SocketAddr,
    /// Where peers find it, as it is registered: the door itself, unless something stands before it.
    pub registered: SocketAddr,
    /// Where it finds the registry, if that is not where the registry says.
    pub registry: Option<SocketAddr>,
    /// The operators' door.
    pub operators: SocketAddr,
    /// The door that is bound to the subsystem.
    pub clients: SocketAddr,
}

impl Member {
    pub fn new(name: &'static str, subsystem: &str) -> Self {
        let subsystem = format!("VN/GOV/{name}/{subsystem}");
        let peers = reserved();
        let (operators, clients) = (reserved(), reserved());
        Self { name, subsystem, peers, registered: peers, registry: None, operators, clients }
    }

    /// Its configuration file, from the instance's directory.
    pub fn file(&self) -> String {
        format!("{}/security-server.toml", self.name)
    }

    /// What its admin writes into the file that `join` wrote: doors, and services with the address of each.
    pub fn configure(&self, directory: &Path, services: &[(&str, SocketAddr)]) {
        let path = directory.join(self.file());
        let mut text = std::fs::read_to_string(&path).unwrap();
        let peers = format!("listen = \"0.0.0.0:{}\"", self.registered.port());
        for (written, meant) in [(peers.as_str(), self.peers), ("listen = \"127.0.0.1:5580\"", self.operators)] {
            assert!(text.contains(written), "{written} is not in\n{text}");
            text = text.replace(written, &format!("listen = \"{meant}\""));
        }
        text += &format!("\n[[clients]]\nlisten = \"{}\"\nsubsystem = \"{}\"\n", self.clients, self.subsystem);
        for (name, address) in services {
            let subsystem = &self.subsystem;
            text += &format!(
                "\n[[service]]\nsubsystem = \"{subsystem}\"\nname = \"{name}\"\naddress = \"http://{address}\"\n"
            );
        }
        std::fs::write(&path, text).unwrap();
    }
}

impl Instance {
    /// `central-registry init`, with one person who decides alone.
    pub async fn founded() -> Self {
        Self::founded_by("--admin admin --persons-threshold 1").await
    }

    /// The same with these persons.
    pub async fn founded_by(persons: &str) -> Self {
        let instance = Self { directory: tempfile::tempdir().unwrap(), registry: reserved() };
        // What systemd would give to the services, decrypted.
        std::fs::create_dir(instance.path("credentials")).unwrap();
        instance.credential("registry");
        let address = instance.registry;
        // Who is to have a key of their own made it before.
        std::fs::create_dir(instance.path("keys")).unwrap();
        for person in persons.split_whitespace().filter_map(|word| word.split_once("@keys/admin-")) {
            let name = person.1.trim_end_matches(".pub.pem");
            instance.credential(name);
            instance.run(&format!("central-registry person {name} keys --passphrase credential:{name}")).await.well();
            let file = instance.path("registry").join(format!("admin-{name}.pem"));
            assert!(!file.exists());
        }
        instance
            .run(&format!(
                "central-registry init registry --instance VN --name Country {persons} \
                 --listen {address} --address {address} --passphrase credential:registry --unlock credential:registry"
            ))
            .await
            .well();
        instance
    }

    /// A file or directory of the instance's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn credential(&self, name: &str) {
        let passphrase = format!("{:016x}{:016x}\n", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        std::fs::write(self.path("credentials").join(name), passphrase).unwrap();
    }

    /// A command, as it is typed in the instance's directory.
    pub fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(program(words.next().unwrap()));
        command.args(words).current_dir(self.directory.path());
        command.env("CREDENTIALS_DIRECTORY", self.path("credentials"));
        command.env("CAUSEWAY_ADMIN", self.path("registry/admin-admin.toml"));
        for other in ["CAUSEWAY_CONFIG", "CAUSEWAY_LOG", "RUST_LOG"] {
            command.env_remove(other);
        }
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, line: &str) -> Said {
        let output = self.command(line).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(SOON, output).await.unwrap_or_else(|_| panic!("{line}: no end"));
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Where the registry listens.
    pub fn registry(&self) -> SocketAddr {
        self.registry
    }

    /// Starts a command that goes on.
    pub fn start(&self, line: &str) -> Process {
        Process::start(self.command(line))
    }

    /// `central-registry serve`, until it listens.
    pub async fn serve_registry(&self) -> Process {
        let mut registry = self.start_registry(None);
        self.until_registry_serves(&mut registry).await;
        registry
    }

    /// `central-registry serve`; what it says is also written into this file.
    pub fn start_registry(&self, notes: Option<&Path>) -> Process {
        Process::start_noting(self.command("central-registry serve --config registry/central-registry.toml"), notes)
    }

    /// Waits until the registry listens.
    pub async fn until_registry_serves(&self, registry: &mut Process) {
        registry.says_that(&format!("listening {} sha256:", self.registry)).await;
    }

    /// Invited by the registry's admin: what its own admin is told, with the token and a passphrase in files.
    pub async fn invite(&self, member: &Member) -> Value {
        let (name, subsystem) = (member.name, &member.subsystem);
        let invitation = self
            .run(&format!(
                "central-registry invite VN/GOV/{name} --name {name} --server VN/GOV/{name}/ss1 --subsystem {subsystem} \
                 --json --passphrase credential:registry"
            ))
            .await
            .json();
        std::fs::write(self.path(&format!("{name}.token")), invitation["token"].as_str().unwrap()).unwrap();
        self.credential(name);
        invitation
    }

    /// Invited by the registry's admin, joined by the member's, approved by the registry's.
    pub async fn join(&self, member: &Member) {
        let (name, invitation) = (member.name, self.invite(member).await);
        let told = |key: &str| invitation[key].as_str().unwrap().to_owned();
        let mut joining = self.start(&format!(
            "security-server join {name} --registry {} --fingerprint {} --anchor-digest {} --server {} \
             --address {} --token-file {name}.token --passphrase credential:{name}",
            member.registry.map_or_else(|| told("registry"), |address| address.to_string()),
            told("fingerprint"),
            told("anchor_digest"),
            told("server"),
            member.registered,
        ));
        joining.says_that("waiting for approval").await;
        let requests = self.run("central-registry requests --json --passphrase credential:registry").await.json();
        let waiting = requests["requests"].as_array().unwrap().iter().find(|request| request["standing"] == "waiting");
        let request = waiting.unwrap()["request"].as_str().unwrap().to_owned();
        self.run(&format!("central-registry approve {request} --passphrase credential:registry")).await.well();
        joining.says_that("has joined VN").await;
        assert_eq!(joining.ended().await.code(), Some(0));
    }

    /// `security-server serve`, until it runs.
    pub async fn serve(&self, member: &Member) -> Process {
        let mut server = Process::start(self.server_command(member));
        self.until_serves(&mut server, member).await;
        server
    }

    /// `security-server serve`, not yet started.
    pub fn server_command(&self, member: &Member) -> Command {
        self.command(&format!("security-server serve --log-format json --config {}", member.file()))
    }

    /// Waits until a member's server runs.
    pub async fn until_serves(&self, server: &mut Process, member: &Member) {
        let runs = |line: &str| line.contains("the security server runs").then(|| line.to_owned());
        let said = server.says_within(STARTS_WITHIN, runs).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["fields"]["peers"], member.peers.to_string(), "{said}");
    }

    /// `security-server access grant`.
    pub async fn grant(&self, consumer: &Member, provider: &Member, methods: &[&str]) {
        let methods: String = methods.iter().map(|method| format!(" --method {method}")).collect();
        let line = format!(
            "security-server access grant {} --provider {}{methods} --purpose {PURPOSE} --days 1 --config {}",
            consumer.subsystem,
            provider.subsystem,
            provider.file()
        );
        self.run(&line).await.well();
    }
}

// ---- two members

/// An instance with the portal, which asks, and the civil registry, before the echo service, which is asked.
pub struct Two {
    pub instance: Instance,
    pub portal: Member,
    pub moj: Member,
}

impl Two {
    /// Joined, served, and unary calls and streams both ways granted: with the processes of the registry, of the
    /// portal's server and of the civil registry's.
    pub async fn before(service: SocketAddr) -> (Self, [Process; 3]) {
        let instance = Instance::founded().await;
        let registry = instance.serve_registry().await;
        let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
        for (member, services) in [(&portal, &[][..]), (&moj, &[("echo.v1.Echo", service)])] {
            instance.join(member).await;
            member.configure(instance.directory.path(), services);
        }
        let (portals, mojs) = (instance.serve(&portal).await, instance.serve(&moj).await);
        instance.grant(&portal, &moj, &["/echo.v1.Echo/Unary", "/echo.v1.Echo/Both"]).await;
        (Self { instance, portal, moj }, [registry, portals, mojs])
    }

    /// An ordinary client of the portal's that asks the civil registry.
    pub fn client(&self) -> Client {
        client(&self.portal, &self.moj)
    }
}

/// An ordinary client of the one that asks the other.
pub fn client(consumer: &Member, provider: &Member) -> Client {
    let channel = Endpoint::from_shared(format!("http://{}", consumer.clients)).unwrap().connect_lazy();
    let fields = vec![("causeway-service", provider.subsystem.clone()), ("causeway-purpose", PURPOSE.into())];
    EchoClient::with_interceptor(channel, Fields(fields))
}
