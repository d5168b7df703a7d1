//! A country whose registry decides: the real one, with its admin, and members whose servers joined it, are configured by
//! their files and follow what it publishes. All in one process, with one clock that the test holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use central_registry::Running;
use central_registry::command::{Admin, Failed};
use keystore::{Cost, Passphrase, Source};
use proto::catalogue::ServiceForm;
use proto::identifier::{MemberId, ServerId};
use proto::registration::{Invitation, Order};
use proto::time::Time;
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use security_server::Started;
use security_server::access_rights::Proposal;
use security_server::audit::Actor;
use security_server::clock::Clock;
use security_server::config::Configuration;
use security_server::join::{self, join};
use security_server::keys::ring::Use;
use security_server::listings::{self, Announcement, Unlisted};
use security_server::renewal::KeyState;
use tempfile::TempDir;

use crate::echo::DESCRIPTORS;
use crate::processes::{Member, PURPOSE, reserved};
use crate::soon;

/// 2027-01-15.
const BEGINNING: u64 = 1_800_000_000_000;

pub struct Realm {
    pub directory: TempDir,
    /// None while it is gone.
    registry: Option<Running>,
    address: SocketAddr,
    pub admin: Admin,
    pub servers: BTreeMap<&'static str, Started>,
    pub passphrase: Passphrase,
    time: Arc<AtomicU64>,
}

