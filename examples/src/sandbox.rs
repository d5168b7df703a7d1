//! A whole example country in one process, on loopback: the central registry, four members, a security server each, and
//! their agencies. Every server is started as its `main` starts it, from a directory that `init` or `join` wrote.

pub mod auditor;
pub mod story;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use central_registry::command::{Admin, AdminFile};
use keystore::{Cost, Passphrase, Source};
use proto::identifier::{MemberId, ServerId, SubsystemId};
use proto::purposes::PurposeDocument;
use proto::registration::{Address, Invitation, Order, RequestId};
use proto::wire::registry::command_result::Result as Answer;
use security_server::access_rights::Proposal;
use security_server::announce::compiled;
use security_server::clock::Clock;
use security_server::config::Configuration;
use security_server::disclosures::over_the_bus;
use security_server::join::{CONFIGURATION_FILE, join};
use security_server::listen::operators::Changed;
use security_server::listings::{Announcement, Published};
use security_server::operate::Operator;
use tokio::net::TcpListener;

use crate::agencies::{Calendar, Peer, Running, civil_registry, population_register, portal, social_insurance};

/// The instance's name.
pub const INSTANCE: &str = "VN";
/// Ports that files name: below those that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const REGISTRY: &str = "registry";
/// Where the agencies' .proto files stand.
const PROTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/protos");
const PASSPHRASE: &str = "passphrase";
/// The purpose of every call of the story.
pub const PURPOSE: &str = "birth-registration";
/// The purpose for which people are told of their own data.
pub const OWN_DATA: &str = "own-data";
const DISCLOSURES: &str = over_the_bus::LIST;
/// For what data may be asked in the country, in English and in Vietnamese.
const PURPOSES: [(&str, &str, &str); 5] = [
    (OWN_DATA, "To show people who received their data", "Để người dân biết ai đã nhận dữ liệu của mình"),
    (PURPOSE, "To register a birth and give what follows from it", "Đăng ký khai sinh và các thủ tục liên thông"),
    ("social-insurance", "To decide who is insured", "Xác định đối tượng tham gia bảo hiểm"),
    ("marriage", "To register a marriage", "Đăng ký kết hôn"),
    ("residence", "To keep the register of residence", "Quản lý cư trú"),
];

/// An agency of the example country.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agency {
    /// Its directory, and the last segment of its member's id.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Its one subsystem.
    pub subsystem: &'static str,
    /// The gRPC services that it offers to others.
    pub services: &'static [&'static str],
    /// The .proto file that describes them.
    pub protos: &'static str,
}

/// Who keeps the people.
pub const POPULATION: Agency = Agency {
    name: "mps",
    title: "Ministry of Public Security",
    subsystem: "population-register",
    services: &["population.v1.People"],
    protos: "population/v1/population.proto",
};
/// Who registers births.
pub const CIVIL: Agency = Agency {
    name: "moj",
    title: "Ministry of Justice",
    subsystem: "civil-registry",
    services: &["civil.v1.Births"],
    protos: "civil/v1/civil.proto",
};
/// Who insures.
pub const INSURANCE: Agency = Agency {
    name: "vss",
    title: "Social Security",
    subsystem: "social-insurance",
    services: &["insurance.v1.HealthCards"],
    protos: "insurance/v1/insurance.proto",
};
/// Where a parent files a birth.
pub const PORTAL: Agency = Agency {
    name: "portal",
    title: "National Service Portal",
    subsystem: "one-stop",
    services: &["portal.v1.OneStop"],
    protos: "portal/v1/portal.proto",
};
/// All four.
pub const AGENCIES: [Agency; 4] = [POPULATION, CIVIL, INSURANCE, PORTAL];

/// Who may call what of whom: the grants of the story.
const GRANTS: [(Agency, Agency, &[&str], &str); 7] = [
    (PORTAL, CIVIL, &["/civil.v1.Births/Register"], PURPOSE),
    (
        PORTAL,
        INSURANCE,
        &["/insurance.v1.HealthCards/IssueChildCard", "/insurance.v1.HealthCards/CheckEligibility"],
        PURPOSE,
    ),
    (CIVIL, POPULATION, &["/population.v1.People/Get", "/population.v1.People/IssueNumber"], PURPOSE),
    (INSURANCE, POPULATION, &["/population.v1.People/Get"], PURPOSE),
    (PORTAL, POPULATION, &[DISCLOSURES], OWN_DATA),
    (PORTAL, CIVIL, &[DISCLOSURES], OWN_DATA),
    (PORTAL, INSURANCE, &[DISCLOSURES], OWN_DATA),
];

impl Agency {
    /// `VN/GOV/<name>`.
    pub fn member(&self) -> MemberId {
        format!("{INSTANCE}/GOV/{}", self.name).parse().expect("the names above are of the grammar")
    }

