//! A registry on loopback with a clock that the test holds, its admin, and servers that want to join.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use central_registry::command::{Admin, Failed, Invitation};
use central_registry::{Clock, Options, Running, Settings, init, start};
use keystore::{Cost, Passphrase, Source};
use proto::registration::{Address, Application, Order, Token};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::command_result::Result as Answer;
use proto::wire::registry::{JoinReceipt, JoinRequest, Version, WatchRequest};
use registry_client::{GlobalConfigurationClient, MAX_ANSWER_BYTES, RegistrationClient, connect};
use security_server::join;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// 2026-11-21.
const BEGINNING: u64 = 1_795_219_200_000;

pub struct Office {
    pub running: Running,
    pub admin: Admin,
    pub time: Arc<AtomicU64>,
    pub passphrase: Passphrase,
    pub directory: TempDir,
}

impl Office {
    pub async fn open() -> Self {
        Self::of(&[], 1).await
    }

    /// With these persons besides the first admin, so many of whom what matters needs.
    pub async fn of(others: &[&str], persons_threshold: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(BEGINNING));
        let passphrase = Passphrase::random();
        let options = Options {
            instance: "VN".parse().unwrap(),
            name: "A bus for tests".parse().unwrap(),
            admin: "an.nguyen".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: "127.0.0.1:4001".parse().unwrap(),
            others: others.iter().map(|person| person.parse().unwrap()).collect(),
            persons_threshold,
            root_keys: 1,
            root_threshold: 1,
            unlock: Source::Prompt,
            passphrase: passphrase.clone(),
            cost: Cost::dangerously_cheap(),
        };
        init(&directory.path().join("registry"), options, &clock(&time)).unwrap();
        let running = run(&directory, &passphrase, &time).await;
        let key = keystore::open(&directory.path().join("registry/admin-an.nguyen.pem"), &passphrase).unwrap();
        let admin = Admin {
            instance: "VN".parse().unwrap(),
            registry: running.address().to_string().parse().unwrap(),
            fingerprint: running.fingerprint(),
            key,
            clock: clock(&time),
        };
        Self { running, admin, time, passphrase, directory }
    }

    /// Stops the registry, lets `between` at its directory, and starts it again.
    pub async fn restarted(self, between: impl FnOnce(&Path)) -> Self {
        let Self { running, admin, time, passphrase, directory } = self;
        running.shutdown().await;
        between(&directory.path().join("registry"));
        let running = run(&directory, &passphrase, &time).await;
        let admin = Admin { registry: running.address().to_string().parse().unwrap(), ..admin };
        Self { running, admin, time, passphrase, directory }
    }

    /// Another person, with the key of that name.
    #[allow(dead_code, reason = "not every test has several")]
    pub fn person(&self, name: &str) -> Admin {
        let key = self.path().join(format!("admin-{name}.pem"));
        Admin {
            instance: "VN".parse().unwrap(),
            registry: self.address(),
            fingerprint: self.running.fingerprint(),
            key: keystore::open(&key, &self.passphrase).unwrap(),
            clock: clock(&self.time),
        }
    }

    pub fn settings(&self) -> Settings {
        settings(&self.directory, &self.passphrase, &self.time)
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("registry")
    }

    pub fn pass(&self, duration: Duration) {
        self.time.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn address(&self) -> Address {
        self.running.address().to_string().parse().unwrap()
    }

    pub async fn channel(&self) -> Channel {
        connect(&self.address(), self.running.fingerprint()).await.unwrap()
    }

    /// What follows this version, as it is pushed.
    pub async fn watch(&self, version: u64) -> Streaming<Version> {
        let mut client =
            GlobalConfigurationClient::new(self.channel().await).max_decoding_message_size(MAX_ANSWER_BYTES);
        client.watch(WatchRequest { version, logged: version }).await.unwrap().into_inner()
    }

    pub async fn invite(&self, member: &str, server: &str, subsystems: &[&str]) -> Invitation {
        self.admin.invite(&invitation(member, Some("An agency"), server, subsystems)).await.unwrap()
    }

    pub async fn approve(&self, request: &str) -> u64 {
        let Answer::Decided(decided) = self.admin.submit(&Order::Approve(request.parse().unwrap())).await.unwrap()
        else {
            panic!("an approval is a decision")
        };
        decided.version
    }

    pub async fn apply(&self, request: JoinRequest) -> Result<JoinReceipt, Status> {
        RegistrationClient::new(self.channel().await).join(request).await.map(tonic::Response::into_inner)
    }

    /// Options of a server that was invited.
    pub fn joining(&self, name: &str, invitation: &Invitation, server: &str) -> join::Options {
        let time = self.time.clone();
        join::Options {
            directory: self.directory.path().join(name),
            registry: self.address(),
            fingerprint: invitation.fingerprint,
            anchor_digest: invitation.anchor_digest,
            server: server.parse().unwrap(),
            address: "127.0.0.1:5500".parse().unwrap(),
            subsystems: Vec::new(),
            token: invitation.token.clone(),
            passphrase: self.passphrase.clone(),
            cost: Cost::dangerously_cheap(),
            unlock: Source::Prompt,
            clock: security_server::clock::Clock::from_fn(move || Time::from_millis(time.load(Ordering::SeqCst))),
        }
    }

    /// The list of requests and of members, as the admin sees them.
    pub async fn seen(&self) -> (Answer, Answer) {
        let requests = self.admin.submit(&Order::ListRequests).await.unwrap();
        (requests, self.admin.submit(&Order::ListMembers).await.unwrap())
    }
}