impl Realm {
    /// A registry that serves, and nobody else yet.
    pub async fn founded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (time, passphrase) = (Arc::new(AtomicU64::new(BEGINNING)), Passphrase::random());
        let options = central_registry::Options {
            instance: "VN".parse().unwrap(),
            name: "Country".parse().unwrap(),
            admin: "admin".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
            others: Vec::new(),
            persons_threshold: 1,
            root_keys: 1,
            root_threshold: 1,
            unlock: Source::Prompt,
            passphrase: passphrase.clone(),
            cost: Cost::dangerously_cheap(),
        };
        let begun = central_registry::init(&directory.path().join("registry"), options, &clock(&time)).unwrap();
        let registry = serve(&directory, &passphrase, &time, reserved()).await;
        let admin = Admin {
            instance: "VN".parse().unwrap(),
            registry: registry.address().to_string().parse().unwrap(),
            fingerprint: registry.fingerprint(),
            key: keystore::open(&begun.directory.join("admin-admin.pem"), &passphrase).unwrap(),
            clock: clock(&time),
        };
        let address = registry.address();
        Self { directory, registry: Some(registry), address, admin, servers: BTreeMap::new(), passphrase, time }
    }

    /// The portal, which asks, and the civil registry before this echo service, which is asked: joined, serving, granted.
    pub async fn of_two(service: SocketAddr) -> (Self, Member, Member) {
        let mut realm = Self::founded().await;
        let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
        for (member, services) in [(&portal, &[][..]), (&moj, &[("echo.v1.Echo", service)])] {
            realm.join(member, services).await;
            realm.serve(member).await;
        }
        realm.grant(&portal, &moj).await;
        realm.settled().await;
        (realm, portal, moj)
    }

    /// Invited, joined, approved, and configured by its admin.
    pub async fn join(&self, member: &Member, services: &[(&str, SocketAddr)]) {
        let invited = Invitation {
            member: member_id(member),
            name: Some(member.name.parse().unwrap()),
            server: server_id(member),
            subsystems: vec![member.subsystem.parse().unwrap()],
            valid: Duration::from_secs(3600),
        };
        self.join_as(member, invited, services).await;
    }

    /// The same with this invitation: another server of a member that is registered, in a directory of its own name.
    pub async fn join_as(&self, member: &Member, invited: Invitation, services: &[(&str, SocketAddr)]) {
        let server = invited.server.clone();
        let invitation = self.admin.invite(&Order::Invite(invited)).await.unwrap();
        let options = join::Options {
            directory: self.path(member.name),
            registry: invitation.registry,
            fingerprint: invitation.fingerprint,
            anchor_digest: invitation.anchor_digest,
            server,
            address: member.peers.to_string().parse().unwrap(),
            subsystems: Vec::new(),
            token: invitation.token,
            passphrase: self.passphrase.clone(),
            cost: Cost::dangerously_cheap(),
            unlock: Source::Prompt,
            clock: self.clock(),
        };
        let asked = join::ask(&options).await.unwrap();
        self.order(Order::Approve(asked.request.parse().unwrap())).await.unwrap();
        join(options).await.unwrap();
        member.configure(self.directory.path(), services);
    }

    /// Starts a member's server from its directory.
    pub async fn serve(&mut self, member: &Member) {
        let configuration = Configuration::read(&self.directory.path().join(member.file())).unwrap();
        let settings = configuration.settings(&self.passphrase, self.clock()).await.unwrap();
        self.servers.insert(member.name, security_server::start(settings).await.unwrap());
    }

    /// Stops a member's server as SIGTERM does.
    pub async fn stop(&mut self, member: &Member) {
        self.servers.remove(member.name).unwrap().shutdown().await;
    }

    /// Stops a member's server and starts it again.
    pub async fn restart(&mut self, member: &Member) {
        self.stop(member).await;
        self.serve(member).await;
    }

    /// The registry that serves.
    pub fn registry(&self) -> &Running {
        self.registry.as_ref().expect("it serves")
    }

    /// Stops the registry.
    pub async fn stop_registry(&mut self) {
        self.registry.take().expect("it served").shutdown().await;
    }

    /// Starts the registry again at its address.
    pub async fn serve_registry(&mut self) {
        self.registry = Some(serve(&self.directory, &self.passphrase, &self.time, self.address).await);
    }

    /// Grants one member all methods of the echo service at the other.
    pub async fn grant(&self, consumer: &Member, provider: &Member) {
        let methods = ["Unary", "Both"].map(|method| format!("/echo.v1.Echo/{method}"));
        let proposal = Proposal {
            consumer: consumer.subsystem.parse().unwrap(),
            provider: provider.subsystem.parse().unwrap(),
            methods: methods.into(),
            purposes: [PURPOSE.to_owned()].into(),
            legal_basis: "a test".into(),
            valid_from: None,
            valid_days: 3650,
            per_second: None,
            priority: Default::default(),
            fields: Default::default(),
        };
        self.servers[provider.name].server.access_rights.dangerously_grant(proposal, self.now()).await.unwrap();
    }

    /// Lists the echo service of this member in the catalogue, open to these; none: to everybody.
    pub async fn list(&self, provider: &Member, open_to: &[&str]) {
        self.list_as(provider, DESCRIPTORS, open_to).await.unwrap();
    }

    /// The same with these descriptors of it; or why it is not listed.
    pub async fn list_as(&self, provider: &Member, descriptors: &[u8], open_to: &[&str]) -> Result<(), Unlisted> {
        let announcement = announced(provider, (ServiceForm::Grpc, "echo.v1.Echo"), descriptors, open_to);
        self.publish(provider, announcement).await
    }

    /// Lists a REST service of this member by its OpenAPI document, open to everybody.
    pub async fn list_rest(&self, provider: &Member, name: &str, document: &str) -> Result<(), Unlisted> {
        self.publish(provider, announced(provider, (ServiceForm::Rest, name), document.as_bytes(), &[])).await
    }

    async fn publish(&self, provider: &Member, announcement: Announcement) -> Result<(), Unlisted> {
        let by = Actor { token: "admin".into(), from: "127.0.0.1:1".into(), calls_itself: None };
        let published = listings::publish(&self.servers[provider.name].server, announcement, by).await?;
        self.in_force(published.configuration_version).await;
        Ok(())
    }

    /// Gives the registry an order.
    pub async fn order(&self, order: Order) -> Result<Answer, Failed> {
        self.admin.submit(&order).await
    }

    /// Gives the registry an order that it carries out and publishes as this version.
    pub async fn decided(&self, order: Order) -> u64 {
        let Answer::Decided(decided) = self.order(order).await.unwrap() else { panic!("a decision was expected") };
        decided.version
    }

    /// A member as the registry has it.
    pub async fn registered(&self, member: &Member) -> wire::Member {
        let Ok(Answer::Members(members)) = self.order(Order::ListMembers).await else {
            panic!("members were asked for")
        };
        let id = member_id(member).to_string();
        members.members.into_iter().find(|each| each.member == id).expect("it is registered")
    }

    /// Signs the configuration again, as happens each minute, and waits until every server that runs has it in force.
    pub async fn settled(&self) -> u64 {
        let version = self.registry().sign_again().await.unwrap();
        self.in_force(version).await;
        version
    }

    /// Waits until every server that runs has this version in force, or a later one.
    pub async fn in_force(&self, version: u64) {
        for started in self.servers.values() {
            let mut versions = started.server.store.current().versions();
            soon(versions.wait_for(|in_force| *in_force >= version)).await.unwrap();
        }
    }

    /// Lets a day pass, as the registry's minutes would: the configuration is signed again, and every server has renewed
    /// what was due.
    pub async fn day(&self) {
        self.pass(Duration::from_secs(24 * 3600));
        self.settled().await;
        let day = Duration::from_secs(24 * 3600);
        for started in self.servers.values() {
            let began = self.now().minus(day / 2).to_string();
            self.keys_are(started, |keys| {
                keys.iter().any(|key| {
                    key.what == Use::Authentication && key.not_before.as_ref().is_some_and(|since| *since > began)
                })
            })
            .await;
        }
    }

    /// Waits until this server's keys are so, and it shows those in use: what one replaced is erased last. It looks with each
    /// version that comes into force.
    pub async fn keys_are(&self, started: &Started, so: impl Fn(&[KeyState]) -> bool) -> Vec<KeyState> {
        let mut versions = started.server.store.current().versions();
        let renewal = started.server.renewal.as_ref().unwrap();
        let mut changes = renewal.changes();
        let waiting = async {
            loop {
                let keys = renewal.keys(&started.server.store.current().load());
                if so(&keys) && keys.iter().all(|key| key.state != "replaced") {
                    return keys;
                }
                tokio::select! {
                    changed = versions.changed() => changed.unwrap(),
                    changed = changes.changed() => changed.unwrap(),
                }
            }
        };
        soon(waiting).await
    }

    /// Waits until the last attempt to renew this server's keys failed, or did not, and says why. It looks now, and not in a
    /// minute.
    pub async fn renewal(&self, started: &Started, fails: bool) -> String {
        let renewal = started.server.renewal.as_ref().unwrap();
        let mut changes = renewal.changes();
        renewal.look();
        let waiting = async {
            loop {
                let failing = renewal.failing();
                if failing.is_some() == fails {
                    return failing.unwrap_or_default();
                }
                changes.changed().await.unwrap();
            }
        };
        soon(waiting).await
    }

    /// The keys of a member's server that are in use: for TLS, and for seals.
    pub fn in_use(&self, member: &Member) -> [String; 2] {
        let server = &self.servers[member.name].server;
        let keys = server.renewal.as_ref().unwrap().keys(&server.store.current().load());
        Use::ALL.map(|what| {
            let in_use = keys.iter().find(|key| key.what == what && key.state == "in use");
            in_use.expect("there is always one").key.clone()
        })
    }

    /// The time that everybody sees.
    pub fn now(&self) -> Time {
        Time::from_millis(self.time.load(Ordering::SeqCst))
    }

    /// The clock that everybody has.
    pub fn clock(&self) -> Clock {
        let time = Arc::clone(&self.time);
        Clock::from_fn(move || Time::from_millis(time.load(Ordering::SeqCst)))
    }

    /// Lets time pass for everybody.
    pub fn pass(&self, duration: Duration) {
        self.time.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// A file or directory of the realm's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Stops everything.
    pub async fn stops(self) {
        for (_, started) in self.servers {
            started.shutdown().await;
        }
        if let Some(registry) = self.registry {
            registry.shutdown().await;
        }
    }
}

