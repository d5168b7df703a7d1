//! Who may call what: `access why` and the door say the same, because both ask one function. Random grants and random
//! questions of near names; what both say is held against the rules, written down here a second time.
//!
//! `CAUSEWAY_SEED` repeats a run, `CAUSEWAY_CASES` makes it longer.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use journal::Options;
use journal::faulty::Faulty;
use proto::digest::Digest;
use proto::global_configuration::document::SubsystemDocument;
use proto::identifier::{ExchangeId, MemberId, MethodPath, ServerId, SubsystemId};
use proto::message::{ConfigurationVersion, Direction, End, Facts, Header, Opening, Operation, Route};
use proto::refusal::Code;
use proto::signature::SigningKey;
use proto::time::Time;
use security_server::access_rights::{AccessRights, Grant, Looked, Proposal, Question};
use security_server::services::{Service, Services};
use tests::operator;
use tests::raw;
use tests::rogue::{self, Rogue};
use tests::world::World;

const CONSUMERS: [&str; 6] = [
    "VN/GOV/portal/one-stop",
    "VN/GOV/portal/one-stop-2",
    "VN/GOV/portal/one-sto",
    "VN/GOV/portal/One-stop",
    "VN/GOV/portal2/one-stop",
    "VN/GOV/moj/civil-registry",
];
/// The first four are the portal's.
const OF_THE_PORTAL: usize = 4;
const PROVIDERS: [&str; 3] = ["VN/GOV/moj/civil-registry", "VN/GOV/moj/civil-registry2", "VN/GOV/moj/civil"];
const METHODS: [&str; 6] = [
    "/echo.v1.Echo/Unary",
    "/echo.v1.Echo/unary",
    "/echo.v1.Echo/Unary_",
    "/echo.v1.Ech/oUnary",
    "/echo.v1.Echo2/Unary",
    "/echo.v1.Echo/Both",
];
const PURPOSES: [&str; 5] = ["testing", "Testing", "test", "testing2", ""];
const NOW: Time = Time::from_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn seeded(by: u64) -> Self {
        let seed = std::env::var("CAUSEWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(by);
        println!("CAUSEWAY_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        // The first of a list is the usual one.
        if self.below(2) == 0 { texts[0] } else { texts[self.below(texts.len())] }
    }

    fn some(&mut self, texts: &[&str]) -> std::collections::BTreeSet<String> {
        (0..1 + self.below(3)).map(|_| self.of(texts).to_owned()).collect()
    }

    /// A grant of some hours' notice or age, which lasts a day or some.
    fn proposal(&mut self, consumers: &[&str], providers: &[&str], now: Time) -> Proposal {
        let hours = self.below(120) as u32;
        let from = if self.below(4) == 0 { now.plus(hours * HOUR / 2) } else { now.minus(hours * HOUR) };
        Proposal {
            consumer: self.of(consumers).parse().unwrap(),
            provider: self.of(providers).parse().unwrap(),
            methods: self.some(&METHODS),
            // A grant for no purpose is refused.
            purposes: self.some(&PURPOSES[..4]),
            legal_basis: String::new(),
            valid_from: (self.below(5) > 0).then(|| from.as_millis()),
            valid_days: 1 + self.below(4) as u32,
            per_second: (self.below(3) == 0).then_some(1_000_000),
            priority: Default::default(),
            fields: Default::default(),
        }
    }

    fn asked(&mut self, consumers: &[&str], providers: &[&str]) -> Asked {
        Asked {
            consumer: self.of(consumers).parse().unwrap(),
            provider: self.of(providers).parse().unwrap(),
            path: self.of(&METHODS).parse().unwrap(),
            purpose: self.of(&PURPOSES).to_owned(),
        }
    }
}

#[derive(Debug)]
struct Asked {
    consumer: SubsystemId,
    provider: SubsystemId,
    path: MethodPath,
    purpose: String,
}

impl Asked {
    fn question(&self) -> Question<'_> {
        Question { consumer: &self.consumer, provider: &self.provider, path: &self.path, purpose: &self.purpose }
    }

    /// The opening by which the door is asked.
    fn header(&self) -> Header {
        Header::new(Facts {
            route: Route {
                instance: "VN".parse().unwrap(),
                consumer: self.consumer.clone(),
                consumer_server: format!("{}/ss1", self.consumer.member()).parse().unwrap(),
                provider: self.provider.clone(),
                provider_server: "VN/GOV/moj/ss1".parse().unwrap(),
                operation: Operation::Grpc(self.path.clone()),
            },
            exchange: ExchangeId::from_bytes([7; 16]),
            attempt: 1,
            direction: Direction::Request,
            position: 0,
            time: NOW,
            configuration: ConfigurationVersion { version: 1, digest: Digest::ZERO },
            opening: Some(Opening { purpose: self.purpose.clone(), ..Default::default() }),
            answer: None,
            previous: None,
            metadata: Some(Digest::ZERO),
            pieces: Vec::new(),
            end: Some(End::HalfClose),
            removed: None,
        })
    }
}

