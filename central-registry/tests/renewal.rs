//! What a registered server asks for itself, and what it does not get.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

#[allow(dead_code, reason = "an office does more than renew")]
#[path = "registration/office.rs"]
mod office;

use std::time::Duration;

use prost::Message;
use proto::certificate::{Authentication, Authority, Signing};
use proto::registration::{Order, Revocation};
use proto::server_request::{ServerRequest, Wish};
use proto::signature::{SigningKey, purpose};
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use proto::wire::registry::server_request::What;
use registry_client::RegistrationClient;
use tonic::{Code, Status};

use office::{Applicant, Office};

const MOJ: &str = "VN/GOV/moj";
const SERVER: &str = "VN/GOV/moj/ss1";

const HOUR: Duration = Duration::from_secs(3600);

/// A server that joined, and its keys.
async fn registered(office: &Office) -> Applicant {
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let applicant = Applicant::new(&invited.token);
    office.apply(applicant.request()).await.unwrap();
    office.approve("R-1").await;
    applicant
}

fn request(office: &Office, wish: Wish) -> ServerRequest {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).unwrap();
    ServerRequest {
        instance: "VN".parse().unwrap(),
        server: SERVER.parse().unwrap(),
        id,
        time: (office.admin.clock)(),
        wish,
    }
}

fn authentication(key: &SigningKey) -> Wish {
    Wish::RenewAuthentication(key.public().clone())
}

fn signing(key: &SigningKey) -> Wish {
    Wish::RenewSigning(MOJ.parse().unwrap(), key.public().clone())
}

async fn ask(office: &Office, request: wire::SignedServerRequest) -> Result<wire::ServerAnswer, Status> {
    RegistrationClient::new(office.channel().await).ask(request).await.map(tonic::Response::into_inner)
}

async fn renew(office: &Office, wish: Wish, by: &SigningKey, new: &SigningKey) -> Result<wire::ServerAnswer, Status> {
    ask(office, request(office, wish).sign(by, Some(new))).await
}