pub async fn run(directory: &TempDir, passphrase: &Passphrase, time: &Arc<AtomicU64>) -> Running {
    start(settings(directory, passphrase, time)).await.unwrap()
}

fn settings(directory: &TempDir, passphrase: &Passphrase, time: &Arc<AtomicU64>) -> Settings {
    Settings {
        timestamping: Vec::new(),
        directory: directory.path().join("registry"),
        listen: "127.0.0.1:0".parse().unwrap(),
        public: None,
        passphrase: passphrase.clone(),
        clock: clock(time),
    }
}

fn clock(time: &Arc<AtomicU64>) -> Clock {
    let time = time.clone();
    Arc::new(move || Time::from_millis(time.load(Ordering::SeqCst)))
}

pub fn invitation(member: &str, name: Option<&str>, server: &str, subsystems: &[&str]) -> Order {
    Order::Invite(proto::registration::Invitation {
        member: member.parse().unwrap(),
        name: name.map(|name| name.parse().unwrap()),
        server: server.parse().unwrap(),
        subsystems: subsystems.iter().map(|each| each.parse().unwrap()).collect(),
        valid: Duration::from_secs(3600),
    })
}

/// An applicant without a directory: it can say anything.
pub struct Applicant {
    pub application: Application,
    pub authentication: SigningKey,
    pub signing: SigningKey,
}

impl Applicant {
    pub fn new(token: &Token) -> Self {
        let ((authentication, _), (signing, _)) = (SigningKey::generate(), SigningKey::generate());
        let application = Application {
            instance: "VN".parse().unwrap(),
            member: "VN/GOV/moj".parse().unwrap(),
            server: "VN/GOV/moj/ss1".parse().unwrap(),
            address: "127.0.0.1:5500".parse().unwrap(),
            subsystems: Vec::new(),
            token: token.clone(),
            authentication_key: authentication.public().clone(),
            signing_key: signing.public().clone(),
        };
        Self { application, authentication, signing }
    }

    pub fn request(&self) -> JoinRequest {
        self.application.sign(&self.authentication, &self.signing)
    }
}

/// The code and the reason of a refusal.
pub fn refusal(failed: Result<Answer, Failed>) -> (Code, String) {
    match failed {
        Err(Failed::Refused { code, reason }) => (code, reason),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}
