//! What is measured: two security servers, or two hops of a gateway, between the same load and the same service.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::process::Command;

use super::load::Door;
use crate::processes::{PURPOSE, Process, SOON, Two, reserved};

/// The two hops of each stack, by which their processes are told apart.
pub const HOPS: [&str; 2] = ["consumer", "provider"];

/// Something between the load and the service.
pub struct Stack {
    pub name: &'static str,
    pub door: Door,
    hops: [Process; 2],
    /// The operators' doors, where the hops have any.
    operators: Option<[SocketAddr; 2]>,
    _alive: Alive,
}

/// What must not go before the hops do.
#[allow(dead_code, reason = "it is held, not read")]
enum Alive {
    Servers(Box<(Two, Process)>),
    Gateways(TempDir),
}

/// What a hop has done since it started: its metrics, by name.
pub type Counts = BTreeMap<String, f64>;

impl Stack {
    /// Two security servers, joined to a registry, each a process, with everything on that is on by default.
    pub async fn causeway(service: SocketAddr) -> Self {
        let (two, [registry, consumer, provider]) = Two::before(service).await;
        let fields = vec![("causeway-service", two.moj.subsystem.clone()), ("causeway-purpose", PURPOSE.to_owned())];
        let door = Door { address: two.portal.clients, fields };
        let operators = Some([two.portal.operators, two.moj.operators]);
        let _alive = Alive::Servers(Box::new((two, registry)));
        Self { name: "causeway", door, hops: [consumer, provider], operators, _alive }
    }

    /// The stack of this name; none, and said so, where its program is not installed.
    pub async fn named(name: &str, service: SocketAddr) -> Option<Self> {
        let stack = match name {
            "causeway" => Some(Self::causeway(service).await),
            "nginx" => Self::nginx(service).await,
            "haproxy" => Self::haproxy(service).await,
            other => panic!("{other} is no stack: causeway, nginx, haproxy"),
        };
        if stack.is_none() {
            eprintln!(
                "{name} is not installed: nothing is compared with it (Debian: apt-get install nginx-light haproxy)"
            );
        }
        stack
    }

    /// Those of these that there are.
    pub async fn each(names: &[String], service: SocketAddr) -> Vec<Self> {
        let mut stacks = Vec::new();
        for name in names {
            stacks.extend(Self::named(name, service).await);
        }
        stacks
    }

    /// Two hops of nginx; none where it is not installed.
    pub async fn nginx(service: SocketAddr) -> Option<Self> {
        let program = installed(&["nginx", "/usr/sbin/nginx"])?;
        let configurations =
            [include_str!("../../bench/nginx-consumer.conf"), include_str!("../../bench/nginx-provider.conf")];
        let start = |directory: &Path, file: &str| {
            let mut command = Command::new(program);
            command.arg("-p").arg(directory).arg("-c").arg(directory.join(file)).args(["-e", "stderr"]);
            Process::start(command)
        };
        Some(Self::gateways("nginx", service, configurations, start).await)
    }

    /// Two hops of HAProxy; none where it is not installed.
    pub async fn haproxy(service: SocketAddr) -> Option<Self> {
        let program = installed(&["haproxy", "/usr/sbin/haproxy"])?;
        let configurations =
            [include_str!("../../bench/haproxy-consumer.cfg"), include_str!("../../bench/haproxy-provider.cfg")];
        let start = |directory: &Path, file: &str| {
            let mut command = Command::new(program);
            command.arg("-db").arg("-f").arg(directory.join(file)).current_dir(directory);
            Process::start(command)
        };
        Some(Self::gateways("haproxy", service, configurations, start).await)
    }

    async fn gateways(
        name: &'static str,
        service: SocketAddr,
        configurations: [&str; 2],
        start: impl Fn(&Path, &str) -> Process,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        certify(directory.path());
        let [consumer, provider] = [reserved(), reserved()];
        let cores = std::thread::available_parallelism().unwrap().to_string();
        for (hop, configuration, listen, next) in
            [(HOPS[0], configurations[0], consumer, provider), (HOPS[1], configurations[1], provider, service)]
        {
            let filled = configuration
                .replace("@LISTEN@", &listen.to_string())
                .replace("@NEXT@", &next.to_string())
                .replace("@CORES@", &cores);
            std::fs::write(directory.path().join(hop), filled).unwrap();
        }
        let mut hops = [start(directory.path(), HOPS[0]), start(directory.path(), HOPS[1])];
        for (hop, address) in hops.iter_mut().zip([consumer, provider]) {
            until_listens(hop, address).await;
        }
        let door = Door { address: consumer, fields: Vec::new() };
        Self { name, door, hops, operators: None, _alive: Alive::Gateways(directory) }
    }

    /// The first process of each hop.
    pub fn processes(&self) -> [u32; 2] {
        [self.hops[0].id(), self.hops[1].id()]
    }

    /// What the hops counted, where they do.
    pub fn counts(&self) -> Option<[Counts; 2]> {
        self.operators.map(|[consumer, provider]| [counts(consumer), counts(provider)])
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // A gateway's workers outlive one that is killed.
        for of_hop in self.processes().map(super::figures::tree) {
            let numbers = of_hop.iter().map(ToString::to_string);
            let _ = std::process::Command::new("kill").arg("-TERM").args(numbers).status();
        }
    }
}

fn installed(names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| std::process::Command::new(name).arg("-v").output().is_ok())
}

async fn until_listens(hop: &mut Process, address: SocketAddr) {
    let listens = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(ended) = hop.has_ended() {
                hop.says_that("no more is said").await;
                unreachable!("it ended with {ended}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, listens).await.unwrap();
}

/// An authority, and a certificate with its key for each hop.
fn certify(directory: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.distinguished_name.push(DnType::CommonName, "authority");
    std::fs::write(directory.join("authority.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    for hop in HOPS {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![hop.to_owned()]).unwrap();
        // A certificate of its issuer's name would be taken for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, hop);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(directory.join(format!("{hop}.pem")), certificate.pem() + &key.serialize_pem()).unwrap();
    }
}

fn counts(operators: SocketAddr) -> Counts {
    let mut stream = TcpStream::connect(operators).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nhost: {operators}\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let lines = said.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}
