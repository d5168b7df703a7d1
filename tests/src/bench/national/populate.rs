//! Members by the thousand, in the journal of a registry that does not run. They enter as what a restore takes up enters,
//! whole documents at once, with real certificates of the instance's own authority; what they list, they sign.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use central_registry::authority::CertificateAuthority;
use central_registry::history::History;
use central_registry::register::{Entry, Event, KeyUse, Register};
use keystore::Passphrase;
use proto::catalogue::{ElementField, MAX_AT_ONCE, Method, Part, ReceivedEntry, Version};
use proto::digest::Digest;
use proto::global_configuration::Standing;
use proto::global_configuration::document::{
    Der, MAX_SUBSYSTEMS, MemberDocument, ServerDocument, SigningDocument, SubsystemDocument,
};
use proto::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use proto::signature::SigningKey;
use proto::time::Time;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::processes::Instance;

/// How many elements services of different members ask people for, though one is its source.
const SHARED: usize = 1_000;

/// What opens the registry's keys.
pub fn passphrase(instance: &Instance) -> Passphrase {
    let text = fs::read_to_string(instance.path("credentials/registry")).unwrap();
    Passphrase::new(text.trim_end().to_owned()).unwrap()
}

/// Enters the members, and gives their names.
pub async fn populate(instance: &Instance, passphrase: &Passphrase, members: usize, services: usize) -> Vec<MemberId> {
    assert!(members > 0 && services.div_ceil(members) <= MAX_SUBSYSTEMS, "too many services for a member");
    let mut filled = Filled::open(instance, passphrase);
    let mut names = Vec::with_capacity(members);
    for number in 0..members {
        let of_it = services / members + usize::from(number < services % members);
        names.push(filled.enter(number, of_it).await.0);
    }
    filled.close();
    names
}

/// A registry that is being filled.
pub struct Filled {
    history: History,
    register: Register,
    authority: CertificateAuthority,
    content: PathBuf,
    now: Time,
}

impl Filled {
    /// Opens what `init` made.
    pub fn open(instance: &Instance, passphrase: &Passphrase) -> Self {
        let directory = instance.path("registry");
        let key = |name: &str| keystore::open(&directory.join("keys").join(format!("{name}.pem")), passphrase).unwrap();
        let pem = fs::read(directory.join("authority.pem")).unwrap();
        let authority = Der::from(CertificateDer::from_pem_slice(&pem).unwrap().to_vec());
        let authority = CertificateAuthority::open(&authority, key("authority")).unwrap();
        let vn: InstanceId = "VN".parse().unwrap();
        let (history, register) = History::open(&directory, &vn, key("journal")).unwrap();
        let now = (central_registry::system_clock())().max(register.last());
        Self { history, register, authority, content: directory.join("public/content"), now }
    }

    /// Enters a member with a server and so many subsystems, and gives the key with which it seals.
    pub async fn enter(&mut self, number: usize, subsystems: usize) -> (MemberId, SigningKey) {
        let (document, key) = document(&self.authority, number, subsystems, self.now);
        let member = document.member.clone();
        let version = self.register.published();
        self.record(Event::Adopted { version, member: member.clone(), document: Some(Box::new(document)) }).await;
        (member, key)
    }

    /// Lists so many services of the member's first subsystem.
    pub async fn list(&mut self, member: &MemberId, number: usize, services: usize, key: &SigningKey) {
        let numbers: Vec<usize> = (0..services).collect();
        for some in numbers.chunks(MAX_AT_ONCE) {
            let signed = some.iter().map(|service| entry(member, number, *service, self.now).sign(key));
            let kept: Vec<_> = signed.map(|signed| ReceivedEntry::parse(signed).unwrap().to_bytes()).collect();
            kept.iter().for_each(|bytes| self.keep(bytes));
            self.keep(DESCRIPTORS);
            let entries = kept.iter().map(|bytes| STANDARD.encode(bytes)).collect();
            self.record(Event::Listed { entries, descriptors: None, asked: Vec::new() }).await;
        }
    }

    /// All of it is on disk.
    pub fn close(mut self) {
        self.history.close(&self.register);
    }