    /// Its security server.
    pub fn server(&self) -> ServerId {
        format!("{INSTANCE}/GOV/{}/ss1", self.name).parse().expect("the names above are of the grammar")
    }

    /// Its subsystem.
    pub fn subsystem(&self) -> SubsystemId {
        format!("{INSTANCE}/GOV/{}/{}", self.name, self.subsystem).parse().expect("the names above are of the grammar")
    }
}

/// The country, running.
pub struct Country {
    /// Where everything is kept.
    pub directory: PathBuf,
    /// The central registry.
    pub registry: central_registry::Running,
    /// Security servers, in the order of [`AGENCIES`].
    pub servers: Vec<Server>,
    /// The agencies' own programs, in the order of [`AGENCIES`].
    pub agencies: Vec<Running>,
}

/// A security server of the country.
pub struct Server {
    /// Whose it is.
    pub agency: Agency,
    /// It, running.
    pub started: security_server::Started,
    /// Its configuration file.
    pub configuration: PathBuf,
}

impl Country {
    /// Makes the country where the directory is empty, and starts it.
    pub async fn start(directory: &Path, tell: &mut dyn FnMut(&str)) -> Result<Self> {
        let passphrase = passphrase(directory)?;
        let registry = start_registry(directory, &passphrase).await?;
        tell(&format!("central registry of {INSTANCE} at {}", registry.address()));
        let admin = admin(directory, &passphrase)?;
        for agency in AGENCIES {
            if !directory.join(agency.name).join(CONFIGURATION_FILE).exists() {
                enrol(directory, &admin, agency, &passphrase)
                    .await
                    .with_context(|| format!("{} joins", agency.title))?;
            }
        }
        let mut servers = Vec::new();
        for agency in AGENCIES {
            let configuration = directory.join(agency.name).join(CONFIGURATION_FILE);
            let settings = Configuration::read(&configuration)?.settings(&passphrase, Clock::system()).await?;
            let started = security_server::start(settings).await?;
            tell(&format!("{} at {}, {}", started.server.id, started.peers, agency.title));
            servers.push(Server { agency, started, configuration });
        }
        list_purposes(&admin).await?;
        let agencies = start_agencies(directory, &servers).await?;
        let country = Self { directory: directory.to_owned(), registry, servers, agencies };
        country.grant_access().await?;
        country.list_services().await?;
        tell(
            "four agencies behind them, plain gRPC programs that know nothing of the bus; services listed, access granted",
        );
        Ok(country)
    }

    /// The security server of an agency.
    pub fn server(&self, agency: Agency) -> &Server {
        let server = self.servers.iter().find(|server| server.agency == agency);
        server.expect("each of the four agencies has one")
    }

    /// The program of an agency.
    pub fn agency(&self, agency: Agency) -> &Running {
        let place = AGENCIES.iter().position(|each| *each == agency).expect("it is one of the four");
        &self.agencies[place]
    }

    /// How a system of `from` calls the services of `to`: through its own security server.
    pub fn line(&self, from: Agency, to: Agency, purpose: &str) -> Result<Peer> {
        line(self.server(from).started.clients[0], to, purpose)
    }

    /// Stops everything, in the order in which nothing is lost.
    pub async fn stop(self) {
        for agency in self.agencies {
            agency.shutdown().await;
        }
        for server in self.servers {
            server.started.shutdown().await;
        }
        self.registry.shutdown().await;
    }

    /// What an agency would list of this file.
    fn announcement(agency: Agency, protos: &str) -> Result<Announcement> {
        let directory = Path::new(PROTOS);
        let announced = compiled(&[directory.join(protos)], &[directory.to_owned()])?;
        Ok(Announcement {
            subsystem: agency.subsystem(),
            form: proto::catalogue::ServiceForm::Grpc,
            descriptors: STANDARD.encode(&announced.descriptors),
            services: announced.services.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            version: None,
            title: Some(agency.title.parse()?),
            contact: format!("{}@example.vn", agency.name).parse()?,
            open_to: BTreeSet::new(),
            deprecated: None,
        })
    }

    /// Sources before forms: a form that asks for what nobody has yet would be told nothing.
    async fn list_services(&self) -> Result<()> {
        for agency in AGENCIES {
            let server = self.server(agency);
            let known = server.started.server.store.current().load();
            let listed =
                |name: &&str| name.parse().is_ok_and(|name| known.service_at(&agency.subsystem(), &name).is_some());
            if agency.services.iter().all(listed) {
                continue;
            }
            let announcement = Self::announcement(agency, agency.protos)?;
            Operator::of(&server.configuration)?.post::<Published>("/v1/services", &announcement).await?;
        }
        Ok(())
    }

