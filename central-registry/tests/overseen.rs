//! What the registry believes of grants, and from whom (PROTOCOL.md 20): the providers' own signed documents, told by a server that
//! hosts the provider. A report that adds nothing is not recorded, and what is recorded outlives a restart.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

#[allow(dead_code, reason = "an office does more than this")]
#[path = "registration/office.rs"]
mod office;

use std::time::Duration;

use central_registry::audit;
use central_registry::configuration::Configuration;
use central_registry::oversight::{MAX_REPORTS_A_MINUTE, UNUSED_DAYS};
use journal::Directory;
use office::{Applicant, Office};
use proto::access::{AccessAcceptance, Grant, GrantEnd, GrantNumber, RequestDigest, SignedDocument};
use proto::digest::Digest;
use proto::identifier::ServerId;
use proto::oversight::{Day, Documents, GrantsReport, GrantsWanted, Reported};
use proto::registration::{Order, Registered};
use proto::signature::{SigningKey, purpose};
use proto::time::Time;
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use registry_client::OversightClient;
use tonic::{Code, Status};

const DAY: Duration = Duration::from_secs(86_400);

/// A registered server with its keys, and what its member's subsystem is called.
struct Agency {
    server: ServerId,
    subsystem: String,
    key: SigningKey,
}

impl Agency {
    async fn registered(office: &Office, name: &str, server: &str) -> Self {
        let (member, subsystem) = (format!("VN/GOV/{name}"), format!("VN/GOV/{name}/data"));
        let server = format!("{member}/{server}");
        let named = office::invitation(&member, Some("An agency"), &server, &[&subsystem]);
        let invited = match office.admin.invite(&named).await {
            Ok(invited) => invited,
            Err(_) => office.admin.invite(&office::invitation(&member, None, &server, &[&subsystem])).await.unwrap(),
        };
        let mut applicant = Applicant::new(&invited.token);
        applicant.application.member = member.parse().unwrap();
        applicant.application.server = server.parse().unwrap();
        let receipt = office.apply(applicant.request()).await.unwrap();
        office.approve(&receipt.request).await;
        Self { server: server.parse().unwrap(), subsystem, key: applicant.signing }
    }

    fn grant(&self, to: &Agency, number: u64, now: Time) -> Grant {
        Grant {
            number: GrantNumber(number),
            consumer: to.subsystem.parse().unwrap(),
            provider: self.subsystem.parse().unwrap(),
            methods: ["/civil.v1.Births/Register".to_owned()].into(),
            purposes: ["birth-registration".to_owned()].into(),
            legal_basis: "Law on civil status, article 13".into(),
            valid_from: now.as_millis(),
            valid_until: now.plus(100 * DAY).as_millis(),
            per_second: None,
            priority: Default::default(),
            request: Some(RequestDigest(Digest::of(&[b"a request"]))),
            fields: Default::default(),
        }
    }

    fn signed(&self, grant: &Grant) -> SignedDocument {
        SignedDocument::sign(purpose::GRANT, serde_json::to_vec(grant).unwrap(), &self.key)
    }

    fn ends(&self, grant: &SignedDocument, now: Time) -> SignedDocument {
        let end = GrantEnd {
            grant: grant.digest(),
            server: self.server.clone(),
            time: now,
            reason: "the law changed".into(),
        };
        SignedDocument::sign(purpose::GRANT_END, end.to_bytes(), &self.key)
    }

    fn accepts(&self, grant: &SignedDocument, now: Time) -> SignedDocument {
        let request = RequestDigest(Digest::of(&[b"a request"]));
        let acceptance = AccessAcceptance { request, grant: grant.digest(), server: self.server.clone(), time: now };
        SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, acceptance.to_bytes(), &self.key)
    }

    fn report(&self, now: Time, grants: Vec<Reported>) -> GrantsReport {
        let mut grants = grants;
        grants.sort_by_key(|grant| grant.name);
        GrantsReport { instance: "VN".parse().unwrap(), server: self.server.clone(), time: now, grants }
    }
}

/// The grant alone, made at this agency's server.
fn whole(agency: &Agency, grant: &SignedDocument) -> Reported {
    let documents = Documents { server: agency.server.clone(), grant: grant.clone(), end: None, acceptance: None };
    Reported { name: grant.digest(), ended: false, countersigned: false, last_used: None, documents: Some(documents) }
}

fn with(reported: Reported, end: Option<SignedDocument>, acceptance: Option<SignedDocument>) -> Reported {
    let documents = reported.documents.map(|it| Documents { end: end.clone(), acceptance: acceptance.clone(), ..it });
    Reported { ended: end.is_some(), countersigned: acceptance.is_some(), documents, ..reported }
}

struct Ministry {
    office: Office,
    moj: Agency,
    portal: Agency,
}

