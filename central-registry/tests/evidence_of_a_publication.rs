//! What the registry publishes is enough to prove, years later, who asked: the real writer's files, and nothing but the
//! anchor beside them.
// A test tells what went wrong by panicking, wherever it does so.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use central_registry::publish::{Publication, RoleKeys, Thresholds, View};
use prost::Message;
use proto::digest::Digest;
use proto::evidence::{self, EvidenceFile, Kept};
use proto::global_configuration::Standing;
use proto::global_configuration::document::{
    Der, InstanceDocument, MemberDocument, ServerDocument, SigningDocument, SubsystemDocument,
};
use proto::head::Head;
use proto::identifier::ExchangeId;
use proto::merkle;
use proto::message::{
    Commitments, ConfigurationVersion, Contents, Direction, End, Facts, Header, Opening, Operation, Route,
};
use proto::record::{Commit, Kind, Record, TreeName};
use proto::seal::Sender;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::relay as wire;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

const NOW: Time = Time::from_millis(1_795_000_000_000);

#[test]
fn a_request_is_proven_by_what_was_published() {
    let (asker, asker_pkcs8) = SigningKey::generate();
    let (publication, keys, view) = published(&asker_pkcs8);
    let kept = request(&publication, &asker);
    let file = EvidenceFile::new(exchange(), holder(), publication.files(), kept.clone()).unwrap().to_bytes();
    assert!(file.len() < 200_000, "{} bytes", file.len());
    let report = evidence::verify(&file, publication.anchor()).unwrap();
    assert!(report.holds(), "{:?}", report.refused());
    assert!(report.proven[0].contains("VN/GOV/portal/one-stop asked VN/GOV/moj/civil-registry"), "{:?}", report.proven);

    // A later version proves it as well, as long as the key is listed and not revoked.
    let later = NOW.plus(std::time::Duration::from_secs(3600));
    let (next, _) = publication.re_signed(&keys, later).unwrap();
    let file = EvidenceFile::new(exchange(), holder(), next.files(), kept.clone()).unwrap().to_bytes();
    assert!(evidence::verify(&file, publication.anchor()).unwrap().holds());
    let view = View { revoked: vec![asker.public().id().into()], ..view };
    let (revoked, _) = publication.next(&keys, &view, later).unwrap();
    let file = EvidenceFile::new(exchange(), holder(), revoked.files(), kept).unwrap().to_bytes();
    assert_eq!(evidence::verify(&file, publication.anchor()).unwrap().refused().unwrap().step, "5.4.6");
}

fn published(asker: &[u8]) -> (Publication, RoleKeys, View) {
    let keys = RoleKeys {
        root: one_key(),
        targets: one_key(),
        members: one_key(),
        catalogue: one_key(),
        revoked: one_key(),
        snapshot: one_key(),
        timestamp: one_key(),
    };
    let fresh = || SigningKey::generate().1;
    let instance = InstanceDocument {
        instance: "VN".parse().unwrap(),
        name: "Vietnam".into(),
        authorities: vec![certificate(&fresh())],
        timestamping: Vec::new(),
        purposes: Vec::new(),
    };
    let members = vec![member("VN/GOV/portal", "one-stop", asker), member("VN/GOV/moj", "civil-registry", &fresh())];
    let view = View { instance, members, revoked: Vec::new(), catalogue: Vec::new() };
    let publication = Publication::first(&keys, &Thresholds::SANDBOX, &view, NOW).unwrap();
    (publication, keys, view)
}

fn one_key() -> Vec<SigningKey> {
    vec![SigningKey::generate().0]
}

fn member(member: &str, system: &str, signing: &[u8]) -> MemberDocument {
    let server: proto::identifier::ServerId = format!("{member}/ss1").parse().unwrap();
    let authentication = vec![certificate(&SigningKey::generate().1)];
    MemberDocument {
        member: member.parse().unwrap(),
        name: member.into(),
        standing: Standing::Active,
        subsystems: vec![SubsystemDocument {
            subsystem: format!("{member}/{system}").parse().unwrap(),
            servers: vec![server.clone()],
        }],
        servers: vec![ServerDocument {
            server: server.clone(),
            address: "127.0.0.1:5500".into(),
            authentication,
            maintenance: None,
        }],
        signing: vec![SigningDocument { server, certificate: certificate(signing), until: None }],
    }
}

fn certificate(pkcs8: &[u8]) -> Der {
    let mut wanted = CertificateParams::default();
    (wanted.not_before, wanted.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2028, 1, 1));
    wanted.self_signed(&KeyPair::try_from(pkcs8).unwrap()).unwrap().der().to_vec().into()
}

fn exchange() -> ExchangeId {
    ExchangeId::from_bytes([7; 16])
}

fn holder() -> Sender {
    Sender { member: "VN/GOV/portal".parse().unwrap(), server: "VN/GOV/portal/ss1".parse().unwrap() }
}

/// A request in one message, in a log of two commits.
fn request(publication: &Publication, key: &SigningKey) -> Vec<Kept> {
    let contents = Contents { metadata: Some(Vec::new()), pieces: vec![Bytes::from_static(b"x")], trailers: None };
    let committed = Commitments::default().commit(&contents, || proto::commitment::Secret::from_bytes([9; 32]));
    let configuration = publication.trusted().configuration();
    let header = Header::new(Facts {
        route: Route {
            instance: "VN".parse().unwrap(),
            consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
            consumer_server: "VN/GOV/portal/ss1".parse().unwrap(),
            provider: "VN/GOV/moj/civil-registry".parse().unwrap(),
            provider_server: "VN/GOV/moj/ss1".parse().unwrap(),
            operation: Operation::Grpc("/civil.v1.Births/Register".parse().unwrap()),
        },
        exchange: exchange(),
        attempt: 1,
        direction: Direction::Request,
        position: 0,
        time: NOW,
        configuration: ConfigurationVersion { version: configuration.version, digest: configuration.digest },
        opening: Some(Opening { purpose: "birth-registration".into(), ..Opening::default() }),
        answer: None,
        previous: None,
        metadata: committed.metadata,
        pieces: committed.pieces,
        end: Some(End::HalfClose),
        removed: None,
    });
    let owner = wire::Genesis {
        instance: "VN".into(),
        member: "VN/GOV/portal".into(),
        server: "VN/GOV/portal/ss1".into(),
        random: vec![3; 32].into(),
        why: wire::Why::First as i32,
        ..Default::default()
    };
    let genesis = Record::new(Kind::Genesis, &[1; 16], &[&owner.encode_to_vec()]);
    let record = Record::new(Kind::Sent, &[2; 16], &[header.as_bytes()]);
    let leaves: Vec<Digest> = [&genesis, &record].map(|record| Commit::of(&[record.hash()]).hash()).to_vec();
    let head = Head { tree: TreeName::of(&genesis), size: 2, root: merkle::root(&leaves) }.to_text();
    let seal = wire::Seal {
        nonce: vec![2; 16].into(),
        record: 0,
        records: 1,
        record_path: Vec::new(),
        commit: 1,
        commit_path: merkle::path(&leaves, 1).iter().map(Digest::to_wire).collect(),
        key: key.public().id().to_wire(),
        signature: key.sign(head.as_bytes()).into(),
        head: head.into_bytes().into(),
    };
    vec![Kept::new(&header, &seal, genesis.as_bytes().clone(), committed.payload.as_ref())]
}
