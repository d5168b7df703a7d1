//! Access is asked for over the bus, decided by the provider's admin, and the answer comes back, whatever was down meanwhile
//! (PROTOCOL.md 19).

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use bytes::Bytes;
use proto::access::{
    AccessAcceptance, AccessDecision, AccessRequest, Decided, MAX_OPEN_OF_MEMBER, NotTaken, REQUEST_SKEW,
    REQUEST_WAITS, RequestDigest, SignedDocument,
};
use proto::identifier::ServerId;
use proto::purposes::PurposeDocument;
use proto::refusal::Code;
use proto::signature::{SigningKey, purpose};
use proto::time::Time;
use proto::transport::{ACCESS_PATH, decode_alone, encode_alone};
use proto::wire::relay as wire;
use proto::wire::relay::access_answered::Standing;
use serde_json::{Value, json};
use std::time::Duration;
use tests::echo::said;
use tests::operator;
use tests::raw::Answer;
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::world::{PURPOSE, World};
use tonic::Request;

const METHOD: &str = "/echo.v1.Echo/Unary";
const DAY: Duration = Duration::from_secs(86_400);

/// Two members, a list of purposes, and no grant.
async fn world() -> World {
    World::arranged(async |world| {
        let listed = |code: &str| PurposeDocument {
            purpose: code.parse().unwrap(),
            en: format!("For {code}"),
            vi: format!("Để {code}"),
        };
        world.instance.purposes = ["birth-registration", PURPOSE].map(listed).into();
    })
    .await
}

fn asking() -> Value {
    json!({
        "what": METHOD, "provider": "VN/GOV/moj/civil-registry", "purpose": PURPOSE,
        "legal_basis": "Law on civil status, article 13",
    })
}

async fn post(world: &World, name: &str, path: &str, body: Value) -> (u16, Value) {
    soon(operator::post(world.servers[name].operators, path, &body)).await
}

async fn get(world: &World, name: &str, path: &str) -> Value {
    soon(operator::get(world.servers[name].operators, path)).await
}

/// The portal asks; gives the request's name.
async fn ask(world: &World, asking: Value) -> String {
    let (status, shown) = post(world, "portal", "/v1/access/requests", asking).await;
    assert_eq!(status, 201, "{shown}");
    shown["request"].as_str().unwrap().to_owned()
}

async fn inbox(world: &World) -> Vec<Value> {
    get(world, "moj", "/v1/access/requests").await["requests"].as_array().unwrap().clone()
}

async fn approve(world: &World, request: &str) -> Value {
    let (status, granted) = post(world, "moj", &format!("/v1/access/requests/{request}/approve"), json!({})).await;
    assert_eq!(status, 201, "{granted}");
    granted["grant"].clone()
}

async fn show(world: &World, name: &str, request: &str) -> Value {
    get(world, name, &format!("/v1/access/requests/{request}")).await
}

