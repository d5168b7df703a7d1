//! More calls than can be carried: the capacity is found first, then calls begin when they are due, at so many times of it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::{self, rounded};
use super::load::{Answered, Asked, load};
use super::relay::served_by;
use super::stacks::Stack;
use crate::processes::programs_stand_in;

/// What is measured of overload.
#[derive(clap::Args)]
pub struct Arguments {
    /// Of the capacity, so many times; a row of the table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 1.0, 3.0])]
    times: Vec<f64>,
    /// Callers at once by whom the capacity is found.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Seconds that are counted of each.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of each message, both ways.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// As many connections as the load ever has: what a call waits for is no stream of its own.
const AS_MANY: usize = 1024;

/// Measures, and prints.
pub async fn run(arguments: Arguments, itself: PathBuf) {
    if let Some(programs) = arguments.programs.clone() {
        programs_stand_in(programs);
    }
    let (_service, address) = served_by(itself).await;
    let stack = Stack::causeway(address).await;
    let lasting = Duration::from_secs_f64(arguments.seconds);
    let asked = |at_once, rate| Asked { at_once, rate, bytes: arguments.bytes, warm: lasting.div_f64(2.0), lasting };
    eprintln!("one caller at a time");
    let idle = load(&stack.door, asked(1, None), || {}).await;
    eprintln!("{} callers at once", arguments.at_once);
    let full = load(&stack.door, asked(arguments.at_once, None), || {}).await;
    let capacity = full.each.len() as f64 / full.took.as_secs_f64();
    let mut rows = Vec::new();
    for times in &arguments.times {
        eprintln!("{times} times {capacity:.0} a second");
        let answered = load(&stack.door, asked(AS_MANY, Some(capacity * times)), || {}).await;
        rows.push(row(*times, capacity * times, &idle, &answered, &stack));
    }
    let told = json!({
        "idle": { "p50_us": share(&idle.each, 50), "p99_us": share(&idle.each, 99) },
        "capacity": rounded(capacity),
        "overload": rows,
        "machine": figures::machine(),
    });
    if arguments.json {
        println!("{told}");
    } else {
        print!("{}", as_table(&told));
    }
}

fn share(each: &[u32], of_hundred: usize) -> Value {
    each.len().checked_sub(1).map_or(Value::Null, |last| json!(each[last * of_hundred / 100]))
}

fn row(times: f64, rate: f64, idle: &Answered, answered: &Answered, stack: &Stack) -> Value {
    let took = answered.took.as_secs_f64();
    let p99 = |each: &[u32]| share(each, 99).as_f64();
    let bounds = stack.counts().into_iter().flatten().map(|counts| {
        let bound = counts.iter().find(|(name, _)| name.starts_with("causeway_exchanges_in_hand_bound"));
        bound.map_or(0.0, |(_, value)| *value)
    });
    json!({
        "times": times,
        "begun_per_second": rounded(rate),
        "answered_per_second": rounded(answered.each.len() as f64 / took),
        "refused_per_second": rounded(answered.refused.len() as f64 / took),
        "p50_us": share(&answered.each, 50),
        "p99_us": share(&answered.each, 99),
        "p99_times_idle": p99(&answered.each).zip(p99(&idle.each)).map(|(now, then)| rounded(now / then)),
        "refused_p99_us": share(&answered.refused, 99),
        "bounds": bounds.collect::<Vec<_>>(),
    })
}

fn as_table(told: &Value) -> String {
    let mut table = format!(
        "idle: p50 {} us, p99 {} us; {} calls a second with all callers\n{:>6} {:>8} {:>10} {:>10} {:>9} {:>9} {:>8} {:>13}\n",
        told["idle"]["p50_us"],
        told["idle"]["p99_us"],
        told["capacity"],
        "times",
        "begun/s",
        "answered/s",
        "refused/s",
        "p50 us",
        "p99 us",
        "x idle",
        "refused p99"
    );
    for row in told["overload"].as_array().into_iter().flatten() {
        let of = |name: &str| row[name].to_string();
        table += &format!(
            "{:>6} {:>8} {:>10} {:>10} {:>9} {:>9} {:>8} {:>13}\n",
            of("times"),
            of("begun_per_second"),
            of("answered_per_second"),
            of("refused_per_second"),
            of("p50_us"),
            of("p99_us"),
            of("p99_times_idle"),
            of("refused_p99_us")
        );
    }
    table
}
