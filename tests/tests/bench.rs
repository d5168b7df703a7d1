//! Each bench runs to its end, with small numbers and in a build for tests: its figures mean nothing here, and it cannot rot.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::time::Duration;

use serde_json::Value;
use tests::processes::program;
use tests::world::{PURPOSE, TOKEN, World};
use tokio::process::Command;

/// Longer than any of these takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(600);

async fn bench(line: &str) -> Value {
    let programs = program("security-server");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(line.split_whitespace()).arg("--json").arg("--programs").arg(programs.parent().unwrap());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect(line).unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(told: &Value, pointer: &str) -> f64 {
    told.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} is not in {told}"))
}

/// Whether what is compared with stands on this machine: the bench says so itself, and leaves it out.
fn is_installed(name: &str) -> bool {
    [name.to_owned(), format!("/usr/sbin/{name}")]
        .iter()
        .any(|path| std::process::Command::new(path).arg("-v").output().is_ok())
}

#[tokio::test]
async fn relay_measures_callers_who_wait() {
    let told = bench("relay --at-once 1,4 --rounds 1 --seconds 0.5").await;
    for at_once in ["1", "4"] {
        assert!(number(&told, &format!("/figures/{at_once}/causeway/calls_per_second")) > 0.0);
        assert!(number(&told, &format!("/figures/{at_once}/causeway/commits_per_call_consumer")) > 0.0);
        for name in ["nginx", "haproxy"].into_iter().filter(|name| is_installed(name)) {
            assert!(number(&told, &format!("/figures/{at_once}/{name}/calls_per_second")) > 0.0);
        }
        if is_installed("nginx") {
            assert!(number(&told, &format!("/ratios/{at_once}/calls_per_second")) > 0.0);
        }
    }
}

#[tokio::test]
async fn relay_measures_calls_that_begin_when_they_are_due() {
    let told = bench("relay --at-once 4 --rounds 1 --seconds 1 --rate 20 --stacks causeway").await;
    let answered = number(&told, "/figures/4/causeway/calls_per_second");
    assert!((1.0..=40.0).contains(&answered), "{answered} of 20 a second");
    assert_eq!(number(&told, "/figures/4/causeway/refused"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_measures_a_pair_of_servers_that_runs_already() {
    let world = World::new().await;
    let (door, service) = (world.servers["portal"].clients[0], &world.members["moj"].subsystem);
    let line = format!(
        "relay --door {door} --service {service} --purpose {PURPOSE} --token {TOKEN} --at-once 2 --rounds 1 --seconds 0.5"
    );
    let told = bench(&line).await;
    assert!(number(&told, "/figures/2/causeway/calls_per_second") > 0.0);
    world.quiet().await;
}

#[tokio::test]
async fn overload_finds_the_capacity_and_goes_beyond_it() {
    let told = bench("overload --times 0.5,3 --at-once 16 --seconds 1").await;
    assert!(number(&told, "/capacity") > 0.0 && number(&told, "/idle/p99_us") > 0.0);
    for row in ["0", "1"] {
        assert!(number(&told, &format!("/overload/{row}/answered_per_second")) > 0.0);
        assert!(number(&told, &format!("/overload/{row}/bounds/0")) >= 16.0);
    }
}

#[tokio::test]
async fn stream_measures_both_ways_at_each_stack() {
    let told = bench("stream --mib 1 --bytes 1024,1048576 --rounds 1").await;
    let streams = told["streams"].as_array().unwrap();
    let stacks = 1 + usize::from(is_installed("nginx"));
    assert_eq!(streams.len(), 4 * stacks, "{told}");
    assert!(streams.iter().all(|stream| number(stream, "/mb_per_second") > 0.0), "{told}");
}

#[tokio::test]
async fn idle_measures_connections_and_a_server_without_any() {
    let told = bench("idle --clients 50 --peers 20 --seconds 1").await;
    assert!(number(&told, "/alone/memory_mb") > 1.0);
    assert_eq!((number(&told, "/clients/connections"), number(&told, "/peers/connections")), (50.0, 20.0));
    assert!(number(&told, "/clients/cpu_ms_per_second") >= 0.0 && number(&told, "/peers/memory_mb") > 1.0);
}

#[tokio::test]
async fn connect_measures_a_start_and_many_others() {
    let told = bench("connect --members 20 --starts 1 --peers 1,3 --consumers 1,5 --calls 2").await;
    assert!(number(&told, "/start/ready_ms") > 0.0);
    for pointer in
        ["/calling/1/p99_us", "/calling/1/cpu_us_per_call", "/serving/1/p99_us", "/serving/1/calls_per_second"]
    {
        assert!(number(&told, pointer) > 0.0, "{pointer}");
    }
    assert_eq!((number(&told, "/calling/1/peers"), number(&told, "/serving/1/consumers")), (3.0, 5.0));
}

#[tokio::test]
async fn cores_measures_one_and_all() {
    if !std::process::Command::new("taskset").arg("-V").output().is_ok_and(|ended| ended.status.success()) {
        return println!("taskset is not installed: nothing is measured");
    }
    let told = bench("cores --at-once 2 --rounds 1 --seconds 0.5 --stacks causeway").await;
    assert!(number(&told, "/cores/0/figures/2/causeway/calls_per_second") > 0.0);
    assert_eq!(number(&told, "/cores/0/times_first/causeway"), 1.0);
}