/// Whether the portal's call passes, or the code that it is refused with.
async fn call(world: &World) -> Result<(), String> {
    let answer = soon(world.client().await.unary(Request::new(said("x")))).await;
    let code = |status: &tonic::Status| status.metadata().get("causeway-refusal").unwrap().to_str().unwrap().to_owned();
    answer.map(|_| ()).map_err(|status| code(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_and_approved_is_granted_countersigned_and_called_and_nothing_more() {
    let world = world().await;
    assert_eq!(call(&world).await, Err("GRANT_MISSING".into()));
    let request = ask(&world, asking()).await;
    assert_eq!(ask(&world, asking()).await, request, "the same words are the same request");
    let came = inbox(&world).await;
    assert_eq!(came.len(), 1);
    let said = &came[0];
    assert_eq!((said["request"].as_str(), said["standing"].as_str()), (Some(&*request), Some("waiting")));
    assert_eq!((said["consumer"].as_str(), said["purpose"].as_str()), (Some("VN/GOV/portal/one-stop"), Some(PURPOSE)));
    assert_eq!(said["legal_basis"], "Law on civil status, article 13");
    assert_eq!(said["received_at"], world.now().to_string());
    assert_eq!(show(&world, "portal", &request).await["at"], "VN/GOV/moj/ss1");
    assert_eq!(call(&world).await, Err("GRANT_MISSING".into()), "asking is no right");

    let path = format!("/v1/access/requests/{request}/approve");
    let longer = world.now().plus(400 * DAY).as_millis();
    let (status, refused) = post(&world, "moj", &path, json!({ "until": longer })).await;
    assert!(status == 422 && refused["error"].as_str().unwrap().contains("nothing longer is granted"), "{refused}");
    let (status, foreseen) = post(&world, "moj", &format!("{path}?dry_run=true"), json!({})).await;
    assert!(
        status == 200 && foreseen.to_string().contains("make grant 1: VN/GOV/portal/one-stop may call"),
        "{foreseen}"
    );
    assert_eq!(call(&world).await, Err("GRANT_MISSING".into()), "a dry run is no right");

    let grant = approve(&world, &request[..12]).await;
    assert_eq!((&grant["methods"], &grant["purposes"]), (&json!([METHOD]), &json!([PURPOSE])));
    assert_eq!(grant["request"], request);
    assert_eq!(call(&world).await, Ok(()));
    let (status, again) = post(&world, "moj", &path, json!({})).await;
    assert!(status == 404 && again["error"].as_str().unwrap().contains("granted already"), "{again}");

    // The answer comes to who asked, and the countersignature to who granted.
    assert_eq!(show(&world, "moj", &request).await["countersigned"], false);
    let answer = show(&world, "portal", &request).await;
    assert_eq!((answer["standing"].as_str(), answer["countersigned"].as_bool()), (Some("granted"), Some(true)));
    assert_eq!(answer["grant"], grant);
    assert_eq!(show(&world, "moj", &request).await["countersigned"], true);
    world.set_time(world.now().plus(Duration::from_secs(1)));
    assert_ne!(ask(&world, asking()).await, request, "what is decided may be asked again, a moment later");

    // It can be ended like any other.
    let (status, _) = post(&world, "moj", "/v1/grants/1/end", json!({ "reason": "a test" })).await;
    assert_eq!((status, call(&world).await), (200, Err("GRANT_MISSING".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_comes_back_with_its_reason_and_grants_nothing() {
    let world = world().await;
    let request = ask(&world, asking()).await;
    let path = format!("/v1/access/requests/{request}/reject");
    let (status, none) = post(&world, "moj", &path, json!({ "reason": "" })).await;
    assert_eq!(status, 422, "{none}");
    let (status, _) = post(&world, "moj", &path, json!({ "reason": "the law names another agency" })).await;
    assert_eq!(status, 200);
    let answer = show(&world, "portal", &request).await;
    assert_eq!((&answer["standing"], &answer["reason"]), (&json!("rejected"), &json!("the law names another agency")));
    let (status, late) = post(&world, "moj", &format!("/v1/access/requests/{request}/approve"), json!({})).await;
    assert!(status == 404 && late["error"].as_str().unwrap().contains("rejected already"), "{late}");
    assert_eq!(call(&world).await, Err("GRANT_MISSING".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_and_its_answer_arrive_though_either_server_was_down_and_both_started_again() {
    let mut world = world().await;
    let moj = world.servers.remove("moj").unwrap();
    let address = moj.peers;
    moj.shutdown().await;
    let request = ask(&world, asking()).await;
    assert!(show(&world, "portal", &request).await["hindered"].as_str().unwrap().contains("VN/GOV/moj/ss1"));
    world.restart("portal").await;

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    world.start("moj", listener, false).await;
    soon(world.servers["portal"].server.carry_requests()).await;
    assert_eq!(inbox(&world).await.len(), 1);
    world.restart("moj").await;
    world.restart("portal").await;
    assert_eq!(inbox(&world).await[0]["request"], request);

    let portal = world.servers.remove("portal").unwrap();
    let address = portal.peers;
    portal.shutdown().await;
    approve(&world, &request).await;
    world.restart("moj").await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    world.start("portal", listener, false).await;
    soon(world.servers["portal"].server.carry_requests()).await;
    world.restart("portal").await;
    world.restart("moj").await;
    for name in ["portal", "moj"] {
        let shown = get(&world, name, &format!("/v1/access/requests/{request}")).await;
        assert_eq!((&shown["standing"], &shown["countersigned"]), (&json!("granted"), &json!(true)), "{name}");
    }
    assert_eq!(call(&world).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_grant_is_shown_as_another_and_not_countersigned() {
    let world = world().await;
    let request = ask(&world, asking()).await;
    let until = world.now().plus(7 * DAY).as_millis();
    let path = format!("/v1/access/requests/{request}/approve");
    assert_eq!(post(&world, "moj", &path, json!({ "until": until })).await.0, 201);
    let answer = show(&world, "portal", &request).await;
    assert_eq!((&answer["countersigned"], &answer["differs"]), (&json!(false), &json!(["the end"])));
    assert_eq!(show(&world, "moj", &request).await["countersigned"], false);
    assert_eq!(call(&world).await, Ok(()), "it is a grant all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlisted_purpose_is_neither_asked_for_nor_granted() {
    let mut world = world().await;
    let mut other = asking();
    other["purpose"] = json!("testin");
    let (status, refused) = post(&world, "portal", "/v1/access/requests", other).await;
    assert!(status == 422 && refused["error"].as_str().unwrap().contains("did you mean testing?"), "{refused}");
    let grant = json!({
        "consumer": "VN/GOV/portal/one-stop", "provider": "VN/GOV/moj/civil-registry", "methods": [METHOD],
        "purposes": [PURPOSE, "birth-registratoin"], "valid_days": 1,
    });
    for path in ["/v1/grants", "/v1/grants?dry_run=true"] {
        let (status, refused) = post(&world, "moj", path, grant.clone()).await;
        assert!(
            status == 422 && refused["error"].as_str().unwrap().contains("did you mean birth-registration?"),
            "{refused}"
        );
    }
    // Taken off the list after it was asked for: it is not granted any more.
    let request = ask(&world, asking()).await;
    world.instance.purposes.retain(|listed| listed.purpose.as_str() != PURPOSE);
    world.publish(|_| {}, Vec::new());
    let (status, refused) = post(&world, "moj", &format!("/v1/access/requests/{request}/approve"), json!({})).await;
    assert!(status == 422 && refused["error"].as_str().unwrap().contains("no purpose testing"), "{refused}");
    // An instance without a list is as it was before there were lists.
    world.instance.purposes.clear();
    world.publish(|_| {}, Vec::new());
    assert_eq!(post(&world, "moj", "/v1/grants", grant).await.0, 201);
}

// ---- at the peers' door

/// What the portal might ask.
fn request_of(world: &World) -> AccessRequest {
    AccessRequest {
        instance: world.instance.instance.clone(),
        consumer: world.members["portal"].subsystem.clone(),
        server: world.members["portal"].server.clone(),
        provider: world.members["moj"].subsystem.clone(),
        methods: [METHOD.to_owned()].into(),
        purpose: PURPOSE.parse().unwrap(),
        legal_basis: "a law".parse().unwrap(),
        until: world.now().plus(30 * DAY),
        time: world.now(),
    }
}

fn signed(request: &AccessRequest, key: &SigningKey) -> SignedDocument {
    SignedDocument::sign(purpose::ACCESS_REQUEST, request.to_bytes(), key)
}

async fn put(world: &World, name: &'static str, body: Bytes) -> Answer {
    let mut client = Rogue::of(world, name).connect(world, "moj").await;
    let request = rogue::exchange().uri(format!("https://peer{ACCESS_PATH}"));
    soon(client.call(request, body)).await
}

/// How it stands, after this member's server asked moj's so.
async fn stands(
    world: &World,
    name: &'static str,
    request: &SignedDocument,
    acceptance: Option<&SignedDocument>,
) -> Standing {
    let asked =
        wire::AccessAsked { request: Some(request.to_wire()), acceptance: acceptance.map(SignedDocument::to_wire) };
    let answer = put(world, name, encode_alone(&asked)).await;
    assert_eq!(answer.refusal(), None);
    decode_alone::<wire::AccessAnswered>(answer.body).unwrap().standing.unwrap()
}

fn not_taken(why: NotTaken) -> Standing {
    Standing::NotTaken(why.as_str().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_consumers_own_signed_timely_request_is_refused_by_name_and_not_kept() {
    let mut world = world().await;
    world.enroll("tax", "income").await;
    let portal = world.members["portal"].signing.clone();
    let tax = world.members["tax"].signing.clone();
    let good = request_of(&world);
    let with = |change: &dyn Fn(&mut AccessRequest)| {
        let mut request = good.clone();
        change(&mut request);
        signed(&request, &portal)
    };
    let foreign = signed(&good, &tax);
    let claimed = SignedDocument { key: portal.public().id(), ..foreign.clone() };
    let original = signed(&good, &portal);
    let altered = AccessRequest { methods: ["/echo.v1.Echo/Both".to_owned()].into(), ..good.clone() };
    let altered = SignedDocument { document: altered.to_bytes().into(), ..original.clone() };
    let other_line = SignedDocument::sign(purpose::ACCESS_DECISION, good.to_bytes(), &portal);
    let server = |name: &str| -> ServerId { name.parse().unwrap() };
    let ahead = with(&|it| it.time = it.time.plus(REQUEST_SKEW + Duration::from_millis(1)));
    let lapsed = with(&|it| it.time = it.time.minus(REQUEST_WAITS));
    for (what, asks, request, why) in [
        ("another's signature", "portal", foreign, NotTaken::Signature),
        ("another's signature in the portal's name", "portal", claimed, NotTaken::Signature),
        ("other methods than were signed", "portal", altered, NotTaken::Signature),
        ("a signature of another kind of document", "portal", other_line, NotTaken::Signature),
        ("the portal's request, replayed by another", "tax", original.clone(), NotTaken::NotTheConsumers),
        ("in the portal's name", "tax", with(&|it| it.server = server("VN/GOV/tax/ss1")), NotTaken::NotTheConsumers),
        (
            "for another's subsystem",
            "portal",
            with(&|it| it.consumer = "VN/GOV/tax/income".parse().unwrap()),
            NotTaken::NotTheConsumers,
        ),
        (
            "of another provider",
            "portal",
            with(&|it| it.provider = "VN/GOV/tax/income".parse().unwrap()),
            NotTaken::NotHosted,
        ),
        ("of another instance", "portal", with(&|it| it.instance = "EE".parse().unwrap()), NotTaken::Malformed),
        ("from the future", "portal", ahead, NotTaken::Time),
        ("lapsed", "portal", lapsed, NotTaken::Time),
        ("for a time that is over", "portal", with(&|it| it.until = it.time), NotTaken::Time),
        (
            "for a purpose that is not listed",
            "portal",
            with(&|it| it.purpose = "tax".parse().unwrap()),
            NotTaken::PurposeUnlisted,
        ),
    ] {
        assert_eq!(stands(&world, asks, &request, None).await, not_taken(why), "{what}");
    }
    for body in [Bytes::new(), Bytes::from_static(b"\0\0\0\0\x05hello")] {
        assert_eq!(put(&world, "portal", body).await.refusal(), Some(Code::Unproven.as_str()));
    }
    let nothing = put(&world, "portal", encode_alone(&wire::AccessAsked::default())).await;
    let nothing = decode_alone::<wire::AccessAnswered>(nothing.body).unwrap().standing;
    assert_eq!(nothing, Some(not_taken(NotTaken::Malformed)));
    assert!(inbox(&world).await.is_empty(), "nothing of it was kept");

    // As it is, it is taken; and again it is the same.
    for _ in 0..2 {
        assert_eq!(stands(&world, "portal", &original, None).await, Standing::Waiting(wire::AccessWaiting {}));
    }
    assert_eq!(inbox(&world).await.len(), 1);
    // Revoked meanwhile: the key asks for nothing new.
    world.publish(|_| {}, vec![portal.public().id()]);
    let another = with(&|it| it.legal_basis = "another law".parse().unwrap());
    assert_eq!(stands(&world, "portal", &another, None).await, not_taken(NotTaken::Signature));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_ends_at_the_members_limit_and_a_decision_makes_room() {
    let mut world = world().await;
    let portal = world.members["portal"].signing.clone();
    let numbered = |world: &World, number: usize| {
        let law = format!("law {number}").parse().unwrap();
        let time = if number.is_multiple_of(2) { world.now() } else { world.now().minus(89 * DAY) };
        signed(&AccessRequest { legal_basis: law, time, ..request_of(world) }, &portal)
    };
    for number in 0..MAX_OPEN_OF_MEMBER {
        let taken = stands(&world, "portal", &numbered(&world, number), None).await;
        assert_eq!(taken, Standing::Waiting(wire::AccessWaiting {}), "{number}");
    }
    let one_more = numbered(&world, MAX_OPEN_OF_MEMBER);
    assert_eq!(stands(&world, "portal", &one_more, None).await, not_taken(NotTaken::TooMany));
    world.restart("moj").await;
    assert_eq!(stands(&world, "portal", &one_more, None).await, not_taken(NotTaken::TooMany));
    let first = numbered(&world, 0);
    assert_eq!(stands(&world, "portal", &first, None).await, Standing::Waiting(wire::AccessWaiting {}), "it is here");
    // What it says of its time makes none: written as 89 days old, it waits here for its 90 days from when it came.
    world.set_time(world.now().plus(2 * DAY));
    world.publish(|_| {}, vec![]);
    assert_eq!(stands(&world, "portal", &one_more, None).await, not_taken(NotTaken::TooMany));
    // A decision makes room.
    let request = RequestDigest(first.digest()).to_string();
    let (status, _) =
        post(&world, "moj", &format!("/v1/access/requests/{request}/reject"), json!({ "reason": "no" })).await;
    assert_eq!(status, 200);
    assert_eq!(stands(&world, "portal", &one_more, None).await, Standing::Waiting(wire::AccessWaiting {}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_consumers_own_word_of_just_this_grant_countersigns_it() {
    let world = world().await;
    let portal = world.members["portal"].signing.clone();
    let request = signed(&request_of(&world), &portal);
    let id = RequestDigest(request.digest());
    assert_eq!(stands(&world, "portal", &request, None).await, Standing::Waiting(wire::AccessWaiting {}));
    let word = |grant| AccessAcceptance {
        request: id,
        grant,
        server: world.members["portal"].server.clone(),
        time: world.now(),
    };
    let early = SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, word(request.digest()).to_bytes(), &portal);
    assert_eq!(stands(&world, "portal", &request, Some(&early)).await, not_taken(NotTaken::NotAccepted));

    approve(&world, &id.to_string()).await;
    let Standing::Decision(decision) = stands(&world, "portal", &request, None).await else { panic!("it is decided") };
    let decision = AccessDecision::parse(&decision.document).unwrap();
    let Decided::Granted(grant) = decision.decided else { panic!("it is granted") };
    let (of_it, moj) = (word(grant.digest()), &world.members["moj"].signing);
    for (what, acceptance) in [
        (
            "of another grant",
            SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, word(request.digest()).to_bytes(), &portal),
        ),
        ("signed by the provider", SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, of_it.to_bytes(), moj)),
        ("signed as something else", SignedDocument::sign(purpose::ACCESS_REQUEST, of_it.to_bytes(), &portal)),
        ("of another request", {
            let other = AccessAcceptance { request: RequestDigest(grant.digest()), ..of_it.clone() };
            SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, other.to_bytes(), &portal)
        }),
    ] {
        assert_eq!(
            stands(&world, "portal", &request, Some(&acceptance)).await,
            not_taken(NotTaken::NotAccepted),
            "{what}"
        );
    }
    assert_eq!(show(&world, "moj", &id.to_string()).await["countersigned"], false);
    let right = SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, of_it.to_bytes(), &portal);
    assert!(matches!(stands(&world, "portal", &request, Some(&right)).await, Standing::Decision(_)));
    assert_eq!(show(&world, "moj", &id.to_string()).await["countersigned"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_the_provider_did_not_sign_for_this_request_is_not_believed() {
    let mut world = world().await;
    let request = ask(&world, asking()).await;
    let id: RequestDigest = request.parse().unwrap();
    let (moj, portal) = (world.members["moj"].signing.clone(), world.members["portal"].signing.clone());
    let (server, time) = (world.members["moj"].server.clone(), world.now());
    let rejects = |request, server: &ServerId| AccessDecision {
        request,
        server: server.clone(),
        time,
        decided: Decided::Rejected("no".parse().unwrap()),
    };
    let sign = |decision: &AccessDecision, line, key: &SigningKey| SignedDocument::sign(line, decision.to_bytes(), key);
    let honest = sign(&rejects(id, &server), purpose::ACCESS_DECISION, &moj);
    let forged = Decided::Granted(SignedDocument::sign(purpose::GRANT, b"{}".to_vec(), &portal));
    let forged = AccessDecision { decided: forged, ..rejects(id, &server) };
    let answers = [
        (sign(&rejects(id, &server), purpose::ACCESS_DECISION, &portal), "no good key of the provider's"),
        (
            SignedDocument { key: moj.public().id(), ..sign(&rejects(id, &server), purpose::ACCESS_DECISION, &portal) },
            "does not hold",
        ),
        (sign(&rejects(id, &server), purpose::GRANT, &moj), "does not hold"),
        (sign(&rejects(RequestDigest(honest.digest()), &server), purpose::ACCESS_DECISION, &moj), "another request"),
        (sign(&rejects(id, &world.members["portal"].server), purpose::ACCESS_DECISION, &moj), "does not host"),
        (sign(&forged, purpose::ACCESS_DECISION, &moj), "the signature of its grant does not hold"),
    ];
    let said = std::sync::Arc::new(std::sync::Mutex::new(Bytes::new()));
    let says = std::sync::Arc::clone(&said);
    Rogue::takes_over(&mut world, "moj", move |_| {
        let answer = says.lock().unwrap().clone();
        async move { rogue::streamed_bytes(vec![answer]) }
    })
    .await;
    let answered = |decision: &SignedDocument| {
        let standing = Some(Standing::Decision(decision.to_wire()));
        *said.lock().unwrap() = encode_alone(&wire::AccessAnswered { standing });
    };
    for (decision, why) in &answers {
        answered(decision);
        let shown = show(&world, "portal", &request).await;
        assert_eq!(shown["standing"], "waiting", "{why}");
        assert!(shown["hindered"].as_str().unwrap().contains(why), "{shown}");
    }
    answered(&honest);
    let shown = show(&world, "portal", &request).await;
    assert_eq!((&shown["standing"], &shown["decided_at"]), (&json!("rejected"), &json!(Time::to_string(&time))));
}
