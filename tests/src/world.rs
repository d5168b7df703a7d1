//! The world: see the crate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use central_registry::authority::CertificateAuthority;
use central_registry::publish::{Publication, RoleKeys, Thresholds, View};
use central_registry::register::{Applied, Hex};
use journal::{Disk, Options};
use proto::digest::Digest;
use proto::global_configuration::Standing;
use proto::global_configuration::document::{
    InstanceDocument, MemberDocument, ServerDocument, SigningDocument, SubsystemDocument, TimestampingDocument,
};
use proto::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use proto::signature::SigningKey;
use proto::time::Time;
use security_server::access_rights::{GrantNumber, Proposal};
use security_server::authenticate::Clients;
use security_server::clock::Clock;
use security_server::evidence::{self, Line};
use security_server::global_configuration::{Registry, Store, StoreError};
use security_server::lanes::Lanes;
use security_server::limits::Limits;
use security_server::listen::clients::Door;
use security_server::listen::clients::json;
use security_server::lookout::DiskMarks;
use security_server::names::Names;
use security_server::payloads::{Blocks, Keep, PAYLOAD_KEYS, Payloads, Policy, Secret};
use security_server::services::{Service, Services};
use security_server::stamping::ToleratedOutage;
use security_server::tls::{Identity, Own};
use security_server::{Settings, Started};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::echo::{Heard, Parrot};
use crate::processes::reserved;
use crate::raw;
use crate::roomy::Roomy;
use crate::soon;
use crate::wire::echo_client::EchoClient;

/// The token of the consumer's system.
pub const TOKEN: &str = "a-token-of-the-portal";
/// The token of every operators' door.
pub const OPERATORS_TOKEN: &str = "an-operators-token";
/// The purpose that is granted.
pub const PURPOSE: &str = "testing";

/// An instance with two members and their servers: the portal, which asks, and the civil registry, which is asked.
pub struct World {
    pub directory: tempfile::TempDir,
    time: Arc<AtomicU64>,
    ticks: Arc<AtomicU64>,
    skews: Mutex<HashMap<&'static str, Arc<AtomicI64>>>,
    /// Certifies servers and members.
    pub authority: CertificateAuthority,
    /// The registry's keys of each role; a test may add some before anything is published.
    pub keys: RoleKeys,
    /// How many of them must sign.
    pub thresholds: Thresholds,
    /// What the registry published last.
    pub publication: Publication,
    pub members: BTreeMap<&'static str, Member>,
    pub servers: HashMap<&'static str, Started>,
    /// What the civil registry's service hears.
    pub heard: mpsc::UnboundedReceiver<Heard>,
    /// Where the civil registry's server finds its service, from its next start on.
    pub service: SocketAddr,
    /// How every server's logs are opened.
    pub log_options: Options,
    /// What each who reaches a server may take of it, from its next start on.
    pub limits: Limits,
    /// Where the civil registry's server archives its message log, from its next start on.
    pub archive: Option<security_server::archive::Settings>,
    /// Where every server finds hosts.
    pub names: Names,
    /// The registry that servers follow from their next start on. None: what [`World::publish`] gives them is all.
    pub registry: Option<Registry>,
    /// What each member's server keeps from its next start on, and the disk of its keys.
    pub payloads: HashMap<&'static str, (Policy, Arc<dyn Disk>)>,
    pub instance: InstanceDocument,
}

/// A member, and all that its server is made of.
pub struct Member {
    pub document: MemberDocument,
    pub server: ServerId,
    pub subsystem: SubsystemId,
    pub signing: Arc<SigningKey>,
    pub signing_pkcs8: Vec<u8>,
    pub authentication: Vec<u8>,
    pub chain: Vec<Vec<u8>>,
    /// Where the server keeps its log; a test may put another disk here before it starts the server again.
    pub log: Arc<dyn Disk>,
    /// Whether the document is published. That of a second server is not: it stands in its member's own.
    listed: bool,
}

/// A client of the echo service through the bus.
pub type Client = EchoClient<InterceptedService<Channel, Fields>>;

/// The fields that a client sets.
#[derive(Clone)]
pub struct Fields(pub Vec<(&'static str, String)>);

impl tonic::service::Interceptor for Fields {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, MetadataValue::try_from(value.as_str()).unwrap());
        }
        Ok(request)
    }
}

