//! What it costs to hold a publication against so many services: `cargo run --release -p catalogue --example lint -- 100000`.
//!
//! Only the lint: no signature, no disk, no descriptors. Prints; asserts that the answers are right.

use std::sync::Arc;
use std::time::Instant;

use catalogue::once::{Elements, Offer, Rule};
use proto::catalogue::{ElementField, Part};

/// Services of one agency.
const OF_ONE: usize = 10;
/// How often each question is asked.
const ROUNDS: usize = 1_000;

fn main() {
    let services = std::env::args().nth(1).map_or(100_000, |count| count.parse().expect("a number of services"));
    let offers: Vec<(Offer, Vec<ElementField>)> = (0..services).map(service).collect();
    let mut elements = Elements::default();
    let began = Instant::now();
    offers.iter().for_each(|(offer, fields)| elements.list(offer, fields));
    println!("{services} services are listed in {:.0?}", began.elapsed());

    // A form that asks people for what ten agencies have, takes ten elements, and claims one that has a source.
    let form: Offer = Arc::new((
        "VN/GOV/form/form".parse().expect("a name of the grammar"),
        "form.v1.Forms".parse().expect("a name of the grammar"),
    ));
    let mut fields: Vec<_> = (0..10).map(|number| field("Form", number * 7 % services, Part::Collects)).collect();
    fields.extend((0..10).map(|number| field("Form", number * 11 % services, Part::Takes)));
    fields.push(field("Answer", services / 2, Part::Authoritative));
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let found = elements.findings(&form.0, &fields);
        assert_eq!(found.iter().filter(|finding| finding.rule == Rule::Once001).count(), 10);
        assert_eq!(found.iter().filter(|finding| finding.rule == Rule::Once002).count(), 1);
    }
    let each = began.elapsed() / u32::try_from(ROUNDS).expect("a thousand");
    println!("a publication with {} elements is judged in {each:.1?}", fields.len());

    let began = Instant::now();
    for _ in 0..ROUNDS {
        elements.list(&form, &fields);
        elements.forget(&form, &fields);
    }
    println!("it is listed and forgotten in {:.1?}", began.elapsed() / u32::try_from(ROUNDS).expect("a thousand"));
    let began = Instant::now();
    let again: u64 = offers.iter().map(|(offer, fields)| elements.asked(&offer.0, fields).again).sum();
    assert!(again > 0);
    println!("all services' reports are summed in {:.0?}", began.elapsed());
}

/// A service that is the source of one element, takes two and asks people for two, of which one has a source elsewhere.
fn service(number: usize) -> (Offer, Vec<ElementField>) {
    let agency = number / OF_ONE;
    let subsystem = format!("VN/GOV/agency-{agency:05}/services").parse().expect("a name of the grammar");
    let offer =
        Arc::new((subsystem, format!("agency{agency:05}.v1.Service{number}").parse().expect("a name of the grammar")));
    let fields = vec![
        field("Answer", number, Part::Authoritative),
        field("Asked", number / 2, Part::Takes),
        field("Asked", number / 3, Part::Takes),
        field("Asked", number / 5, Part::Collects),
        ElementField {
            element: format!("nobody.fact_{number}").parse().expect("a name of the grammar"),
            ..field("Asked", number, Part::Collects)
        },
    ];
    (offer, fields)
}

fn field(message: &str, number: usize, part: Part) -> ElementField {
    let element = format!("agency{:05}.fact_{number}", number / OF_ONE).parse().expect("a name of the grammar");
    ElementField { element, field: format!("a.v1.{message}.fact_{number}"), part, reason: None }
}
