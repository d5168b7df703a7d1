//! What publishing costs where much is listed already: the real registry, over a journal with so many services whose fields carry
//! elements, and one member that publishes a form.

use std::path::PathBuf;
use std::time::Instant;

use central_registry::command::AdminFile;
use prost::Message;
use proto::catalogue::{Entry, Version};
use proto::digest::Digest;
use proto::identifier::{MemberId, ServerId, SubsystemId};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::{ElementsRequest, FindRequest, PublishRequest, ReuseRequest};
use registry_client::CatalogueClient;
use security_server::announce::compiled;
use serde_json::json;

use super::figures::{self, median, rounded};
use super::national::populate::{Filled, passphrase, shared_element, subsystem};
use super::national::{epoch_us, load, milliseconds, patiently};
use crate::processes::{Instance, programs_stand_in};

/// What is measured of publishing.
#[derive(clap::Args)]
pub struct Arguments {
    /// Members, each with a server of its own.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// Services that are listed already, spread over the members. Each is the source of an element, takes and asks for others.
    #[arg(long, default_value_t = 100_000)]
    services: usize,
    /// Publications, each of a new version.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Where `central-registry` stands. It is built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Measures, and prints.
pub async fn run(arguments: Arguments) {
    if let Some(programs) = arguments.programs.clone() {
        programs_stand_in(programs.canonicalize().expect("--programs is a directory"));
    }
    let load_before = load();
    let instance = Instance::founded().await;
    let began = Instant::now();
    let mut filled = Filled::open(&instance, &passphrase(&instance));
    let mut publisher = None;
    for number in 0..arguments.members {
        let (member, key) = filled.enter(number, 1).await;
        let of_it =
            arguments.services / arguments.members + usize::from(number < arguments.services % arguments.members);
        filled.list(&member, number, of_it, &key).await;
        publisher.get_or_insert(Publisher { member, key, round: 0 });
    }
    filled.close();
    let mut publisher = publisher.expect("there is a member");
    eprintln!("entered in {:.0?}", began.elapsed());
    let began = Instant::now();
    let mut registry = instance.start_registry(None);
    patiently(&mut registry, "listening ").await;
    let start_ms = milliseconds(began.elapsed());
    let memory_mb = rounded(figures::resident_mb(registry.id()));

    let profile = AdminFile::read(&instance.path("registry/admin-admin.toml")).unwrap();
    let channel = registry_client::connect(&profile.registry, profile.fingerprint).await.unwrap();
    let mut client = CatalogueClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    let (mut lint, mut publish, mut refuse, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut find, mut elements, mut report) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        publisher.round += 1;
        let refused =
            publisher.request(&instance, FORM.replace("OTHERS", &shared_element(1)).replace(REASON, ""), false);
        let began = Instant::now();
        let status = client.publish(refused).await.unwrap_err();
        refuse.push(milliseconds(began.elapsed()));
        assert!(status.message().contains("ONCE001"), "{status}");
        let form = FORM.replace("OTHERS", &shared_element(1));
        let rehearsed = publisher.request(&instance, form.clone(), true);
        let began = Instant::now();
        let answer = client.publish(rehearsed).await.unwrap().into_inner();
        lint.push(milliseconds(began.elapsed()));
        assert!(answer.remarks[0].contains("ONCE001"), "{answer:?}");
        let (listed, used) = (publisher.request(&instance, form, false), figures::cpu_us(registry.id()));
        let began = Instant::now();
        client.publish(listed).await.unwrap();
        publish.push(milliseconds(began.elapsed()));
        cpu.push((figures::cpu_us(registry.id()) - used) / 1000.0);
        let began = Instant::now();
        let query = "a form of the bench".to_owned();
        let found = client.find(FindRequest { query, element: String::new() }).await.unwrap().into_inner();
        find.push(milliseconds(began.elapsed()));
        assert_eq!(found.entries.len(), 1);
        let began = Instant::now();
        let found = client.elements(ElementsRequest { duplicates: true, ..Default::default() }).await.unwrap();
        elements.push(milliseconds(began.elapsed()));
        assert!(!found.into_inner().elements.is_empty());
        let began = Instant::now();
        let found = client.reuse(ReuseRequest::default()).await.unwrap().into_inner();
        report.push(milliseconds(began.elapsed()));
        assert!(found.sum.unwrap().again > 0);
    }
    let of = |values: Vec<f64>| json!(rounded(median(values)));
    let told = json!({
        "members": arguments.members,
        "services": arguments.services,
        "machine": {
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "optimised": !cfg!(debug_assertions),
            "load_before": load_before,
            "load_after": load(),
            "sync_us": rounded(figures::sync_us()),
        },
        "registry": { "start_ms": start_ms, "memory_mb": memory_mb },
        "lint_ms": of(lint),
        "refused_ms": of(refuse),
        "publish_ms": of(publish),
        "publish_registry_cpu_ms": of(cpu),
        "find_ms": of(find),
        "duplicates_ms": of(elements),
        "report_ms": of(report),
    });
    println!("{told:#}");
}

const REASON: &str = ", (causeway.reason_to_collect) = \"a bench\"";
const FORM: &str = r#"
syntax = "proto3";
package bench.v1;
import "causeway/options.proto";
// A form of the bench, ROUND.
service Forms { rpc File(Form) returns (Filed); }
message Form {
  string others = 1 [(causeway.element) = "OTHERS", (causeway.collected) = true, (causeway.reason_to_collect) = "a bench"];
  string own = 2 [(causeway.element) = "bench.own", (causeway.collected) = true];
}
message Filed { string number = 1 [(causeway.element) = "bench.number", (causeway.authoritative) = true]; }
"#;

struct Publisher {
    member: MemberId,
    key: SigningKey,
    round: u32,
}

impl Publisher {
    fn request(&self, instance: &Instance, form: String, dry_run: bool) -> PublishRequest {
        let directory = instance.path("form");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("form.proto"), form.replace("ROUND", &self.round.to_string())).unwrap();
        let announced = compiled(&[directory.join("form.proto")], &[directory]).unwrap();
        let descriptors = catalogue::reduced(&announced.descriptors, &announced.services).unwrap();
        let said = catalogue::Described::read(&descriptors).unwrap().said_of("bench.v1.Forms").unwrap();
        let subsystem: SubsystemId = subsystem(&self.member, 0);
        let server: ServerId = format!("{}/ss1", self.member).parse().unwrap();
        let entry = Entry {
            subsystem,
            service: "bench.v1.Forms".parse().unwrap(),
            version: Version { major: 1, minor: self.round },
            server,
            time: Time::from_millis(epoch_us() / 1000),
            form: proto::catalogue::ServiceForm::Grpc,
            descriptors: Digest::of(&[&descriptors]),
            title: "Forms".parse().unwrap(),
            description: said.description,
            contact: "bench@example".parse().unwrap(),
            open_to: Default::default(),
            deprecated: None,
            methods: said.methods,
            elements: said.elements,
            dry_run,
        };
        let request = PublishRequest { entries: vec![entry.sign(&self.key)], descriptors: descriptors.into() };
        assert!(request.encoded_len() > 0);
        request
    }
}