/// The rules once more: of the grants in force, which is the first that allows it; or how near they come.
fn by_the_rules(
    grants: &BTreeMap<u64, Grant>,
    offered: &[(&str, &str)],
    asked: &Asked,
    now: Time,
) -> Result<u64, Code> {
    let of_them: Vec<&Grant> = grants
        .values()
        .filter(|grant| grant.consumer == asked.consumer && grant.provider == asked.provider)
        .filter(|grant| grant.methods.iter().any(|method| method == asked.path.as_str()))
        .collect();
    let for_it = of_them.iter().filter(|grant| grant.purposes.iter().any(|purpose| *purpose == asked.purpose));
    let mut now_good = for_it.clone().filter(|grant| (grant.valid_from..grant.valid_until).contains(&now.as_millis()));
    let is_offered = offered.contains(&(asked.provider.as_str(), asked.path.service()));
    match now_good.next() {
        Some(grant) if is_offered => Ok(grant.number.0),
        Some(_) => Err(Code::ServiceUnknown),
        None if for_it.count() > 0 => Err(Code::GrantExpired),
        None if !of_them.is_empty() => Err(Code::GrantPurpose),
        None => Err(Code::GrantMissing),
    }
}

/// The access rights of the civil registry's server, alone.
fn rights(disk: &Arc<Faulty>, key: &Arc<SigningKey>, first: bool) -> AccessRights {
    let (member, server): (MemberId, ServerId) = ("VN/GOV/moj".parse().unwrap(), "VN/GOV/moj/ss1".parse().unwrap());
    let options = Options { first, ..Options::default() };
    AccessRights::open(disk.clone(), options, &server, &[(member, Arc::clone(key))]).unwrap().0
}