impl Ministry {
    async fn open() -> Self {
        let office = Office::of(&["binh:security-officer", "chi:auditor"], 1).await;
        let (moj, portal) =
            (Agency::registered(&office, "moj", "ss1").await, Agency::registered(&office, "portal", "ss1").await);
        Self { office, moj, portal }
    }

    fn now(&self) -> Time {
        (self.office.admin.clock)()
    }

    async fn tell(&self, signed: wire::SignedReport) -> Result<wire::ReportTaken, Status> {
        OversightClient::new(self.office.channel().await).report(signed).await.map(tonic::Response::into_inner)
    }

    async fn moj_tells(&self, grants: Vec<Reported>) -> wire::ReportTaken {
        self.tell(self.moj.report(self.now(), grants).sign(&self.moj.key)).await.unwrap()
    }

    async fn seen(&self, wanted: GrantsWanted) -> Vec<wire::OverseenGrant> {
        let Answer::Grants(grants) = self.office.admin.submit(&Order::ListGrants(wanted)).await.unwrap() else {
            panic!("grants were asked for")
        };
        assert_eq!(grants.more, 0);
        grants.grants
    }

    async fn all(&self) -> Vec<wire::OverseenGrant> {
        self.seen(GrantsWanted { over: true, ..GrantsWanted::default() }).await
    }

