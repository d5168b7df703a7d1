//! The same unary calls with fewer and with all cores: `taskset` (of util-linux) holds the bench, and so all that it starts, to the first of
//! them. The load and the service have no others either: read the figures beside nginx's, which had the same.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::figures::{self, rounded};

/// What is measured of cores.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many cores, a row of the table for each. None: one, and all that there are.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Callers at once.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// How often each stack has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that are counted of each turn.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these of causeway, nginx and haproxy.
    #[arg(long, default_value = "causeway,nginx")]
    stacks: String,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures, and prints.
pub async fn run(arguments: Arguments, itself: PathBuf) {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cores = arguments.cores.clone();
    if cores.is_empty() {
        cores = vec![1, all];
        cores.dedup();
    }
    let mut runs = Vec::new();
    for count in cores {
        assert!((1..=all).contains(&count), "--cores {count}: there are {all}");
        eprintln!("with {count} of {all} cores");
        runs.push((count, held_to(count, &arguments, &itself).await));
    }
    let told = runs.iter().map(|(count, told)| {
        json!({ "cores": count, "figures": told["figures"], "ratios": told["ratios"], "times_first": grown(told, &runs[0].1) })
    });
    let told = json!({ "cores": told.collect::<Vec<_>>(), "machine": figures::machine() });
    if arguments.json {
        println!("{told}");
    } else {
        print!("{}", as_table(&told));
    }
}

async fn held_to(count: usize, arguments: &Arguments, itself: &PathBuf) -> Value {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(format!("0-{}", count - 1)).arg(itself).args([
        "relay",
        "--json",
        "--stacks",
        &arguments.stacks,
    ]);
    command.arg("--at-once").arg(arguments.at_once.to_string()).arg("--rounds").arg(arguments.rounds.to_string());
    command.arg("--seconds").arg(arguments.seconds.to_string());
    if let Some(programs) = &arguments.programs {
        command.arg("--programs").arg(programs);
    }
    let ended = command.stderr(Stdio::inherit()).kill_on_drop(true).output().await;
    let ended = ended.unwrap_or_else(|error| panic!("taskset: {error} (Debian: apt-get install util-linux)"));
    assert!(ended.status.success(), "the bench with {count} cores: {}", ended.status);
    serde_json::from_slice(&ended.stdout).unwrap()
}

/// The figures of each stack by name.
fn stacks(told: &Value) -> impl Iterator<Item = (&String, &Value)> {
    told["figures"].as_object().into_iter().flatten().filter_map(|(_, of)| of.as_object()).flatten()
}

fn calls(of_stack: &Value) -> f64 {
    of_stack["calls_per_second"].as_f64().unwrap_or(f64::NAN)
}

/// Of each stack, its calls a second beside those of the first run.
fn grown(told: &Value, first: &Value) -> Value {
    let times = stacks(told).filter_map(|(name, now)| {
        let (_, then) = stacks(first).find(|(is, _)| *is == name)?;
        Some((name.clone(), json!(rounded(calls(now) / calls(then)))))
    });
    Value::Object(times.collect())
}

fn as_table(told: &Value) -> String {
    let mut table = format!("{:>5} {:<9} {:>8} {:>8} {:>10}\n", "cores", "stack", "calls/s", "p99 us", "x first");
    for run in told["cores"].as_array().into_iter().flatten() {
        for (name, of_stack) in stacks(run) {
            let of = |name: &str| of_stack[name].to_string();
            let times = run["times_first"][name].to_string();
            table += &format!(
                "{:>5} {name:<9} {:>8} {:>8} {times:>10}\n",
                run["cores"].to_string(),
                of("calls_per_second"),
                of("p99_us")
            );
        }
    }
    table
}