/// The member's keys as everybody is told of them: for TLS, and for seals with their ends.
async fn listed(office: &Office) -> (Vec<Vec<u8>>, Vec<(Vec<u8>, u64)>) {
    let (_, Answer::Members(members)) = office.seen().await else { panic!("members were asked for") };
    let member = &members.members[0];
    let authentication = member.servers[0].authentication.iter().map(|key| key.key.to_vec()).collect();
    (authentication, member.signing.iter().map(|key| (key.key.to_vec(), key.until)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_key_is_certified_and_published_beside_the_one_before() {
    let office = Office::open().await;
    let server = registered(&office).await;
    let ((new, _), (new_signing, _)) = (SigningKey::generate(), SigningKey::generate());
    let answer = renew(&office, authentication(&new), &server.authentication, &new).await.unwrap();
    assert_eq!(answer.version, office.running.version());
    let read = Authentication::parse(&answer.certificate).unwrap();
    assert_eq!((read.server.as_str(), &read.key), (SERVER, new.public()));
    assert_eq!(read.not_after, (office.admin.clock)().plus(7 * 24 * HOUR));
    let answer = renew(&office, signing(&new_signing), &server.signing, &new_signing).await.unwrap();
    let read = Signing::parse(&answer.certificate).unwrap();
    assert_eq!((read.member.as_str(), read.server.as_str(), &read.key), (MOJ, SERVER, new_signing.public()));

    let id = |key: &SigningKey| key.public().id().to_wire().to_vec();
    let replaced = (office.admin.clock)().plus(97 * HOUR).as_millis();
    let expected =
        (vec![id(&server.authentication), id(&new)], vec![(id(&server.signing), replaced), (id(&new_signing), 0)]);
    assert_eq!(listed(&office).await, expected);
    let office = office.restarted(|_| {}).await;
    assert_eq!(listed(&office).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_given_again_however_late_and_by_whichever_key_it_is_asked() {
    let office = Office::open().await;
    let server = registered(&office).await;
    let ((new, _), (other, _)) = (SigningKey::generate(), SigningKey::generate());
    let asked = request(&office, authentication(&new)).sign(&server.authentication, Some(&new));
    let first = ask(&office, asked.clone()).await.unwrap();
    let version = office.running.version();
    assert_eq!(ask(&office, asked).await.unwrap().certificate, first.certificate);
    office.pass(40 * 24 * HOUR);
    let again = renew(&office, authentication(&new), &server.authentication, &new).await.unwrap();
    assert_eq!((again.certificate, again.version), (first.certificate, 0));
    assert_eq!(office.running.version(), version, "nothing was published for it");
    // Who does not hold the new key gets nothing, and nobody learns its certificate by naming another use of it.
    let status = renew(&office, authentication(&new), &server.authentication, &other).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{}", status.message());
    let status = renew(&office, signing(&new), &server.signing, &new).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_key_of_the_server_and_of_that_use_renews() {
    let office = Office::open().await;
    let server = registered(&office).await;
    let invited = office.invite("VN/GOV/tax", "VN/GOV/tax/ss1", &[]).await;
    let mut tax = Applicant::new(&invited.token);
    tax.application.member = "VN/GOV/tax".parse().unwrap();
    tax.application.server = "VN/GOV/tax/ss1".parse().unwrap();
    office.apply(tax.request()).await.unwrap();
    office.approve("R-2").await;
    let ((new, _), (stranger, _)) = (SigningKey::generate(), SigningKey::generate());
    for (wish, by) in [
        (authentication(&new), &stranger),
        (authentication(&new), &server.signing),
        (authentication(&new), &tax.authentication),
        (authentication(&new), &office.admin.key),
        (signing(&new), &stranger),
        (signing(&new), &server.authentication),
        (signing(&new), &tax.signing),
        (Wish::RenewSigning("VN/GOV/tax".parse().unwrap(), new.public().clone()), &server.signing),
        (Wish::RenewSigning("VN/GOV/tax".parse().unwrap(), new.public().clone()), &tax.signing),
    ] {
        let status = renew(&office, wish.clone(), by, &new).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{wish:?}: {}", status.message());
    }
    // The name of a good key alone is nobody's word.
    let mut named = request(&office, authentication(&new)).sign(&stranger, Some(&new));
    named.key = server.authentication.public().id().to_wire();
    let status = ask(&office, named).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{}", status.message());
    let nowhere = ServerRequest { server: "VN/GOV/moj/ss9".parse().unwrap(), ..request(&office, authentication(&new)) };
    let status = ask(&office, nowhere.sign(&server.authentication, Some(&new))).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("did you mean VN/GOV/moj/ss1"), "{}", status.message());

    // A key that is somebody's already is nobody's new one.
    for (taken, by) in [(&tax.authentication, &server.authentication), (&office.admin.key, &server.authentication)] {
        let status = renew(&office, authentication(taken), by, taken).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{}", status.message());
    }
    let key = server.authentication.public().id();
    let stolen = Revocation { key, reason: "stolen".parse().unwrap(), last_head: None };
    office.admin.submit(&Order::Revoke(stolen)).await.unwrap();
    let status = renew(&office, authentication(&new), &server.authentication, &new).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("invitation to replace"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_carried_out_once_and_while_it_is_fresh() {
    let office = Office::open().await;
    let server = registered(&office).await;
    let ((new, _), (newer, _)) = (SigningKey::generate(), SigningKey::generate());
    let asked = request(&office, authentication(&new));
    ask(&office, asked.sign(&server.authentication, Some(&new))).await.unwrap();
    let repeated = ServerRequest { wish: authentication(&newer), ..asked.clone() };
    let status = ask(&office, repeated.sign(&server.authentication, Some(&newer))).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{}", status.message());
    let old = ServerRequest { id: [9; 16], time: asked.time.minus(Duration::from_secs(61)), ..repeated };
    let status = ask(&office, old.sign(&server.authentication, Some(&newer))).await.unwrap_err();
    assert!(status.message().contains("set the clock"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ended_asks_for_thirty_days_more_and_a_replaced_key_for_none() {
    let office = Office::open().await;
    let server = registered(&office).await;
    let ((new, _), (new_signing, _), (other, _)) =
        (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
    renew(&office, signing(&new_signing), &server.signing, &new_signing).await.unwrap();
    office.pass(97 * HOUR + Duration::from_millis(1));
    let status = renew(&office, signing(&other), &server.signing, &other).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{}", status.message());
    renew(&office, signing(&other), &new_signing, &other).await.unwrap();

    office.pass((7 + 30) * 24 * HOUR - 97 * HOUR - Duration::from_millis(1));
    renew(&office, authentication(&new), &server.authentication, &new).await.unwrap();
    let (listed, _) = listed(&office).await;
    assert_eq!(listed, [new.public().id().to_wire().to_vec()], "the one that ended is gone with it");
    office.pass((7 + 30) * 24 * HOUR + Duration::from_secs(1));
    let (late, _) = SigningKey::generate();
    let status = renew(&office, authentication(&late), &new, &late).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_so_many_keys_at_a_time_and_no_more() {
    let office = Office::open().await;
    let server = registered(&office).await;
    for (wish, by, most) in [
        (authentication as fn(&SigningKey) -> Wish, &server.authentication, 12),
        (signing as fn(&SigningKey) -> Wish, &server.signing, 4),
    ] {
        for _ in 1..most {
            let (new, _) = SigningKey::generate();
            renew(&office, wish(&new), by, &new).await.unwrap();
        }
        let (new, _) = SigningKey::generate();
        let status = renew(&office, wish(&new), by, &new).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("good keys already"), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_request_gives_its_certificate_no_power_and_no_name() {
    let office = Office::open().await;
    let server = registered(&office).await;
    let (new, _) = SigningKey::generate();
    // What a request for a certificate brings elsewhere: powers, names, usages, and the word of whoever signed it.
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut powers = rcgen::CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
    powers.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    powers.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    powers.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Any];
    let wider = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let keys = [
        ("a request with powers", powers.serialize_request(&pair).unwrap().der().to_vec()),
        ("an authority's certificate", powers.self_signed(&pair).unwrap().der().to_vec()),
        ("a key and something after it", [&new.public().to_spki()[..], b"CA:TRUE"].concat()),
        ("a key of another kind", rcgen::PublicKeyData::subject_public_key_info(&wider)),
        ("no key", Vec::new()),
    ];
    for (what, key) in keys {
        for wish in [authentication(&new), signing(&new)] {
            let (by, honest) = match &wish {
                Wish::RenewAuthentication(_) => (&server.authentication, request(&office, wish)),
                _ => (&server.signing, request(&office, wish)),
            };
            let mut forged: wire::ServerRequest = Message::decode(&honest.sign(by, None).request[..]).unwrap();
            match forged.what.as_mut().unwrap() {
                What::RenewAuthentication(renew) => renew.key = key.clone().into(),
                What::RenewSigning(renew) => renew.key = key.clone().into(),
                other => panic!("it brings no key: {other:?}"),
            }
            let status = ask(&office, signed(forged.encode_to_vec(), by, &new)).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {}", status.message());
            assert!(status.message().contains("SubjectPublicKeyInfo"), "{what}: {}", status.message());
        }
    }
    // Nor is there a field to ask for more in, now or for a reader of a later day.
    let honest = request(&office, authentication(&new)).sign(&server.authentication, None).request;
    let more = [&honest[..], &[0x78, 1]].concat();
    let status = ask(&office, signed(more, &server.authentication, &new)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());

    // What is issued is of its profile and no other, and its names are the register's.
    let answer = renew(&office, authentication(&new), &server.authentication, &new).await.unwrap();
    assert_eq!(Authentication::parse(&answer.certificate).unwrap().server.as_str(), SERVER);
    assert!(Signing::parse(&answer.certificate).is_err() && Authority::parse(&answer.certificate).is_err());
    let (new, _) = SigningKey::generate();
    let answer = renew(&office, signing(&new), &server.signing, &new).await.unwrap();
    let read = Signing::parse(&answer.certificate).unwrap();
    assert_eq!((read.member.as_str(), read.server.as_str()), (MOJ, SERVER));
    assert!(Authentication::parse(&answer.certificate).is_err() && Authority::parse(&answer.certificate).is_err());
}

/// Any bytes, signed by both keys as a request is.
fn signed(request: Vec<u8>, by: &SigningKey, new: &SigningKey) -> wire::SignedServerRequest {
    let bytes = [purpose::SERVER.as_bytes(), &request].concat();
    wire::SignedServerRequest {
        key: by.public().id().to_wire(),
        signature: by.sign(&bytes).into(),
        proof: new.sign(&bytes).into(),
        request: request.into(),
    }
}
