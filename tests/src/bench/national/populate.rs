//! Members by the thousand, in the journal of a registry that does not run. They enter as what a restore takes up enters,
//! whole documents at once, with real certificates of the instance's own authority.

use central_registry::authority::CertificateAuthority;
use central_registry::history::History;
use central_registry::register::{Entry, Event, KeyUse};
use keystore::Passphrase;
use proto::global_configuration::Standing;
use proto::global_configuration::document::{
    Der, MAX_SUBSYSTEMS, MemberDocument, ServerDocument, SigningDocument, SubsystemDocument,
};
use proto::identifier::{InstanceId, MemberId, ServerId};
use proto::signature::SigningKey;
use proto::time::Time;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::processes::Instance;

/// What opens the registry's keys.
pub fn passphrase(instance: &Instance) -> Passphrase {
    let text = std::fs::read_to_string(instance.path("credentials/registry")).unwrap();
    Passphrase::new(text.trim_end().to_owned()).unwrap()
}

/// Enters the members, and gives their names.
pub async fn populate(instance: &Instance, passphrase: &Passphrase, members: usize, services: usize) -> Vec<MemberId> {
    assert!(members > 0 && services.div_ceil(members) <= MAX_SUBSYSTEMS, "too many services for a member");
    let directory = instance.path("registry");
    let key = |name: &str| keystore::open(&directory.join("keys").join(format!("{name}.pem")), passphrase).unwrap();
    let pem = std::fs::read(directory.join("authority.pem")).unwrap();
    let authority = Der::from(CertificateDer::from_pem_slice(&pem).unwrap().to_vec());
    let authority = CertificateAuthority::open(&authority, key("authority")).unwrap();
    let vn: InstanceId = "VN".parse().unwrap();
    let (mut history, mut register) = History::open(&directory, &vn, key("journal")).unwrap();
    let now = (central_registry::system_clock())().max(register.last());
    let mut names = Vec::with_capacity(members);
    for number in 0..members {
        let of_it = services / members + usize::from(number < services % members);
        let document = document(&authority, number, of_it, now);
        names.push(document.member.clone());
        let version = register.published();
        let event = Event::Adopted { version, member: document.member.clone(), document: Some(Box::new(document)) };
        let admitted = register.admit(Entry::of(now.as_millis(), None, event)).unwrap();
        history.record(&mut register, admitted).await.unwrap();
    }
    history.close(&register);
    names
}

/// A member with a server, and with a subsystem for each of its services.
fn document(authority: &CertificateAuthority, number: usize, services: usize, now: Time) -> MemberDocument {
    let member: MemberId = format!("VN/GOV/agency-{number:05}").parse().unwrap();
    let server: ServerId = format!("{member}/ss1").parse().unwrap();
    let certified = |for_what: KeyUse| {
        let (key, _) = SigningKey::generate();
        authority.certify(&for_what, key.public(), now).unwrap()
    };
    let subsystem = |service: usize| SubsystemDocument {
        subsystem: format!("{member}/service-{service:03}").parse().unwrap(),
        servers: vec![server.clone()],
    };
    MemberDocument {
        name: format!("Agency number {number} of the country"),
        standing: Standing::Active,
        subsystems: (0..services).map(subsystem).collect(),
        servers: vec![ServerDocument {
            server: server.clone(),
            address: format!("ss1.agency-{number:05}.gov.vn:5500"),
            authentication: vec![certified(KeyUse::Authentication { server: server.clone() })],
            maintenance: None,
        }],
        signing: vec![SigningDocument {
            server: server.clone(),
            certificate: certified(KeyUse::Signing { member: member.clone(), server }),
            until: None,
        }],
        member,
    }
}