#[tokio::test]
async fn thousands_of_random_questions_are_decided_alike_by_access_why_and_by_the_door() {
    let cases = std::env::var("CAUSEWAY_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000);
    let mut random = Random::seeded(3);
    let key = Arc::new(SigningKey::generate().0);
    let (mut asked_in_all, mut outcomes) = (0, BTreeMap::<String, usize>::new());
    while asked_in_all < cases {
        let offered: Vec<_> = [PROVIDERS[0], PROVIDERS[1]]
            .iter()
            .flat_map(|provider| [(*provider, "echo.v1.Echo"), (*provider, "echo.v1.Ech")])
            .filter(|_| random.below(4) > 0)
            .collect();
        let services = offered.iter().map(|(provider, name)| {
            Service::new(provider.parse().unwrap(), (*name).to_owned(), "127.0.0.1:1".into(), None)
        });
        let services = Services::new(services).unwrap();
        let disk = Faulty::new();
        let mut rights = rights(&disk, &key, true);
        let mut grants = BTreeMap::new();
        for _ in 0..1 + random.below(14) {
            let granted = rights.dangerously_grant(random.proposal(&CONSUMERS, &PROVIDERS, NOW), NOW).await.unwrap();
            grants.insert(granted.number.0, Grant::clone(&granted));
            if random.below(5) == 0 {
                rights.end(granted.number, "a test".into(), NOW).await.unwrap();
                grants.remove(&granted.number.0);
            }
        }
        for round in 0..100 {
            if round == 50 {
                // The grants are those of the log, before and after a restart.
                drop(rights);
                rights = self::rights(&disk, &key, false);
            }
            let asked = random.asked(&CONSUMERS, &PROVIDERS);
            // Any hour around now, or an edge of a grant's time, or a millisecond before it.
            let now = match grants.values().nth(random.below(20)) {
                None => NOW.plus(random.below(200) as u32 * HOUR).minus(100 * HOUR),
                Some(grant) => {
                    let edge = if random.below(2) == 0 { grant.valid_from } else { grant.valid_until };
                    Time::from_millis(edge - random.below(2) as u64)
                }
            };
            let expected = by_the_rules(&grants, &offered, &asked, now);
            let why = rights.why(&services, &asked.question(), now).map(|grant| grant.number.0);
            let door = match rights.look_up(&services, &asked.header(), now) {
                Looked::Granted(granted) => Ok(granted.number().0),
                Looked::Refused(code) => Err(code),
            };
            assert_eq!(why, expected, "access why: {asked:?} at {now} of {grants:#?}");
            assert_eq!(door, expected, "the door: {asked:?} at {now} of {grants:#?}");
            *outcomes.entry(expected.map_or_else(|code| code.to_string(), |_| "allowed".into())).or_default() += 1;
            asked_in_all += 1;
        }
    }
    println!("{asked_in_all} questions: {outcomes:?}");
    for outcome in ["allowed", "GRANT_MISSING", "GRANT_PURPOSE", "GRANT_EXPIRED", "SERVICE_UNKNOWN"] {
        let often = outcomes.get(outcome).copied().unwrap_or_default();
        assert!(often * 50 > asked_in_all, "{outcome} came {often} times: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_grant_ends_for_a_reason_on_one_line_and_for_no_other() {
    let (disk, key) = (Faulty::new(), Arc::new(SigningKey::generate().0));
    let rights = rights(&disk, &key, true);
    let granted = rights.dangerously_grant(Random::seeded(5).proposal(&CONSUMERS, &PROVIDERS, NOW), NOW).await.unwrap();
    for reason in [String::new(), "x".repeat(501), "one\nother".to_owned()] {
        let refused = rights.end(granted.number, reason, NOW).await.unwrap_err().to_string();
        assert!(refused.contains("1 to 500 bytes, on one line"), "{refused}");
        assert_eq!(rights.list().len(), 1);
    }
    rights.end(granted.number, "x".repeat(500), NOW).await.unwrap();
    assert!(rights.list().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_random_questions_are_answered_alike_at_the_operators_door_and_at_the_peers_door() {
    let mut random = Random::seeded(4);
    let mut outcomes = BTreeMap::<String, usize>::new();
    let (consumers, providers) = (&CONSUMERS[..OF_THE_PORTAL], &PROVIDERS[..2]);
    for _ in 0..6 {
        let mut world = World::without_grants().await;
        world.publish(
            |members| {
                for (name, subsystems) in [("portal", consumers), ("moj", providers)] {
                    let member = members.get_mut(name).unwrap();
                    let hosted = |id: &&str| SubsystemDocument {
                        subsystem: id.parse().unwrap(),
                        servers: vec![member.server.clone()],
                    };
                    member.document.subsystems = subsystems.iter().map(hosted).collect();
                }
            },
            Vec::new(),
        );
        let rights = &world.servers["moj"].server.access_rights;
        for _ in 0..12 {
            let granted = rights
                .dangerously_grant(random.proposal(consumers, providers, world.now()), world.now())
                .await
                .unwrap();
            if random.below(5) == 0 {
                rights.end(granted.number, "a test".into(), world.now()).await.unwrap();
            }
        }
        let rogue = Rogue::of(&world, "portal");
        let mut client = rogue.connect(&world, "moj").await;
        // No more than may be refused in a burst.
        for round in 0..60 {
            if round % 12 == 11 {
                world.set_time(world.now().plus(8 * HOUR));
            }
            let asked = random.asked(consumers, providers);
            let mut draft = rogue.opening(&world);
            draft.facts.route.consumer = asked.consumer.clone();
            draft.facts.route.provider = asked.provider.clone();
            draft.facts.route.operation = Operation::Grpc(asked.path.clone());
            draft.facts.opening = Some(Opening { purpose: asked.purpose.clone(), ..Default::default() });
            let answer = rogue::say(&mut client, &rogue.seal(draft).await).await;
            assert_eq!(answer.refusal(), None, "it is an answer with a seal: {asked:?}");
            let door = rogue::sealed_refusal(&answer).map(|code| code.to_string());

            let Asked { consumer, provider, path, purpose } = &asked;
            let why = format!("/v1/access/why?consumer={consumer}&provider={provider}&method={path}&purpose={purpose}");
            let why = operator::get(world.servers["moj"].operators, &why).await;
            assert_eq!(why["allowed"], door.is_none(), "{asked:?}: {why}");
            assert_eq!(why["code"].as_str(), door.as_deref(), "{asked:?}: {why}");
            *outcomes.entry(door.unwrap_or_else(|| "allowed".into())).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    for outcome in ["allowed", "GRANT_MISSING", "GRANT_PURPOSE", "GRANT_EXPIRED", "SERVICE_UNKNOWN"] {
        assert!(outcomes.contains_key(outcome), "{outcome}: {outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_why_says_so_when_the_configuration_has_expired() {
    let world = World::new().await;
    let (consumer, provider) = (&world.members["portal"].subsystem, &world.members["moj"].subsystem);
    let why =
        format!("/v1/access/why?consumer={consumer}&provider={provider}&method=/echo.v1.Echo/Unary&purpose=testing");
    assert_eq!(operator::get(world.servers["moj"].operators, &why).await["allowed"], true);
    world.set_time(world.now().plus(73 * HOUR));
    assert_eq!(operator::get(world.servers["moj"].operators, &why).await["code"], "CONFIGURATION_EXPIRED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_rate_is_used_up_hides_no_other() {
    let world = World::without_grants().await;
    world.grant_as(Proposal { per_second: Some(1), ..world.proposal(&["Unary"]) }).await;
    world.grant(&["Unary"]).await;
    let mut client = world.raw().await;
    for _ in 0..30 {
        let answer = client.call(world.post("Unary"), raw::message(&tests::echo::said(""))).await;
        assert_eq!(answer.refusal(), None, "the other grant has no rate");
    }
}