    async fn record(&mut self, event: Event) {
        let admitted = self.register.admit(Entry::of(self.now.as_millis(), None, event)).unwrap();
        self.history.record(&mut self.register, admitted).await.unwrap();
    }

    fn keep(&self, content: &[u8]) {
        let name = Digest::of(&[content]).to_string();
        let directory = self.content.join(&name[..2]);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), content).unwrap();
    }
}

/// Nobody reads these: no version follows one of these services.
const DESCRIPTORS: &[u8] = b"descriptors";

/// The name of a subsystem of a member.
pub fn subsystem(member: &MemberId, number: usize) -> SubsystemId {
    format!("{member}/service-{number:03}").parse().unwrap()
}

/// An element that one service is the source of, and others ask people for.
pub fn shared_element(number: usize) -> String {
    format!("agency{number:05}.fact_000")
}

/// A service that is the source of an element, takes two and asks people for one that another has.
fn entry(member: &MemberId, number: usize, service: usize, now: Time) -> proto::catalogue::Entry {
    let name = format!("agency{number:05}.v1.Service{service:03}");
    let field = |element: String, field: &str, part: Part| ElementField {
        element: element.parse().unwrap(),
        field: format!("agency{number:05}.v1.{field}{service:03}"),
        part,
        reason: (part == Part::Collects).then(|| "a bench".parse().unwrap()),
    };
    let mut elements = vec![
        field(format!("agency{number:05}.fact_{service:03}"), "Answer.fact", Part::Authoritative),
        field("person.number".to_owned(), "Question.person", Part::Takes),
        field("person.name".to_owned(), "Question.name", Part::Takes),
    ];
    if number > 0 {
        elements.push(field(shared_element(number % SHARED.min(number)), "Question.again", Part::Collects));
    }
    elements.sort();
    proto::catalogue::Entry {
        subsystem: subsystem(member, 0),
        service: name.parse().unwrap(),
        version: Version::FIRST,
        server: format!("{member}/ss1").parse().unwrap(),
        time: now,
        form: proto::catalogue::ServiceForm::Grpc,
        descriptors: Digest::of(&[DESCRIPTORS]),
        title: format!("Service {service} of agency {number}").parse().unwrap(),
        description: "Answers questions of other agencies about what this one is responsible for.".to_owned(),
        contact: format!("service@agency-{number:05}.gov.vn").parse().unwrap(),
        open_to: Default::default(),
        deprecated: None,
        methods: vec![Method {
            name: "Ask".to_owned(),
            description: "One question, one answer.".to_owned(),
            request: format!("agency{number:05}.v1.Question"),
            response: format!("agency{number:05}.v1.Answer"),
            client_streaming: false,
            server_streaming: false,
            place: None,
        }],
        elements,
        dry_run: false,
    }
}

/// A member with a server and subsystems, and the key with which it seals.
fn document(
    authority: &CertificateAuthority,
    number: usize,
    subsystems: usize,
    now: Time,
) -> (MemberDocument, SigningKey) {
    let member: MemberId = format!("VN/GOV/agency-{number:05}").parse().unwrap();
    let server: ServerId = format!("{member}/ss1").parse().unwrap();
    let certified = |for_what: KeyUse| {
        let (key, _) = SigningKey::generate();
        (authority.certify(&for_what, key.public(), now).unwrap(), key)
    };
    let (authentication, _) = certified(KeyUse::Authentication { server: server.clone() });
    let (certificate, key) = certified(KeyUse::Signing { member: member.clone(), server: server.clone() });
    let subsystem =
        |number: usize| SubsystemDocument { subsystem: subsystem(&member, number), servers: vec![server.clone()] };
    let document = MemberDocument {
        name: format!("Agency number {number} of the country"),
        standing: Standing::Active,
        subsystems: (0..subsystems).map(subsystem).collect(),
        servers: vec![ServerDocument {
            server: server.clone(),
            address: format!("ss1.agency-{number:05}.gov.vn:5500"),
            authentication: vec![authentication],
            maintenance: None,
        }],
        signing: vec![SigningDocument { server: server.clone(), certificate, until: None }],
        member,
    };
    (document, key)
}
