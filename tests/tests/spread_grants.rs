//! A member's servers honour each other's grants, and each other's ends of them (PROTOCOL.md 19.7).

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use bytes::Bytes;
use central_registry::register::{Applied, Hex};
use proto::access::{Grant, GrantEnd, GrantNumber, SignedDocument};
use proto::digest::Digest;
use proto::global_configuration::document::SigningDocument;
use proto::refusal::Code;
use proto::signature::{SigningKey, purpose};
use proto::transport::{GRANTS_PATH, decode_alone, encode_alone};
use proto::wire::relay as wire;
use tests::echo::said;
use tests::raw::Answer;
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::world::{PURPOSE, World};
use tonic::Request;

/// The civil registry has two servers, and nobody has a grant.
async fn world() -> World {
    let mut world = World::without_grants().await;
    world.second_server("moj", "moj2").await;
    world
}

/// Waits until this server knows so many grants.
async fn knows(world: &World, name: &str, count: usize) {
    let rights = &world.servers[name].server.access_rights;
    soon(async {
        while rights.list().len() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// From here on the other server of the two is asked.
fn maintained(world: &mut World, server: usize) {
    world.publish(
        |members| {
            for (number, listed) in members.get_mut("moj").unwrap().document.servers.iter_mut().enumerate() {
                listed.maintenance = (number == server).then(|| "back at noon".parse().unwrap());
            }
        },
        Vec::new(),
    );
}

async fn call(world: &World) -> Result<(), String> {
    let answer = soon(world.client().await.unary(Request::new(said("x")))).await;
    let code = |status: &tonic::Status| status.metadata().get("causeway-refusal").unwrap().to_str().unwrap().to_owned();
    answer.map(|_| ()).map_err(|status| code(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_grants_the_other_honours_and_what_either_ends_neither_does() {
    let mut world = world().await;
    let number = world.grant(&["Unary"]).await;
    knows(&world, "moj2", 1).await;
    for server in [0, 1] {
        maintained(&mut world, server);
        assert_eq!(call(&world).await, Ok(()), "with server {server} in maintenance");
    }
    let there = world.servers["moj2"].server.access_rights.list()[0].number;
    let now = world.now();
    world.servers["moj2"].server.access_rights.end(there, "the law has changed".into(), now).await.unwrap();
    knows(&world, "moj", 0).await;
    for server in [0, 1] {
        maintained(&mut world, server);
        assert_eq!(call(&world).await, Err("GRANT_MISSING".into()), "with server {server} in maintenance");
    }
    world.servers["moj"].server.access_rights.end(number, "again".into(), now).await.unwrap_err();
    // Each keeps it: nothing comes back of a restart.
    for name in ["moj", "moj2"] {
        world.restart(name).await;
    }
    for name in ["moj", "moj2"] {
        soon(world.servers[name].server.spread_grants()).await;
        assert!(world.servers[name].server.access_rights.list().is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_hears_what_was_granted_and_ended_meanwhile() {
    let mut world = world().await;
    let first = world.grant(&["Unary"]).await;
    knows(&world, "moj2", 1).await;
    let away = world.servers.remove("moj2").unwrap();
    let address = away.peers;
    away.shutdown().await;
    let now = world.now();
    world.servers["moj"].server.access_rights.end(first, "over".into(), now).await.unwrap();
    world.grant(&["Both"]).await;
    world.restart("moj").await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    world.start("moj2", listener, false).await;
    let rights = &world.servers["moj2"].server.access_rights;
    soon(async {
        while !rights.list().iter().map(|grant| grant.methods.clone()).eq([["/echo.v1.Echo/Both".to_owned()].into()]) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    knows(&world, "moj", 1).await;
}

async fn put(world: &World, name: &'static str, asked: &wire::GrantsAsked) -> Answer {
    let mut client = Rogue::of(world, name).connect(world, "moj").await;
    let request = rogue::exchange().uri(format!("https://peer{GRANTS_PATH}"));
    soon(client.call(request, encode_alone(asked))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_members_own_servers_hear_of_grants_and_only_what_the_member_signed_is_taken() {
    let mut world = world().await;
    // Its server is a rogue's from here on.
    world.servers.remove("moj2").unwrap().shutdown().await;
    world.grant(&["Unary"]).await;
    let refused = put(&world, "portal", &wire::GrantsAsked::default()).await;
    assert_eq!(refused.refusal(), Some(Code::Unproven.as_str()));
    let told = put(&world, "moj2", &wire::GrantsAsked::default()).await;
    let told = decode_alone::<wire::GrantsGiven>(told.body).unwrap();
    assert_eq!((told.grants.len(), told.lacks.len()), (1, 0));
    let known = told.grants[0].grant.clone().unwrap();
    let name = Digest::of(&[&known.document]);

    let grant = |method: &str| Grant {
        number: GrantNumber(1),
        consumer: world.members["portal"].subsystem.clone(),
        provider: world.members["moj"].subsystem.clone(),
        methods: [format!("/echo.v1.Echo/{method}")].into(),
        purposes: [PURPOSE.to_owned()].into(),
        legal_basis: String::new(),
        valid_from: world.now().as_millis(),
        valid_until: world.now().as_millis() + 1,
        per_second: None,
        priority: Default::default(),
        request: None,
        fields: Default::default(),
    };
    let (moj, moj2, portal) = (&world.members["moj"], &world.members["moj2"], &world.members["portal"]);
    let signed = |grant: &Grant, line: &str, key: &SigningKey| {
        SignedDocument::sign(line, serde_json::to_vec(grant).unwrap(), key)
    };
    let brings = |server: &str, grant: SignedDocument, end: Option<SignedDocument>| wire::SpreadGrant {
        server: server.to_owned(),
        grant: Some(grant.to_wire()),
        end: end.map(|end| end.to_wire()),
    };
    let (both, second) = (grant("Both"), moj2.server.as_str());
    let good = signed(&both, purpose::GRANT, &moj2.signing);
    let ended = |grant: Digest, line: &str, key: &SigningKey| {
        let end = GrantEnd { grant, server: moj2.server.clone(), time: world.now(), reason: "x".into() };
        SignedDocument::sign(line, end.to_bytes(), key)
    };
    let of_another = Grant { provider: portal.subsystem.clone(), ..both.clone() };
    let over = Grant { valid_until: world.now().as_millis(), ..both.clone() };
    let altered = SignedDocument { document: Bytes::from(serde_json::to_vec(&grant("Hang")).unwrap()), ..good.clone() };
    let known = SignedDocument::parse(known).unwrap();
    for (what, brought) in [
        ("signed by a consumer", brings(second, signed(&both, purpose::GRANT, &portal.signing), None)),
        ("signed as something else", brings(second, signed(&both, purpose::GRANT_END, &moj2.signing), None)),
        ("said to be made elsewhere", brings(moj.server.as_str(), good.clone(), None)),
        ("another than was signed", brings(second, altered, None)),
        ("of another's service", brings(second, signed(&of_another, purpose::GRANT, &moj2.signing), None)),
        ("over", brings(second, signed(&over, purpose::GRANT, &moj2.signing), None)),
        (
            "an end signed by the consumer",
            brings(moj.server.as_str(), known.clone(), Some(ended(name, purpose::GRANT_END, &portal.signing))),
        ),
        (
            "an end that is none",
            brings(moj.server.as_str(), known.clone(), Some(ended(name, purpose::GRANT, &moj2.signing))),
        ),
        (
            "the end of another",
            brings(moj.server.as_str(), known.clone(), Some(ended(good.digest(), purpose::GRANT_END, &moj2.signing))),
        ),
    ] {
        put(&world, "moj2", &wire::GrantsAsked { have: Vec::new(), brings: vec![brought] }).await;
        let list = world.servers["moj"].server.access_rights.list();
        assert!(list.len() == 1 && list[0].methods.contains("/echo.v1.Echo/Unary"), "{what}: {list:?}");
    }
    // As it is it is taken; and an end is, and stays.
    let end = Some(ended(good.digest(), purpose::GRANT_END, &moj2.signing));
    for (end, left) in [(None, 2), (end.clone(), 1), (None, 1)] {
        let brings = vec![brings(second, good.clone(), end)];
        put(&world, "moj2", &wire::GrantsAsked { have: Vec::new(), brings }).await;
        assert_eq!(world.servers["moj"].server.access_rights.list().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_counts_though_its_key_is_revoked_since_and_a_grant_though_its_keys_certificate_ended() {
    let mut world = world().await;
    // Its server is a rogue's from here on.
    world.servers.remove("moj2").unwrap().shutdown().await;
    world.grant(&["Unary"]).await;
    let told = put(&world, "moj2", &wire::GrantsAsked::default()).await;
    let told = decode_alone::<wire::GrantsGiven>(told.body).unwrap().grants.remove(0);
    let lasting = Grant {
        methods: ["/echo.v1.Echo/Both".to_owned()].into(),
        valid_until: world.now().plus(std::time::Duration::from_secs(1000 * 86_400)).as_millis(),
        ..serde_json::from_slice(&told.grant.as_ref().unwrap().document).unwrap()
    };
    let (second, moj2) = (world.members["moj2"].server.clone(), world.members["moj2"].signing.clone());
    let brings = |grant: SignedDocument| wire::SpreadGrant {
        server: second.to_string(),
        grant: Some(grant.to_wire()),
        end: None,
    };
    let number = |world: &World| world.servers["moj"].server.access_rights.list().len();

    // A key of years ago, of which the certificate ended.
    let ((old, _), applied) = (SigningKey::generate(), &world.members["moj2"]);
    let applied = Applied {
        digest: Hex(Digest::ZERO),
        member: applied.server.owner(),
        server: second.clone(),
        address: "127.0.0.1:1".parse().unwrap(),
        subsystems: Vec::new(),
        authentication_key: old.public().to_spki().into(),
        signing_key: old.public().to_spki().into(),
    };
    let then = world.now().minus(std::time::Duration::from_secs(500 * 86_400));
    let certificate = world.authority.signing(&applied, then).unwrap();
    let listed = SigningDocument { server: second.clone(), certificate, until: None };
    world.publish(|members| members.get_mut("moj").unwrap().document.signing.push(listed), Vec::new());
    let lasts = SignedDocument::sign(purpose::GRANT, serde_json::to_vec(&lasting).unwrap(), &old);
    let asked = wire::GrantsAsked { have: Vec::new(), brings: vec![brings(lasts)] };
    put(&world, "moj2", &asked).await;
    assert_eq!(number(&world), 2, "a grant lasts longer than a certificate");

    let granted_there = Grant { methods: ["/echo.v1.Echo/Down".to_owned()].into(), ..lasting.clone() };
    let granted_there = SignedDocument::sign(purpose::GRANT, serde_json::to_vec(&granted_there).unwrap(), &moj2);
    put(&world, "moj2", &wire::GrantsAsked { have: Vec::new(), brings: vec![brings(granted_there.clone())] }).await;
    assert_eq!(number(&world), 3);

    // Ended there; then the key is revoked, before anybody here hears of the end.
    let name = Digest::of(&[&told.grant.as_ref().unwrap().document]);
    let ended = |grant: Digest| {
        let end = GrantEnd { grant, server: second.clone(), time: world.now(), reason: "over".into() };
        SignedDocument::sign(purpose::GRANT_END, end.to_bytes(), &moj2)
    };
    let (end, end_of_its_own) = (ended(name), ended(granted_there.digest()));
    world.publish(|_| {}, vec![moj2.public().id()]);
    let again = Grant { methods: ["/echo.v1.Echo/Hang".to_owned()].into(), ..lasting };
    let again = SignedDocument::sign(purpose::GRANT, serde_json::to_vec(&again).unwrap(), &moj2);
    put(&world, "moj2", &wire::GrantsAsked { have: Vec::new(), brings: vec![brings(again)] }).await;
    assert_eq!(number(&world), 3, "a revoked key grants nothing");
    let ends = wire::SpreadGrant { end: Some(end.to_wire()), ..told };
    put(&world, "moj2", &wire::GrantsAsked { have: Vec::new(), brings: vec![ends] }).await;
    assert_eq!(number(&world), 2, "what it ended has ended");
    let ends = wire::SpreadGrant { end: Some(end_of_its_own.to_wire()), ..brings(granted_there) };
    put(&world, "moj2", &wire::GrantsAsked { have: Vec::new(), brings: vec![ends] }).await;
    assert_eq!(number(&world), 1, "what it granted and ended has ended");
}
