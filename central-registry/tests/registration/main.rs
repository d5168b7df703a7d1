//! The promises of the registry about who becomes a member and how everybody learns of it, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

mod office;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use central_registry::{StartError, start};
use office::{Applicant, Office, invitation, refusal};
use proto::digest::Digest;
use proto::global_configuration::update::{Anchor, Files, update};
use proto::oversight::GrantsWanted;
use proto::registration::{Order, sign_command, sign_dry_run};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::command_result::Result as Answer;
use proto::wire::registry::{JoinRequest, JoinStatusRequest, SignedCommand, Version};
use registry_client::{AdministrationClient, Fingerprint, NoConnection, RegistrationClient, connect};
use security_server::global_configuration::Store;
use security_server::join::{self, JoinError};
use security_server::keys::Keys;
use tonic::Code;

const MOJ: &str = "VN/GOV/moj";
const SERVER: &str = "VN/GOV/moj/ss1";
const REGISTRY_OF_BIRTHS: &str = "VN/GOV/moj/civil-registry";

fn files(version: Version) -> Files {
    version.files.into_iter().map(|file| (file.name, file.content)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_joins_and_a_watcher_learns_of_it_as_it_is_published() {
    let office = Office::open().await;
    let mut watch = office.watch(0).await;
    let first = watch.message().await.unwrap().unwrap();
    let now = Time::from_millis(office.time.load(std::sync::atomic::Ordering::SeqCst));
    let first = Anchor::read(office.running.anchor().to_vec().into()).unwrap().first(&files(first), now).unwrap();
    assert!(first.configuration().members.is_empty());

    let invited = office.invite(MOJ, SERVER, &[REGISTRY_OF_BIRTHS]).await;
    let options = office.joining("ss1", &invited, SERVER);
    let asked = join::ask(&options).await.unwrap();
    assert_eq!(asked.request, "R-1");
    let version = office.approve("R-1").await;

    // The clock was held all the time and nobody asked again: the version came by itself, and only what changed of it.
    let pushed = watch.message().await.unwrap().unwrap();
    assert_eq!(pushed.version, version);
    assert!(pushed.files.len() < 10, "{} files", pushed.files.len());
    let second = update(&first, &files(pushed), now).unwrap();
    let configuration = second.configuration();
    let member = configuration.active_member(&MOJ.parse().unwrap()).unwrap();
    assert_eq!(member.name, "An agency");
    assert!(configuration.hosts(&SERVER.parse().unwrap(), &REGISTRY_OF_BIRTHS.parse().unwrap()));

    // What the server wrote is what everybody was told.
    let joined = asked.wait(&options).await.unwrap();
    assert_eq!(joined.subsystems, [REGISTRY_OF_BIRTHS.parse().unwrap()]);
    let store = Store::open(&joined.directory.join(join::GLOBAL_CONFIGURATION)).unwrap();
    assert_eq!(store.current().load().version, version);
    let keys = Keys::open(&joined.directory, &office.passphrase).unwrap();
    let signing = keys.signing.public().id();
    let (id, server) = (MOJ.parse().unwrap(), SERVER.parse().unwrap());
    assert!(configuration.signing_key(&id, &server, &signing, now).is_some());
    let authentication = SigningKey::from_pkcs8(&keys.authentication).unwrap().public().id();
    assert_eq!(configuration.authenticated(&authentication), Some(&server));
    let text = fs::read_to_string(joined.directory.join(join::CONFIGURATION_FILE)).unwrap();
    let parsed: toml::Table = text.parse().unwrap();
    assert_eq!(parsed["server"].as_str(), Some(SERVER));
    assert!(!joined.directory.join("join.json").exists(), "the token is not kept");
    assert!(matches!(join::join(options).await, Err(JoinError::AlreadyJoined(_))));
    office.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_admin_went_away_goes_on_where_it_was() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let options = office.joining("ss1", &invited, SERVER);
    let asked = join::ask(&options).await.unwrap();
    let again = join::ask(&options).await.unwrap();
    assert_eq!(asked.request, again.request);
    office.approve("R-1").await;
    // As after a crash in the middle of writing: half a configuration lies there.
    fs::create_dir_all(options.directory.join(join::GLOBAL_CONFIGURATION)).unwrap();
    fs::write(options.directory.join(join::GLOBAL_CONFIGURATION).join("anchor.json"), "{").unwrap();
    let joined = join::join(options).await.unwrap();
    assert!(Store::open(&joined.directory.join(join::GLOBAL_CONFIGURATION)).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_applicant_reads_the_reason() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let options = office.joining("ss1", &invited, SERVER);
    let asked = join::ask(&options).await.unwrap();
    let waiting = tokio::spawn({
        let options = options.clone();
        async move { asked.wait(&options).await }
    });
    let reason = "the ministry's letter is missing";
    office.admin.submit(&Order::Reject("R-1".parse().unwrap(), reason.parse().unwrap())).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(&error, JoinError::Rejected { reason: said, .. } if said == reason), "{error}");
    assert_eq!(error.exit().code(), 3);
    let (code, why) = refusal(office.admin.submit(&Order::Approve("R-1".parse().unwrap())).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(why.contains("rejected already"), "{why}");

    // With a new token the same server may try again, in the same directory.
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let options = office.joining("ss1", &invited, SERVER);
    assert_eq!(join::ask(&options).await.unwrap().request, "R-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_server_tries_again_with_another_token() {
    let office = Office::open().await;
    let late = office.invite(MOJ, SERVER, &[]).await;
    office.pass(Duration::from_secs(3600));
    let error = join::ask(&office.joining("ss1", &late, SERVER)).await.unwrap_err();
    assert!(error.to_string().contains("ask the registry for a new one"), "{error}");
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let mut elsewhere = office.joining("ss1", &invited, SERVER);
    elsewhere.address = "ss1.moj.example:5500".parse().unwrap();
    assert_eq!(join::ask(&elsewhere).await.unwrap().request, "R-1");
    // Now that one waits, another server's request has no place in this directory.
    let other = office.joining("ss1", &invited, "VN/GOV/moj/ss2");
    assert!(matches!(join::ask(&other).await, Err(JoinError::OtherRequest { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_once_however_many_come_at_once() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let channel = office.channel().await;
    let tries = (0..12).map(|_| {
        let (channel, request) = (channel.clone(), Applicant::new(&invited.token).request());
        tokio::spawn(async move { RegistrationClient::new(channel).join(request).await })
    });
    let mut good = 0;
    for outcome in futures_util::future::join_all(tries).await {
        match outcome.unwrap() {
            Ok(_) => good += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::PermissionDenied);
                assert!(status.message().contains("used already"), "{}", status.message());
            }
        }
    }
    assert_eq!(good, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_or_never_was_is_refused() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let applicant = Applicant::new(&invited.token);
    office.pass(Duration::from_secs(3600));
    let status = office.apply(applicant.request()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("expired"), "{}", status.message());
    let stranger = Applicant::new(&proto::registration::Token::from_bytes([9; 32]));
    let status = office.apply(stranger.request()).await.unwrap_err();
    assert!(status.message().contains("not known"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applicant_without_the_keys_or_with_others_is_refused() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let applicant = Applicant::new(&invited.token);
    let (other, _) = SigningKey::generate();
    for request in [
        applicant.application.sign(&other, &applicant.signing),
        applicant.application.sign(&applicant.authentication, &other),
        applicant.application.sign(&applicant.signing, &applicant.authentication),
    ] {
        let status = office.apply(request).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{}", status.message());
        assert!(status.message().contains("proof of possession"), "{}", status.message());
    }
    // Nor may one key do the work of both: who authenticates connections would sign in the member's name.
    let mut one_key = Applicant::new(&invited.token);
    one_key.application.signing_key = one_key.application.authentication_key.clone();
    let request = one_key.application.sign(&one_key.authentication, &one_key.authentication);
    let status = office.apply(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    // None of these used the token up.
    office.apply(applicant.request()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_for_a_members_own_server_and_subsystems() {
    let office = Office::open().await;
    for (server, subsystems) in
        [("VN/GOV/tax/ss1", &[][..]), (SERVER, &["VN/GOV/tax/returns"]), ("LA/GOV/moj/ss1", &[])]
    {
        let (code, why) = refusal(office.admin.submit(&invitation(MOJ, Some("An agency"), server, subsystems)).await);
        assert_eq!(code, Code::InvalidArgument, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applicant_gets_no_more_than_it_was_invited_to() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[REGISTRY_OF_BIRTHS]).await;
    type Change = fn(&mut Applicant);
    let changes: [(&str, Change); 5] = [
        ("another server", |it| it.application.server = "VN/GOV/moj/ss2".parse().unwrap()),
        ("another member", |it| {
            it.application.member = "VN/GOV/tax".parse().unwrap();
            it.application.server = "VN/GOV/tax/ss1".parse().unwrap();
        }),
        ("another member's server", |it| it.application.server = "VN/GOV/tax/ss1".parse().unwrap()),
        ("another subsystem", |it| it.application.subsystems = vec!["VN/GOV/moj/secrets".parse().unwrap()]),
        ("another instance", |it| it.application.instance = "LA".parse().unwrap()),
    ];
    for (what, change) in changes {
        let mut applicant = Applicant::new(&invited.token);
        change(&mut applicant);
        let status = office.apply(applicant.request()).await.unwrap_err();
        assert!(matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument), "{what}: {status:?}");
    }
    // A certificate request, with whatever powers it asks for, is no public key.
    let applicant = Applicant::new(&invited.token);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut asked = rcgen::CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
    asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = asked.serialize_request(&key).unwrap();
    let mut request = applicant.request();
    let mut application: proto::wire::registry::Application = prost::Message::decode(request.application).unwrap();
    application.signing_key = csr.der().to_vec().into();
    request.application = prost::Message::encode_to_vec(&application).into();
    let status = office.apply(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("SubjectPublicKeyInfo"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_one_use_and_a_server_one_registration() {
    let office = Office::open().await;
    let first = office.invite(MOJ, SERVER, &[]).await;
    let second = office.invite(MOJ, "VN/GOV/moj/ss2", &[]).await;
    let same_server = office.invite(MOJ, SERVER, &[]).await;
    let applicant = Applicant::new(&first.token);
    office.apply(applicant.request()).await.unwrap();

    let mut again = Applicant::new(&second.token);
    again.application.server = "VN/GOV/moj/ss2".parse().unwrap();
    again.application.signing_key = applicant.application.signing_key.clone();
    again.signing = applicant.signing;
    let status = office.apply(again.request()).await.unwrap_err();
    assert!(status.message().contains("a key has one use"), "{}", status.message());

    let status = office.apply(Applicant::new(&same_server.token).request()).await.unwrap_err();
    assert!(status.message().contains("R-1"), "{}", status.message());
    office.approve("R-1").await;
    let status = office.apply(Applicant::new(&same_server.token).request()).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{}", status.message());
    let (code, _) = refusal(office.admin.submit(&invitation(MOJ, None, SERVER, &[])).await);
    assert_eq!(code, Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_of_a_member_hosts_the_same_subsystem() {
    let office = Office::open().await;
    for (number, server) in [(1, SERVER), (2, "VN/GOV/moj/ss2")] {
        let invited = office.invite(MOJ, server, &[REGISTRY_OF_BIRTHS]).await;
        let mut applicant = Applicant::new(&invited.token);
        applicant.application.server = server.parse().unwrap();
        office.apply(applicant.request()).await.unwrap();
        office.approve(&format!("R-{number}")).await;
    }
    let (_, Answer::Members(members)) = office.seen().await else { panic!("members were asked for") };
    let member = &members.members[0];
    assert_eq!((member.servers.len(), member.subsystems.len()), (2, 1));
    assert_eq!(member.subsystems[0].servers, [SERVER, "VN/GOV/moj/ss2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admins_own_fresh_command_is_carried_out() {
    let office = Office::open().await;
    let instance = office.admin.instance.clone();
    let now = (office.admin.clock)();
    let order = Order::ListMembers;
    let channel = office.channel().await;
    let submit = |command: SignedCommand| {
        let mut client = AdministrationClient::new(channel.clone());
        async move {
            client.submit(command).await.map(|_| ()).map_err(|status| (status.code(), status.message().to_owned()))
        }
    };
    let good = sign_command(&order, &instance, [1; 16], now, &office.admin.key);
    let (foreign, _) = SigningKey::generate();
    let of_a_stranger = sign_command(&order, &instance, [2; 16], now, &foreign);
    let mut unsigned = sign_command(&order, &instance, [3; 16], now, &office.admin.key);
    unsigned.signature = Vec::new().into();
    let mut borrowed = sign_command(&order, &instance, [4; 16], now, &foreign);
    borrowed.key = office.admin.key.public().id().to_wire();
    let mut exchanged = sign_command(&order, &instance, [5; 16], now, &office.admin.key);
    exchanged.command = sign_command(&Order::ListRequests, &instance, [5; 16], now, &office.admin.key).command;
    for command in [of_a_stranger, unsigned, borrowed, exchanged] {
        assert_eq!(submit(command).await.unwrap_err().0, Code::Unauthenticated);
    }
    let elsewhere = sign_command(&order, &"LA".parse().unwrap(), [6; 16], now, &office.admin.key);
    assert_eq!(submit(elsewhere).await.unwrap_err().0, Code::InvalidArgument);
    let old = sign_command(&order, &instance, [7; 16], now.minus(Duration::from_secs(61)), &office.admin.key);
    assert_eq!(submit(old).await.unwrap_err().0, Code::Unauthenticated);
    for malformed in [SignedCommand::default(), SignedCommand { command: vec![0xff; 40].into(), ..good.clone() }] {
        assert_eq!(submit(malformed).await.unwrap_err().0, Code::InvalidArgument);
    }

    // Once, what only reads as well: nobody shows another what an admin asked to see.
    let grants = Order::ListGrants(GrantsWanted::default());
    let reading = [Order::ListMembers, Order::ListRequests, Order::ListProposals, Order::ListPurposes, grants];
    for (number, order) in (8..).zip(reading) {
        let good = sign_command(&order, &instance, [number; 16], now, &office.admin.key);
        submit(good.clone()).await.unwrap();
        let (code, reason) = submit(good).await.unwrap_err();
        assert_eq!(code, Code::AlreadyExists, "{order:?}");
        assert!(reason.contains("sign a new one"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_restarted_remembers() {
    let office = Office::open().await;
    let first = office.invite(MOJ, SERVER, &[REGISTRY_OF_BIRTHS]).await;
    let waiting = office.invite("VN/GOV/tax", "VN/GOV/tax/ss1", &[]).await;
    let applicant = Applicant::new(&first.token);
    let receipt = office.apply(applicant.request()).await.unwrap();
    office.approve("R-1").await;
    let order = invitation("VN/GOV/mps", Some("Public security"), "VN/GOV/mps/ss1", &[]);
    let now = (office.admin.clock)();
    let command = sign_command(&order, &office.admin.instance, [8; 16], now, &office.admin.key);
    AdministrationClient::new(office.channel().await).submit(command.clone()).await.unwrap();
    let (seen, version) = (office.seen().await, office.running.version());

    let office = office.restarted(|_| {}).await;
    assert_eq!(office.seen().await, seen);
    assert!(office.running.version() > version, "no version is published twice");
    let status = office.apply(Applicant::new(&first.token).request()).await.unwrap_err();
    assert!(status.message().contains("used already"), "{}", status.message());
    assert_eq!(office.apply(applicant.request()).await.unwrap(), receipt, "the same request gets the same answer");
    let replayed = AdministrationClient::new(office.channel().await).submit(command).await.unwrap_err();
    assert_eq!(replayed.code(), Code::AlreadyExists);
    let mut tax = Applicant::new(&waiting.token);
    tax.application.member = "VN/GOV/tax".parse().unwrap();
    tax.application.server = "VN/GOV/tax/ss1".parse().unwrap();
    assert_eq!(office.apply(tax.request()).await.unwrap().request, "R-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_lost_spoiled_or_ahead_is_built_again() {
    let mut office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    office.apply(Applicant::new(&invited.token).request()).await.unwrap();
    office.approve("R-1").await;
    let seen = office.seen().await;

    office = office.restarted(|directory| fs::remove_dir_all(directory.join("view")).unwrap()).await;
    assert_eq!(office.seen().await, seen);

    office =
        office.restarted(|directory| fs::write(directory.join("view/conf"), b"no parameters of sled's").unwrap()).await;
    assert_eq!(office.seen().await, seen);

    let spoil = |directory: &std::path::Path, bytes: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let view = sled::open(directory.join("view")).unwrap();
        let before = view.get("register").unwrap().unwrap().to_vec();
        view.insert("register", bytes(before)).unwrap();
        view.flush().unwrap();
    };
    office = office.restarted(|directory| spoil(directory, &|_| b"{".to_vec())).await;
    assert_eq!(office.seen().await, seen);

    // Ahead: it stands at an entry that the journal does not have.
    let ahead = |bytes: Vec<u8>| {
        let mut saved: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        saved["position"] = "ffffffffffffffffffffffffffffffffffffffff".into();
        saved["register"]["members"] = serde_json::json!({});
        serde_json::to_vec(&saved).unwrap()
    };
    office = office.restarted(|directory| spoil(directory, &ahead)).await;
    assert_eq!(office.seen().await, seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_given_to_somebody_is_never_signed_again() {
    let office = Office::open().await;
    let copy = office.directory.path().join("copy");
    let public = office.path().join("public");
    copy_directory(&public, &copy);
    let invited = office.invite(MOJ, SERVER, &[]).await;
    office.apply(Applicant::new(&invited.token).request()).await.unwrap();
    let (mut version, mut names) = (office.approve("R-1").await, BTreeSet::new());
    for _ in 0..3 {
        office.pass(Duration::from_secs(60));
        let next = office.running.sign_again().await.unwrap();
        assert!(next > version && names.insert(next));
        version = next;
    }
    // The public files are put back as they were, as from an old copy: the journal knows better.
    let office = office
        .restarted(|_| {
            fs::remove_dir_all(&public).unwrap();
            copy_directory(&copy, &public);
        })
        .await;
    assert!(office.running.version() > version);
    // And what was decided since that copy stands in the new version.
    let mut watch = office.watch(0).await;
    let pushed = watch.message().await.unwrap().unwrap();
    assert_eq!(pushed.version, office.running.version());
    let now = (office.admin.clock)();
    let read = Anchor::read(office.running.anchor().to_vec().into()).unwrap().first(&files(pushed), now).unwrap();
    assert!(read.configuration().servers.contains_key(&SERVER.parse().unwrap()));

    // The journal is put back as from an older copy: the registry does not go on as if nothing had happened.
    let journal = office.path().join("journal");
    let settings = office.settings();
    office.running.shutdown().await;
    let old = office.directory.path().join("old");
    copy_directory(&journal, &old);
    let running = start(office_settings(&settings)).await.unwrap();
    running.shutdown().await;
    fs::remove_dir_all(&journal).unwrap();
    copy_directory(&old, &journal);
    let error = start(settings).await.err().unwrap();
    assert!(matches!(error, StartError::Published(_)), "{error}");
    assert!(error.to_string().contains("older copy"), "{error}");
}

fn office_settings(settings: &central_registry::Settings) -> central_registry::Settings {
    central_registry::Settings {
        timestamping: Vec::new(),
        directory: settings.directory.clone(),
        listen: settings.listen,
        public: settings.public,
        passphrase: settings.passphrase.clone(),
        clock: settings.clock.clone(),
    }
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_files_are_what_was_pushed() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    office.apply(Applicant::new(&invited.token).request()).await.unwrap();
    office.approve("R-1").await;
    let pushed = office.watch(0).await.message().await.unwrap().unwrap();
    assert_eq!(pushed.files.last().unwrap().name, "timestamp.json");
    for file in pushed.files {
        let public = fs::read(office.path().join("public").join(&file.name)).unwrap();
        assert_eq!(public, file.content, "{}", file.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_member_is_off_the_road_and_comes_back() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    office.apply(Applicant::new(&invited.token).request()).await.unwrap();
    office.approve("R-1").await;
    let now = (office.admin.clock)();
    let mut watch = office.watch(0).await;
    let first = watch.message().await.unwrap().unwrap();
    let first = Anchor::read(office.running.anchor().to_vec().into()).unwrap().first(&files(first), now).unwrap();
    let member = MOJ.parse().unwrap();
    office.admin.submit(&Order::Suspend(member, "its key was lost".parse().unwrap())).await.unwrap();
    let suspended = update(&first, &files(watch.message().await.unwrap().unwrap()), now).unwrap();
    let member = MOJ.parse().unwrap();
    assert!(suspended.configuration().active_member(&member).is_none());
    office.admin.submit(&Order::Restore(member)).await.unwrap();
    let restored = update(&suspended, &files(watch.message().await.unwrap().unwrap()), now).unwrap();
    assert!(restored.configuration().active_member(&MOJ.parse().unwrap()).is_some());
    let (code, reason) = refusal(office.admin.submit(&Order::Restore("VN/GOV/nobody".parse().unwrap())).await);
    assert_eq!(code, Code::NotFound, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_registry_or_another_anchor_is_not_joined() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let mut options = office.joining("ss1", &invited, SERVER);
    options.fingerprint = Fingerprint(Digest::ZERO);
    let error = join::ask(&options).await.unwrap_err();
    assert!(matches!(error, JoinError::Connection(NoConnection::OtherRegistry { .. })), "{error}");
    assert!(connect(&office.address(), Fingerprint(Digest::ZERO)).await.is_err());

    let mut options = office.joining("ss2", &invited, SERVER);
    options.anchor_digest = Digest::ZERO;
    let asked = join::ask(&options).await.unwrap();
    office.approve("R-1").await;
    let error = asked.wait(&options).await.unwrap_err();
    assert!(matches!(error, JoinError::OtherAnchor { .. }), "{error}");
    assert!(!options.directory.join(join::CONFIGURATION_FILE).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_of_another_s_request_is_told_nothing() {
    let office = Office::open().await;
    let invited = office.invite(MOJ, SERVER, &[]).await;
    let applicant = Applicant::new(&invited.token);
    office.apply(applicant.request()).await.unwrap();
    let mut client = RegistrationClient::new(office.channel().await);
    let asked = JoinStatusRequest { application_digest: Digest::of(&[b"guessed"]).to_wire() };
    assert_eq!(client.join_status(asked).await.unwrap_err().code(), Code::NotFound);
    let asked = JoinStatusRequest { application_digest: vec![1, 2, 3].into() };
    assert_eq!(client.join_status(asked).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.join(JoinRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    let large = JoinRequest { application: vec![0; 70_000].into(), ..Default::default() };
    assert!(client.join(large).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_judged_by_the_same_rules_and_nothing_of_it_is_recorded() {
    let office = Office::open().await;
    let member = office.invite(MOJ, SERVER, &[REGISTRY_OF_BIRTHS]).await;
    join::ask(&office.joining("ss1", &member, SERVER)).await.unwrap();
    office.approve("R-1").await;
    let second = office.invite("VN/GOV/tax", "VN/GOV/tax/ss1", &[]).await;
    join::ask(&office.joining("tax", &second, "VN/GOV/tax/ss1")).await.unwrap();
    let third = office.invite("VN/GOV/mps", "VN/GOV/mps/ss1", &[]).await;

    let journal = || {
        let mut entries = Vec::new();
        let disk = journal::Directory(office.path().join("journal"));
        journal::read(&disk, None, &mut |entry| entries.push(entry.record.as_bytes().to_vec())).unwrap();
        assert!(entries.len() > 4, "they were read");
        entries
    };
    let (before, seen) = (journal(), office.seen().await);
    let suspend = || Order::Suspend(MOJ.parse().unwrap(), "a key was lost".parse().unwrap());
    for (order, foreseen) in [
        (invitation("VN/GOV/new", Some("New"), "VN/GOV/new/ss1", &[]), "let VN/GOV/new/ss1 join once"),
        (Order::Approve("R-2".parse().unwrap()), "add the member VN/GOV/tax"),
        (Order::Reject("R-2".parse().unwrap(), "no".parse().unwrap()), "reject R-2 for good"),
        (suspend(), "suspend VN/GOV/moj: from the next message on it calls nobody"),
    ] {
        let said = office.admin.foresee(&order).await.unwrap();
        assert!(said.changes.iter().any(|change| change.contains(foreseen)), "{said}");
    }
    let joining = office.joining("mps", &third, "VN/GOV/mps/ss1");
    let said = join::foresee(&joining).await.unwrap();
    assert!(said.changes[0].contains("as request R-3"), "{said}");
    assert!(!joining.directory.exists(), "nor is anything written by the applicant");

    // What is refused, is refused with the same words.
    for order in [
        Order::Restore(MOJ.parse().unwrap()),
        Order::Approve("R-1".parse().unwrap()),
        Order::Suspend("VN/GOV/mojj".parse().unwrap(), "typo".parse().unwrap()),
        invitation(MOJ, Some("Another name"), "VN/GOV/moj/ss2", &[]),
        invitation("VN/GOV/new", None, "VN/GOV/new/ss1", &[]),
    ] {
        let foreseen = office.admin.foresee(&order).await.unwrap_err().to_string();
        assert_eq!(foreseen, office.admin.submit(&order).await.unwrap_err().to_string());
    }
    assert!(journal() == before, "nothing was recorded");
    assert_eq!(office.seen().await, seen);

    // A command is carried out once, also one that only asks; and none becomes an order by the loss of its mark.
    let now = Time::from_millis(office.time.load(std::sync::atomic::Ordering::SeqCst));
    let asked = sign_dry_run(&suspend(), &office.admin.instance, [7; 16], now, &office.admin.key);
    let order = sign_command(&suspend(), &office.admin.instance, [7; 16], now, &office.admin.key);
    let mut client = AdministrationClient::new(office.channel().await);
    client.submit(asked.clone()).await.unwrap();
    assert_eq!(client.submit(asked.clone()).await.unwrap_err().code(), Code::AlreadyExists);
    let forged = SignedCommand { command: order.command, ..asked };
    assert_eq!(client.submit(forged).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(journal() == before, "nothing was recorded");
    assert_eq!(join::ask(&joining).await.unwrap().request, "R-3", "its token is as good as before");
}