    async fn grant_access(&self) -> Result<()> {
        for (consumer, provider, methods, purpose) in GRANTS {
            let server = self.server(provider);
            let known = server.started.server.access_rights.list();
            let same = |method: &&str| {
                known.iter().any(|grant| grant.consumer == consumer.subsystem() && grant.methods.contains(*method))
            };
            if methods.iter().all(same) {
                continue;
            }
            let proposal = Proposal {
                consumer: consumer.subsystem(),
                provider: provider.subsystem(),
                methods: methods.iter().map(|method| (*method).to_owned()).collect(),
                purposes: [purpose.to_owned()].into(),
                legal_basis: match purpose {
                    OWN_DATA => "the example country's law on personal data".into(),
                    _ => "the example country's law on civil status".into(),
                },
                valid_from: None,
                valid_days: 365,
                per_second: None,
                priority: Default::default(),
                fields: Default::default(),
            };
            Operator::of(&server.configuration)?.post::<Changed>("/v1/grants", &proposal).await?;
        }
        Ok(())
    }
}

/// Random, and kept beside the keys that it opens: a sandbox has no secrets. A real server gets its passphrase from a
/// systemd credential, a file descriptor or a person.
fn passphrase(directory: &Path) -> Result<Passphrase> {
    fs::create_dir_all(directory)?;
    let path = directory.join(PASSPHRASE);
    if path.exists() {
        return Ok(Passphrase::new(fs::read_to_string(&path)?)?);
    }
    let empty = fs::read_dir(directory)?.next().is_none();
    ensure!(empty, "{} is not empty and holds no example country: give --dir another directory", directory.display());
    let passphrase = Passphrase::random();
    fs::write(&path, passphrase.reveal())?;
    Ok(passphrase)
}

async fn start_registry(directory: &Path, passphrase: &Passphrase) -> Result<central_registry::Running> {
    let (registry, clock) = (directory.join(REGISTRY), central_registry::system_clock());
    if !registry.exists() {
        let listen = free_address().await?;
        let options = central_registry::Options {
            instance: INSTANCE.parse()?,
            name: "Example country".parse()?,
            admin: "admin".parse()?,
            listen,
            address: listen.to_string().parse()?,
            others: Vec::new(),
            persons_threshold: 1,
            root_keys: 1,
            root_threshold: 1,
            unlock: Source::Prompt,
            passphrase: passphrase.clone(),
            cost: Cost::dangerously_cheap(),
        };
        let at = registry.clone();
        let made = tokio::task::spawn_blocking(move || {
            central_registry::init(&at, options, &central_registry::system_clock())
        });
        made.await??;
    }
    let configuration = central_registry::configuration::Configuration::read(&registry.join("central-registry.toml"))?;
    let settings = central_registry::Settings {
        timestamping: Vec::new(),
        directory: configuration.directory,
        listen: configuration.listen,
        public: configuration.public,
        passphrase: passphrase.clone(),
        clock,
    };
    Ok(central_registry::start(settings).await?)
}

fn admin(directory: &Path, passphrase: &Passphrase) -> Result<Admin> {
    let file = AdminFile::read(&directory.join(REGISTRY).join("admin-admin.toml"))?;
    Ok(Admin {
        instance: file.instance,
        registry: file.registry,
        fingerprint: file.fingerprint,
        key: keystore::open(&file.key, passphrase)?,
        clock: central_registry::system_clock(),
    })
}

/// The country's list: for what data may be asked.
async fn list_purposes(admin: &Admin) -> Result<()> {
    let Answer::Purposes(listed) = admin.submit(&Order::ListPurposes).await? else {
        bail!("the registry shows its list of purposes")
    };
    for (code, en, vi) in PURPOSES {
        if !listed.purposes.iter().any(|each| each.purpose == code) {
            let purpose = PurposeDocument { purpose: code.parse()?, en: en.into(), vi: vi.into() };
            admin.submit(&Order::SetPurpose(purpose)).await?;
        }
    }
    Ok(())
}