fn announced(
    provider: &Member,
    (form, name): (ServiceForm, &str),
    descriptors: &[u8],
    open_to: &[&str],
) -> Announcement {
    Announcement {
        subsystem: provider.subsystem.parse().unwrap(),
        form,
        descriptors: STANDARD.encode(descriptors),
        services: vec![name.parse().unwrap()],
        version: None,
        title: None,
        contact: "echo@moj.example".parse().unwrap(),
        open_to: open_to.iter().map(|audience| audience.parse().unwrap()).collect(),
        deprecated: None,
    }
}

/// `VN/GOV/<name>`.
pub fn member_id(member: &Member) -> MemberId {
    format!("VN/GOV/{}", member.name).parse().unwrap()
}

/// Its server.
pub fn server_id(member: &Member) -> ServerId {
    format!("VN/GOV/{}/ss1", member.name).parse().unwrap()
}

async fn serve(directory: &TempDir, passphrase: &Passphrase, time: &Arc<AtomicU64>, listen: SocketAddr) -> Running {
    let settings = central_registry::Settings {
        timestamping: Vec::new(),
        directory: directory.path().join("registry"),
        listen,
        public: Some("127.0.0.1:0".parse().unwrap()),
        passphrase: passphrase.clone(),
        clock: clock(time),
    };
    central_registry::start(settings).await.unwrap()
}

fn clock(time: &Arc<AtomicU64>) -> central_registry::Clock {
    let time = Arc::clone(time);
    Arc::new(move || Time::from_millis(time.load(Ordering::SeqCst)))
}

/// The key that a server's peers' door shows to whoever connects now.
pub async fn shown_by(member: &Member) -> String {
    let saw = Arc::new(Saw {
        provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        certificate: Mutex::default(),
    });
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&saw.provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&saw) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(member.peers).await.unwrap();
    let name = proto::certificate::dns_name(&server_id(member)).try_into().unwrap();
    // Without a certificate of our own we are not let in; it shows its own before that.
    let _ = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let der = saw.certificate.lock().unwrap().take().expect("it shows a certificate");
    proto::certificate::public_key(&der).unwrap().id().to_string()
}

/// Looks, and believes everything.
#[derive(Debug)]
struct Saw {
    provider: Arc<rustls::crypto::CryptoProvider>,
    certificate: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Saw {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.certificate.lock().unwrap() = Some(certificate.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