impl World {
    /// Two servers that run, the portal's and the civil registry's, and no grant.
    pub async fn without_grants() -> Self {
        Self::arranged(async |_| {}).await
    }

    /// The same, arranged otherwise by the test before anything is published or started: another disk for a log,
    /// something in between two servers or before the service.
    pub async fn arranged(arrange: impl AsyncFnOnce(&mut World)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(1_800_000_000_000));
        let now = Time::from_millis(time.load(Ordering::Relaxed));
        let instance_id: InstanceId = "VN".parse().unwrap();
        let (key, pkcs8) = SigningKey::generate();
        let authority_certificate = CertificateAuthority::found(&instance_id, key, now).unwrap();
        let authority =
            CertificateAuthority::open(&authority_certificate, SigningKey::from_pkcs8(&pkcs8).unwrap()).unwrap();
        let instance = InstanceDocument {
            instance: instance_id,
            name: "Example".into(),
            authorities: vec![authority_certificate],
            timestamping: Vec::new(),
            purposes: Vec::new(),
        };

        let (service, heard) = Parrot::serve().await;
        let mut members = BTreeMap::new();
        let mut listeners = HashMap::new();
        for (name, subsystem) in [("portal", "one-stop"), ("moj", "civil-registry")] {
            let listener = TcpListener::bind(reserved()).await.unwrap();
            let member =
                Member::new(&authority, now, directory.path(), name, subsystem, listener.local_addr().unwrap());
            listeners.insert(name, listener);
            members.insert(name, member);
        }
        let (keys, thresholds) = (role_keys(), Thresholds::SANDBOX);
        let publication = first_publication(&keys, &thresholds, &instance, &members, now);
        let mut world = Self {
            directory,
            time,
            ticks: Arc::default(),
            skews: Mutex::default(),
            authority,
            keys,
            thresholds,
            publication,
            members,
            servers: HashMap::new(),
            heard,
            service,
            log_options: Options::default(),
            limits: Limits::default(),
            archive: None,
            names: Names::system(),
            registry: None,
            payloads: HashMap::new(),
            instance,
        };
        arrange(&mut world).await;
        world.publication = first_publication(&world.keys, &world.thresholds, &world.instance, &world.members, now);
        for (name, listener) in listeners {
            world.start(name, listener, true).await;
        }
        world
    }

    /// The same, and the portal may call every method of the echo service for [`PURPOSE`].
    pub async fn new() -> Self {
        let world = Self::without_grants().await;
        world.grant_all().await;
        world
    }

    /// Grants the portal every method of the echo service for [`PURPOSE`].
    pub async fn grant_all(&self) -> GrantNumber {
        self.grant(&["Unary", "ServerStream", "ClientStream", "Both", "SpeaksFirst", "Hang", "Fail"]).await
    }

    /// The same, with this service in the echo service's place.
    pub async fn with_service(service: SocketAddr) -> Self {
        let mut world = Self::new().await;
        world.service = service;
        world.restart("moj").await;
        world
    }

    /// Grants the portal these methods of the echo service for [`PURPOSE`].
    pub async fn grant(&self, methods: &[&str]) -> GrantNumber {
        self.grant_as(self.proposal(methods)).await
    }

    /// Lets this member be called by the portal: every method of the echo service, for [`PURPOSE`].
    pub async fn grant_to(&self, provider: &str) {
        let methods = ["Unary", "ServerStream", "ClientStream", "Both", "SpeaksFirst", "Hang", "Fail"];
        let proposal = Proposal { provider: self.members[provider].subsystem.clone(), ..self.proposal(&methods) };
        self.servers[provider].server.access_rights.dangerously_grant(proposal, self.now()).await.unwrap();
    }

    /// Grants what is proposed.
    pub async fn grant_as(&self, proposal: Proposal) -> GrantNumber {
        self.servers["moj"].server.access_rights.dangerously_grant(proposal, self.now()).await.unwrap().number
    }

    /// A grant of these methods to the portal, for [`PURPOSE`].
    pub fn proposal(&self, methods: &[&str]) -> Proposal {
        Proposal {
            consumer: self.members["portal"].subsystem.clone(),
            provider: self.members["moj"].subsystem.clone(),
            methods: methods.iter().map(|method| format!("/echo.v1.Echo/{method}")).collect(),
            purposes: [PURPOSE.to_owned()].into(),
            legal_basis: "a test".into(),
            valid_from: None,
            valid_days: 30,
            per_second: None,
            priority: Default::default(),
            fields: Default::default(),
        }
    }

    /// The root document from which everything is verified, as an auditor is given it.
    pub fn anchor(&self) -> &[u8] {
        self.publication.anchor()
    }

    /// The time that every server sees.
    pub fn now(&self) -> Time {
        Time::from_millis(self.time.load(Ordering::Relaxed))
    }

    /// The time that every server sees, for whoever else has a clock.
    pub fn clock(&self) -> Arc<dyn Fn() -> Time + Send + Sync> {
        let time = Arc::clone(&self.time);
        Arc::new(move || Time::from_millis(time.load(Ordering::Relaxed)))
    }

    /// Publishes that these timestamping authorities are approved, and puts it in force.
    pub fn approve(&mut self, timestamping: Vec<TimestampingDocument>) {
        self.instance.timestamping = timestamping;
        self.publish(|_| {}, Vec::new());
    }

    /// Moves the time of every server.
    pub fn set_time(&self, time: Time) {
        self.time.store(time.as_millis(), Ordering::Relaxed);
    }

    /// From now on the clock of this server is wrong by so many seconds.
    pub fn skew(&self, name: &'static str, seconds: i64) {
        self.skew_of(name).store(seconds * 1000, Ordering::Relaxed);
    }

    fn skew_of(&self, name: &'static str) -> Arc<AtomicI64> {
        Arc::clone(self.skews.lock().unwrap().entry(name).or_default())
    }

    /// The machines of all servers have run for so long; their clocks stay where they are.
    pub fn machines_run(&self, duration: Duration) {
        self.ticks.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Starts a member's server on this listener, with its configuration, log and grants as they are on disk.
    pub async fn start(&mut self, name: &'static str, peers: TcpListener, first: bool) {
        let settings = self.settings(name, peers, first).await;
        let started = security_server::start(settings).await.unwrap();
        self.servers.insert(name, started);
    }

    pub async fn settings(&self, name: &'static str, peers: TcpListener, first: bool) -> Settings {
        let member = &self.members[name];
        let directory = self.directory.path().join(name);
        let configuration = directory.join("configuration");
        std::fs::create_dir_all(directory.join("log")).unwrap();
        std::fs::create_dir_all(directory.join("audit")).unwrap();
        let store = if first {
            Store::create(&configuration, self.publication.anchor().clone(), self.publication.files(), self.now())
        } else {
            // Whoever was stopped here may have let go of all but its last thread's copy.
            soon(async {
                loop {
                    match Store::open(&configuration) {
                        Err(StoreError::InUse(_)) => tokio::task::yield_now().await,
                        opened => break opened,
                    }
                }
            })
            .await
        };
        let (time, skew, ticks) = (Arc::clone(&self.time), self.skew_of(name), Arc::clone(&self.ticks));
        let service = Service::new(member.subsystem.clone(), "echo.v1.Echo".into(), self.service.to_string(), None);
        let (subsystem, token) = (member.subsystem.clone(), Digest::of(&[TOKEN.as_bytes()]));
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // As `post` calls it.
        let hosts = BTreeSet::from(["bus".to_owned()]);
        Settings {
            lanes: Lanes::default(),
            id: member.server.clone(),
            keys: vec![(member.subsystem.member(), Arc::clone(&member.signing))],
            identity: Own::new(&member.identity()).unwrap(),
            renewal: None,
            store: Arc::new(store.unwrap()),
            registry: self.registry.clone(),
            mirrors: Vec::new(),
            clock: Clock::from_fns(
                move || {
                    let (time, skew) = (time.load(Ordering::Relaxed), skew.load(Ordering::Relaxed));
                    Time::from_millis(time.saturating_add_signed(skew))
                },
                move || Duration::from_millis(ticks.load(Ordering::Relaxed)),
            ),
            log: Arc::clone(&member.log),
            log_options: Options { first, ..self.log_options.clone() },
            index: directory.join("index"),
            content: directory.join("content"),
            last_used: directory.join("last-used.json"),
            subjects: directory.join("subjects"),
            payloads: self.payloads_of(name),
            audit: Arc::new(Roomy::at(directory.join("audit"))),
            audit_options: Options { first, ..self.log_options.clone() },
            disk_marks: DiskMarks::default(),
            tolerated_outage: ToleratedOutage::default(),
            archive: self.archive.clone().filter(|_| name == "moj"),
            names: self.names.clone(),
            clients: Clients { tokens: HashMap::from([(token, subsystem.clone())]), certificates: HashMap::new() },
            bindings: HashMap::new(),
            services: Services::new([service.found_by(self.names.clone())]).unwrap(),
            peers,
            client_doors: vec![
                (door, Door { bound: None, tls: None, hosts: hosts.clone() }),
                (bound, Door { bound: Some(subsystem), tls: None, hosts }),
            ],
            limits: self.limits,
            json: json::Limits::default(),
            operators: (TcpListener::bind("127.0.0.1:0").await.unwrap(), Digest::of(&[OPERATORS_TOKEN.as_bytes()])),
            named_operators: HashMap::new(),
            xroad: Vec::new(),
            described: BTreeMap::new(),
        }
    }

    /// What this member's server keeps, and the keys that it has for it.
    fn payloads_of(&self, name: &str) -> Payloads {
        let Some((policy, disk)) = self.payloads.get(name) else { return Payloads::nothing() };
        let blocks = Blocks::new(Arc::clone(disk), Secret::of(name.as_bytes()));
        Payloads::new(policy.clone(), Ok(blocks))
    }

    /// From its next start on this member's server keeps the payloads of the civil registry's echo service.
    pub fn keep(&mut self, name: &'static str, keep: Option<Keep>) {
        let kept = keep.map(|keep| (self.members["moj"].subsystem.clone(), "echo.v1.Echo".to_owned(), keep));
        let directory = self.directory.path().join(name).join(PAYLOAD_KEYS);
        std::fs::create_dir_all(&directory).unwrap();
        let disk = self.payloads.remove(name).map_or_else(|| Arc::new(Roomy::at(directory)) as _, |(_, disk)| disk);
        self.payloads.insert(name, (Policy::of(kept), disk));
    }

    /// Stops a member's server as SIGTERM does, and starts it again at the same address.
    pub async fn restart(&mut self, name: &'static str) {
        let started = self.servers.remove(name).unwrap();
        let address = started.peers;
        started.shutdown().await;
        let listener = TcpListener::bind(address).await.unwrap();
        self.start(name, listener, false).await;
    }

    /// The fields of a good call to the civil registry.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("causeway-token", TOKEN.into()),
            ("causeway-service", self.members["moj"].subsystem.to_string()),
            ("causeway-purpose", PURPOSE.into()),
        ]
    }

    /// A good call to the civil registry, as plain HTTP/2.
    pub fn post(&self, method: &str) -> http::request::Builder {
        let path = format!("http://bus/echo.v1.Echo/{method}");
        let request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
        self.fields().into_iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// The same, with one field of it changed, added or (without a value) left out.
    pub fn post_with(&self, method: &str, name: &'static str, value: Option<&str>) -> http::request::Builder {
        let mut request = self.post(method);
        let headers = request.headers_mut().unwrap();
        headers.remove(name);
        if let Some(value) = value {
            headers.append(name, value.parse().unwrap());
        }
        request
    }

    /// A plain HTTP/2 client of the portal's.
    pub async fn raw(&self) -> raw::Client {
        raw::Client::to(self.servers["portal"].clients[0]).await
    }

    /// What the log of this member's server holds of an exchange.
    pub fn log_of(&self, name: &str, exchange: &str) -> Vec<Line> {
        let found = self.servers[name].server.message_log.find(exchange.parse().unwrap()).unwrap();
        evidence::summary(&found)
    }

    /// Waits until no exchange runs at either server: each has its end in both logs.
    pub async fn quiet(&self) {
        crate::soon(async {
            while self.servers.values().any(|started| started.server.running() > 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// An ordinary client of the portal's, with these fields.
    pub async fn client_with(&self, fields: Vec<(&'static str, String)>) -> Client {
        self.client_at(self.servers["portal"].clients[0], fields).await
    }

    /// The same, where the portal's door is found at another address.
    pub async fn client_at(&self, door: SocketAddr, fields: Vec<(&'static str, String)>) -> Client {
        let channel = Channel::from_shared(format!("http://{door}")).unwrap();
        let channel = channel.connect().await.unwrap();
        EchoClient::with_interceptor(channel, Fields(fields))
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20)
    }

    /// An ordinary client of the portal's that names this member.
    pub async fn client_to(&self, provider: &str) -> Client {
        let mut fields = self.fields();
        fields.retain(|(name, _)| *name != "causeway-service");
        fields.push(("causeway-service", self.members[provider].subsystem.to_string()));
        self.client_with(fields).await
    }

    /// An ordinary client of the portal's that names the civil registry.
    pub async fn client(&self) -> Client {
        self.client_with(self.fields()).await
    }

    /// Publishes a change of the members and puts it in force at these servers.
    pub fn publish(&mut self, change: impl FnOnce(&mut BTreeMap<&'static str, Member>), revoked: Vec<Digest>) {
        change(&mut self.members);
        let revoked = revoked.into_iter().map(Into::into).collect();
        let view = View { revoked, ..self.view() };
        let (publication, _) = self.publication.next(&self.keys, &view, self.now()).unwrap();
        self.publication = publication;
        for started in self.servers.values() {
            started.server.store.apply(self.publication.files(), self.now()).unwrap();
        }
    }

    /// What the registry would publish of the members as they are.
    pub fn view(&self) -> View {
        view(&self.instance, &self.members)
    }

    /// Members whose servers are registered, and do not run: whoever has their keys may be them.
    pub fn register(&mut self, names: &[&'static str], subsystem: &str) {
        let (now, nowhere) = (self.now(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let member = |name: &'static str| {
            (name, Member::new(&self.authority, now, self.directory.path(), name, subsystem, nowhere))
        };
        let members: Vec<_> = names.iter().map(|name| member(name)).collect();
        self.publish(|known| known.extend(members), Vec::new());
    }

    /// Another member, with a server that hosts one subsystem: registered, and running.
    pub async fn enroll(&mut self, name: &'static str, subsystem: &str) {
        self.enroll_before(self.service, name, subsystem, |_| {}).await;
    }

    /// The same, arranged by the test, and before a service of its own.
    pub async fn enroll_before(
        &mut self,
        service: SocketAddr,
        name: &'static str,
        subsystem: &str,
        arrange: impl FnOnce(&mut Member),
    ) {
        let listener = TcpListener::bind(reserved()).await.unwrap();
        let (now, address) = (self.now(), listener.local_addr().unwrap());
        let mut member = Member::new(&self.authority, now, self.directory.path(), name, subsystem, address);
        arrange(&mut member);
        self.publish(|members| drop(members.insert(name, member)), Vec::new());
        let others = std::mem::replace(&mut self.service, service);
        self.start(name, listener, true).await;
        self.service = others;
    }

    /// A second server of a member, `ss2`, that hosts what the first one hosts: registered, and running under this name.
    pub async fn second_server(&mut self, of: &'static str, name: &'static str) {
        let listener = TcpListener::bind(reserved()).await.unwrap();
        let (now, address) = (self.now(), listener.local_addr().unwrap());
        let first = &self.members[of];
        let id: ServerId = format!("{}/ss2", first.subsystem.member()).parse().unwrap();
        let second =
            Member::at(&self.authority, now, self.directory.path().join(name), first.subsystem.clone(), id, address);
        self.publish(
            |members| {
                let document = &mut members.get_mut(of).unwrap().document;
                document.servers.extend(second.document.servers.iter().cloned());
                document.signing.extend(second.document.signing.iter().cloned());
                document.subsystems[0].servers.push(second.server.clone());
                members.insert(name, Member { listed: false, ..second });
            },
            Vec::new(),
        );
        self.start(name, listener, true).await;
    }

    /// How many records this member's log has.
    pub fn records(&self, name: &str) -> usize {
        let mut count = 0;
        journal::read(&*self.members[name].log, None, &mut |_| count += 1).unwrap();
        count
    }

    /// What was recorded in this member's log behind its first `known` records, one text each: what it is, which way it
    /// goes, and how it ends.
    pub fn recorded(&self, name: &str, known: usize) -> Vec<String> {
        let mut entries = Vec::new();
        journal::read(&*self.members[name].log, None, &mut |entry| entries.push(entry)).unwrap();
        let words = |line: &Line| {
            let number = line.number.map(|number| number.to_string());
            let words = [Some(line.kind), line.direction, number.as_deref(), line.end.as_deref()];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        evidence::summary(&entries[known..]).iter().map(words).collect()
    }
}

impl Member {
    /// Its certificate and key for TLS.
    pub fn identity(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.authentication.clone().into() }
    }

    fn new(
        authority: &CertificateAuthority,
        now: Time,
        directory: &std::path::Path,
        name: &str,
        subsystem: &str,
        address: SocketAddr,
    ) -> Self {
        let server: ServerId = format!("VN/GOV/{name}/ss1").parse().unwrap();
        let subsystem: SubsystemId = format!("VN/GOV/{name}/{subsystem}").parse().unwrap();
        Self::at(authority, now, directory.join(name), subsystem, server, address)
    }

    /// The same member at the same server, with other keys and certificates of them that the authority signed, and that
    /// nobody listed: what a thief of the authority's key makes.
    pub fn certified(world: &World, like: &Member, address: SocketAddr) -> Self {
        let directory = world.directory.path().join("nowhere");
        let (subsystem, server) = (like.subsystem.clone(), like.server.clone());
        Self { listed: false, ..Self::at(&world.authority, world.now(), directory, subsystem, server, address) }
    }

    /// The subsystem's member, at this server.
    fn at(
        authority: &CertificateAuthority,
        now: Time,
        directory: std::path::PathBuf,
        subsystem: SubsystemId,
        server: ServerId,
        address: SocketAddr,
    ) -> Self {
        let member: MemberId = subsystem.member();
        let ((signing, signing_pkcs8), (authentication, authentication_pkcs8)) =
            (SigningKey::generate(), SigningKey::generate());
        let applied = Applied {
            digest: Hex(Digest::ZERO),
            address: address.to_string().parse().unwrap(),
            subsystems: vec![subsystem.clone()],
            member: member.clone(),
            server: server.clone(),
            authentication_key: authentication.public().to_spki().into(),
            signing_key: signing.public().to_spki().into(),
        };
        let certificate = authority.authentication(&applied, now).unwrap();
        let signing_certificate = authority.signing(&applied, now).unwrap();
        let document = MemberDocument {
            name: member.to_string(),
            member,
            standing: Standing::Active,
            subsystems: vec![SubsystemDocument { subsystem: subsystem.clone(), servers: vec![server.clone()] }],
            servers: vec![ServerDocument {
                server: server.clone(),
                address: address.to_string(),
                authentication: vec![certificate.clone()],
                maintenance: None,
            }],
            signing: vec![SigningDocument { server: server.clone(), certificate: signing_certificate, until: None }],
        };
        Self {
            document,
            server,
            subsystem,
            signing: Arc::new(signing),
            signing_pkcs8,
            authentication: authentication_pkcs8,
            chain: vec![certificate.as_bytes().to_vec()],
            log: Arc::new(Roomy::at(directory.join("log"))),
            listed: true,
        }
    }
}

fn first_publication(
    keys: &RoleKeys,
    thresholds: &Thresholds,
    instance: &InstanceDocument,
    members: &BTreeMap<&'static str, Member>,
    now: Time,
) -> Publication {
    Publication::first(keys, thresholds, &view(instance, members), now).unwrap()
}

fn view(instance: &InstanceDocument, members: &BTreeMap<&'static str, Member>) -> View {
    let listed = members.values().filter(|member| member.listed);
    let members = listed.map(|member| member.document.clone()).collect();
    View { instance: instance.clone(), members, revoked: Vec::new(), catalogue: Vec::new() }
}

fn role_keys() -> RoleKeys {
    let key = || vec![SigningKey::generate().0];
    RoleKeys {
        root: key(),
        targets: key(),
        members: key(),
        catalogue: key(),
        revoked: key(),
        snapshot: key(),
        timestamp: key(),
    }
}