/// A member's way in: invited, asked, approved; then its own admin says where its systems and services are.
async fn enrol(directory: &Path, admin: &Admin, agency: Agency, passphrase: &Passphrase) -> Result<()> {
    let order = Order::Invite(Invitation {
        member: agency.member(),
        name: Some(agency.title.parse()?),
        server: agency.server(),
        subsystems: vec![agency.subsystem()],
        valid: Duration::from_secs(3600),
    });
    let invitation = admin.invite(&order).await?;
    let (peers, operators, clients, service) =
        (free_address().await?, free_address().await?, free_address().await?, free_address().await?);
    let options = security_server::join::Options {
        directory: directory.join(agency.name),
        registry: invitation.registry,
        fingerprint: invitation.fingerprint,
        anchor_digest: invitation.anchor_digest,
        server: agency.server(),
        address: peers.to_string().parse::<Address>()?,
        subsystems: vec![agency.subsystem()],
        token: invitation.token,
        passphrase: passphrase.clone(),
        cost: Cost::dangerously_cheap(),
        unlock: Source::Prompt,
        clock: Clock::system(),
    };
    let asked = security_server::join::ask(&options).await?;
    let request: RequestId = asked.request.parse()?;
    admin.submit(&Order::Approve(request)).await?;
    // The request is on disk: joining goes on with it.
    let joined = join(options).await?;
    complete(&joined.directory.join(CONFIGURATION_FILE), agency, peers, operators, clients, service)
}

/// What an agency's admin adds to the file that `join` wrote.
fn complete(
    file: &Path,
    agency: Agency,
    peers: SocketAddr,
    operators: SocketAddr,
    clients: SocketAddr,
    service: SocketAddr,
) -> Result<()> {
    let mut text = fs::read_to_string(file)?;
    let listen =
        |text: &str| text.lines().filter(|line| line.starts_with("listen = ")).map(str::to_owned).collect::<Vec<_>>();
    let [peers_line, operators_line] = &listen(&text)[..] else {
        bail!("join wrote two listeners into {}", file.display())
    };
    text = text.replace(peers_line.as_str(), &format!("listen = \"{peers}\""));
    text = text.replace(operators_line.as_str(), &format!("listen = \"{operators}\""));
    text += &format!("\n[[clients]]\nlisten = \"{clients}\"\nsubsystem = \"{}\"\n", agency.subsystem());
    for name in agency.services {
        text += &format!(
            "\n[[service]]\nsubsystem = \"{}\"\nname = \"{name}\"\naddress = \"http://{service}\"\n",
            agency.subsystem()
        );
    }
    // Who received what about a person, its security server answers itself.
    text += &format!(
        "\n[[service]]\nsubsystem = \"{}\"\nname = \"{}\"\naddress = \"built-in\"\n",
        agency.subsystem(),
        over_the_bus::SERVICE
    );
    fs::write(file, text)?;
    fs::write(file.with_file_name("service.address"), service.to_string())?;
    Ok(())
}

async fn start_agencies(directory: &Path, servers: &[Server]) -> Result<Vec<Running>> {
    let door = |agency: Agency| {
        let server = servers.iter().find(|server| server.agency == agency);
        server.expect("each of the four agencies has one").started.clients[0]
    };
    let mut running = Vec::new();
    for agency in AGENCIES {
        let address = fs::read_to_string(directory.join(agency.name).join("service.address"))?;
        let listener =
            TcpListener::bind(address.trim()).await.with_context(|| format!("{} at {address}", agency.title))?;
        let peer = |to: Agency| line(door(agency), to, PURPOSE);
        running.push(match agency {
            POPULATION => population_register::start(listener, Calendar::of_the_machine()).await?,
            CIVIL => {
                let peers = civil_registry::Peers { population: peer(POPULATION)? };
                civil_registry::start(listener, peers, Calendar::of_the_machine()).await?
            }
            INSURANCE => {
                let peers = social_insurance::Peers { population: peer(POPULATION)? };
                social_insurance::start(listener, peers, Calendar::of_the_machine()).await?
            }
            _ => {
                let asked = [POPULATION, CIVIL, INSURANCE]
                    .map(|to| Ok((to.title.to_owned(), line(door(agency), to, OWN_DATA)?)));
                let disclosures = asked.into_iter().collect::<Result<_>>()?;
                let peers = portal::Peers { civil: peer(CIVIL)?, insurance: peer(INSURANCE)?, disclosures };
                portal::start(listener, peers).await?
            }
        });
    }
    Ok(running)
}

/// What an agency is configured with to reach another: its own security server's door, and two fields.
fn line(door: SocketAddr, to: Agency, purpose: &str) -> Result<Peer> {
    let fields = [
        ("causeway-service".to_owned(), to.subsystem().to_string()),
        ("causeway-purpose".to_owned(), purpose.to_owned()),
    ];
    Ok(Peer::new(&format!("http://{door}"), &fields)?)
}

/// An address that is free now. It is written into a configuration file, and listened at later by whoever reads it: so
/// it is none that the system gives to outgoing connections meanwhile, and none is given out twice.
async fn free_address() -> Result<SocketAddr> {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((RandomState::new().hash_one(0) % 65_536) as u16));
    for _ in PORTS {
        let port = PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
    bail!("no port of {PORTS:?} is free on this machine: stop what listens there")
}