    /// How many entries the journal has that tell of grants.
    fn recorded(&self) -> usize {
        let mut count = 0;
        let disk = Directory(self.office.path().join("journal"));
        journal::read(&disk, None, &mut |entry| {
            count += usize::from(String::from_utf8_lossy(&entry.record.body()).contains("grants_told"));
        })
        .unwrap();
        count
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_asked_for_by_name_recorded_once_and_outlives_a_restart() {
    let it = Ministry::open().await;
    let grant = it.moj.signed(&it.moj.grant(&it.portal, 1, it.now()));
    let complete = with(whole(&it.moj, &grant), None, Some(it.portal.accepts(&grant, it.now())));
    let by_name = Reported { documents: None, ..complete.clone() };
    let taken = it.moj_tells(vec![by_name.clone()]).await;
    assert_eq!((taken.lacks, it.recorded()), (vec![grant.digest().to_wire()], 0));
    let taken = it.moj_tells(vec![complete.clone()]).await;
    assert!(taken.lacks.is_empty() && taken.not_believed.is_empty(), "{taken:?}");
    let seen = it.all().await;
    let [shown] = &seen[..] else { panic!("one grant: {seen:?}") };
    assert_eq!((shown.consumer.as_str(), shown.provider.as_str()), ("VN/GOV/portal/data", "VN/GOV/moj/data"));
    assert_eq!((shown.standing.as_str(), shown.countersigned, shown.last_used.as_str()), ("in force", true, ""));
    assert_eq!(shown.legal_basis, "Law on civil status, article 13");

    // The same again adds nothing, with its documents or without: nothing is recorded.
    for again in [by_name.clone(), complete] {
        let taken = it.moj_tells(vec![again]).await;
        assert!(taken.lacks.is_empty() && taken.not_believed.is_empty(), "{taken:?}");
    }
    assert_eq!(it.recorded(), 1);

    // Used; and an earlier day afterwards, as another server of the member might say, takes nothing back.
    let today = Day::of(it.now());
    for (day, recorded) in [(today, 2), (Day(today.0 - 1), 2), (today, 2)] {
        it.moj_tells(vec![Reported { last_used: Some(day), ..by_name.clone() }]).await;
        assert_eq!((it.all().await[0].last_used.clone(), it.recorded()), (today.to_string(), recorded));
    }
    // Its end is asked for by name, too.
    let ended = Reported { ended: true, ..by_name };
    assert_eq!(it.moj_tells(vec![ended.clone()]).await.lacks, [grant.digest().to_wire()]);
    it.moj_tells(vec![with(whole(&it.moj, &grant), Some(it.moj.ends(&grant, it.now())), None)]).await;
    assert!(it.moj_tells(vec![ended]).await.lacks.is_empty());
    assert!(it.seen(GrantsWanted::default()).await.is_empty(), "what ended is shown where it is asked for");
    let before = it.all().await;
    let shown = &before[0];
    assert_eq!((shown.standing.as_str(), shown.reason.as_str()), ("ended", "the law changed"));
    assert!(shown.countersigned && shown.last_used == today.to_string(), "what was known stays: {shown:?}");

    // From the view, and from the journal alone.
    let Ministry { office, moj, portal } = it;
    let it = Ministry { office: office.restarted(|_| {}).await, moj, portal };
    assert_eq!(it.all().await, before);
    let Ministry { office, moj, portal } = it;
    let office = office.restarted(|directory| std::fs::remove_dir_all(directory.join("view")).unwrap()).await;
    let it = Ministry { office, moj, portal };
    assert_eq!(it.all().await, before);
    let configuration = Configuration::read(&it.office.path().join("central-registry.toml")).unwrap();
    it.office.running.shutdown().await;
    audit::verify(&configuration, None, &[]).unwrap().holds().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_not_its_servers_own_of_just_now_is_refused_whole() {
    let it = Ministry::open().await;
    let grant = it.moj.signed(&it.moj.grant(&it.portal, 1, it.now()));
    let report = |now| it.moj.report(now, vec![whole(&it.moj, &grant)]);
    let good = report(it.now());
    let stranger = Applicant::new(&proto::registration::Token::from_bytes([1; 32])).signing;
    let other = GrantsReport { instance: "LA".parse().unwrap(), ..good.clone() };
    let unknown = GrantsReport { server: "VN/GOV/moj/ss9".parse().unwrap(), ..good.clone() };
    let altered =
        wire::SignedReport { report: report(it.now().plus(DAY)).sign(&it.moj.key).report, ..good.sign(&it.moj.key) };
    let cases = [
        ("by another member's server", good.sign(&it.portal.key), Code::Unauthenticated, "key"),
        ("by nobody", good.sign(&stranger), Code::Unauthenticated, "key"),
        ("altered", altered, Code::Unauthenticated, "signature"),
        ("of another instance", other.sign(&it.moj.key), Code::InvalidArgument, "LA"),
        ("of no server", unknown.sign(&it.moj.key), Code::NotFound, "VN/GOV/moj/ss9"),
        ("of yesterday", report(it.now().minus(DAY)).sign(&it.moj.key), Code::Unauthenticated, "clock"),
    ];
    for (what, signed, code, said) in cases {
        let status = it.tell(signed).await.unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status}");
        assert!(status.message().contains(said), "{what}: {}", status.message());
    }
    assert!(it.all().await.is_empty() && it.recorded() == 0);
    it.tell(good.sign(&it.moj.key)).await.unwrap();
    assert_eq!(it.all().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_not_tell_or_nobody_signed_is_named_and_not_taken_and_the_rest_is() {
    let it = Ministry::open().await;
    let (moj, portal, now) = (&it.moj, &it.portal, it.now());
    let good = moj.signed(&moj.grant(portal, 1, now));
    let foreign = portal.signed(&portal.grant(moj, 1, now));
    let forged = portal.signed(&moj.grant(portal, 2, now));
    let over = moj.signed(&Grant { valid_until: now.as_millis(), ..moj.grant(portal, 3, now) });
    let tomorrow = moj.signed(&moj.grant(portal, 4, now));
    let used = Some(Day(Day::of(now).0 + 1));
    let no_grant = SignedDocument::sign(purpose::GRANT, b"{}".to_vec(), &moj.key);
    let cases = [
        (whole(portal, &foreign), "does not host its provider"),
        (whole(moj, &forged), "no key of its provider's member"),
        (whole(portal, &good), "no key of its provider's member"),
        (whole(moj, &over), "its time is over"),
        (Reported { last_used: used, ..whole(moj, &tomorrow) }, "still to come"),
        (whole(moj, &no_grant), "is no grant"),
    ];
    for (reported, why) in cases {
        let name = reported.name.to_wire();
        let taken = it.moj_tells(vec![reported]).await;
        let [refused] = &taken.not_believed[..] else { panic!("{why}: {taken:?}") };
        assert!(refused.grant == name && refused.why.contains(why), "{why}: {}", refused.why);
    }
    assert!(it.all().await.is_empty() && it.recorded() == 0);

    // An end and an acceptance of others leave the grant itself believed.
    let (end, acceptance) = (portal.ends(&good, now), moj.accepts(&good, now));
    let forged = whole(moj, &forged);
    let taken = it.moj_tells(vec![with(whole(moj, &good), Some(end), Some(acceptance)), forged]).await;
    let why: Vec<&str> = taken.not_believed.iter().map(|refused| refused.why.as_str()).collect();
    assert!(
        why.len() == 3 && why.iter().any(|why| why.contains("end")) && why.iter().any(|why| why.contains("acceptance")),
        "{why:?}"
    );
    let seen = it.all().await;
    assert!(seen.len() == 1 && seen[0].standing == "in force" && !seen[0].countersigned, "{seen:?}");

    // Another server's word of a grant that is known: neither its end nor its use.
    let theirs = portal.report(
        now,
        vec![Reported { last_used: Some(Day::of(now)), ..with(whole(moj, &good), Some(moj.ends(&good, now)), None) }],
    );
    let taken = it.tell(theirs.sign(&portal.key)).await.unwrap();
    assert!(taken.not_believed[0].why.contains("does not host"), "{taken:?}");
    assert_eq!(it.all().await, seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unused_or_expiring_is_shown_so_by_the_day_and_the_list_narrows() {
    let it = Ministry::open().await;
    let (moj, portal, now) = (&it.moj, &it.portal, it.now());
    let short = moj.signed(&moj.grant(portal, 1, now));
    let lasting = Grant {
        valid_until: now.plus(3000 * DAY).as_millis(),
        purposes: ["marriage".to_owned()].into(),
        request: None,
        ..moj.grant(portal, 2, now)
    };
    let lasting = moj.signed(&lasting);
    let used = Reported { last_used: Some(Day(Day::of(now).0 + 30)), ..whole(moj, &lasting) };
    it.moj_tells(vec![whole(moj, &short), whole(moj, &lasting)]).await;
    let numbers =
        async |wanted: GrantsWanted| -> Vec<u64> { it.seen(wanted).await.iter().map(|grant| grant.number).collect() };
    let all = GrantsWanted::default;
    let (unused, expiring) = (|| GrantsWanted { unused: true, ..all() }, || GrantsWanted { expiring: true, ..all() });
    assert_eq!(numbers(all()).await, [1, 2]);
    let party = |text: &str| Some(text.parse().unwrap());
    assert_eq!(numbers(GrantsWanted { provider: party("VN/GOV/moj"), ..all() }).await, [1, 2]);
    assert_eq!(numbers(GrantsWanted { provider: party("VN/GOV/portal"), ..all() }).await, [0; 0]);
    assert_eq!(numbers(GrantsWanted { consumer: party("VN/GOV/portal/data"), ..all() }).await, [1, 2]);
    assert_eq!(numbers(GrantsWanted { purpose: Some("marriage".parse().unwrap()), ..all() }).await, [2]);

    let to = |days: u32| it.office.time.store(now.plus(days * DAY).as_millis(), std::sync::atomic::Ordering::SeqCst);
    to(30);
    it.tell(moj.report(it.now(), vec![used]).sign(&moj.key)).await.unwrap();
    to(69);
    assert_eq!((numbers(expiring()).await, numbers(unused()).await), (vec![], vec![]));
    to(70);
    assert_eq!(numbers(expiring()).await, [1], "30 days before its end");
    to(UNUSED_DAYS - 1);
    assert_eq!(numbers(unused()).await, [0; 0]);
    to(UNUSED_DAYS);
    assert_eq!(numbers(unused()).await, [1], "never used, from the day on which it began");
    to(100);
    assert_eq!(numbers(all()).await, [2], "the other expired");
    assert_eq!(it.all().await[0].standing, "expired");
    to(30 + UNUSED_DAYS);
    assert_eq!(numbers(unused()).await, [2], "from its last use");

    // Every role may look, and whoever has none may not.
    for name in ["binh", "chi"] {
        it.office.person(name).submit(&Order::ListGrants(all())).await.unwrap();
    }
    let mut stranger = it.office.person("chi");
    stranger.key = SigningKey::generate().0;
    let (code, why) = office::refusal(stranger.submit(&Order::ListGrants(all())).await);
    assert!(code == Code::Unauthenticated && why.contains("no admin"), "{why}");

    // Of a provider that is gone nothing is shown.
    let removed = Order::Remove(Registered::Subsystem(moj.subsystem.parse().unwrap()), "merged".parse().unwrap());
    it.office.admin.submit(&removed).await.unwrap();
    assert!(it.all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_known_though_the_server_that_made_the_grant_is_gone() {
    let it = Ministry::open().await;
    let second = Agency::registered(&it.office, "moj", "ss2").await;
    let grant = second.signed(&second.grant(&it.portal, 1, it.now()));
    let told = whole(&second, &grant);
    it.moj_tells(vec![told.clone()]).await;
    let removed = Order::Remove(Registered::Server(second.server.clone()), "its disk is gone".parse().unwrap());
    it.office.admin.submit(&removed).await.unwrap();
    let taken = it.moj_tells(vec![with(told, Some(it.moj.ends(&grant, it.now())), None)]).await;
    assert!(taken.not_believed.is_empty(), "{taken:?}");
    assert_eq!(it.all().await[0].standing, "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_reports_without_end_is_told_to_wait() {
    let it = Ministry::open().await;
    let signed = it.moj.report(it.now(), Vec::new()).sign(&it.moj.key);
    let mut client = OversightClient::new(it.office.channel().await);
    for _ in 0..MAX_REPORTS_A_MINUTE {
        client.report(signed.clone()).await.unwrap();
    }
    let status = client.report(signed).await.unwrap_err();
    assert!(status.code() == Code::ResourceExhausted && status.message().contains("in a minute"), "{status}");
    let theirs = it.portal.report(it.now(), Vec::new()).sign(&it.portal.key);
    it.tell(theirs).await.unwrap();
    it.office.pass(Duration::from_secs(60));
    it.moj_tells(Vec::new()).await;
}
