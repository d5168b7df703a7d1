//! How many records a second the journal takes with 1, 16 and 128 waiting, each record signed before it is released. Prints,
//! asserts nothing: `cargo bench --workspace --bench append`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use journal::{Directory, Journal, Options, Owner, Tree, TreeIndex};
use proto::record::{Kind, Record};
use proto::signature::SigningKey;

const RUNS_FOR: Duration = Duration::from_secs(2);

fn main() {
    // Where the build is, not in memory: the sync is what is measured.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let owner = Owner { instance: "VN".parse().unwrap(), member: "VN/GOV/moj".into(), server: "VN/GOV/moj/ss1".into() };
    let tree = Tree { owner, key: Arc::new(SigningKey::generate().0) };
    let options = Options { first: true, ..Options::default() };
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let journal = Journal::open(disk, vec![tree], options, None, &mut |_| {}).unwrap();
    println!("waiting  records/s  commits/s  records/commit");
    for waiting in [1, 16, 128] {
        let begun = Instant::now();
        let (records, commits) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..waiting).map(|_| scope.spawn(|| append_until_done(&journal))).collect();
            let done: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let sizes = || done.iter().flat_map(|(_, first, last)| [*first, *last]);
            let commits = sizes().max().unwrap() - sizes().min().unwrap() + 1;
            (done.iter().map(|(records, ..)| records).sum::<u64>(), commits)
        });
        let seconds = begun.elapsed().as_secs_f64();
        let (rate, batches) = (records as f64 / seconds, commits as f64 / seconds);
        println!("{waiting:7}  {rate:9.0}  {batches:9.0}  {:14.1}", records as f64 / commits as f64);
    }
}

/// One waiter: appends a record of 500 bytes with 1 kB beside it, takes its seal, and again. Returns how many, and the
/// first and last size of the tree that it saw.
fn append_until_done(journal: &Journal) -> (u64, u64, u64) {
    let beside = Bytes::from(vec![7; 1_000]);
    let (begun, mut records, mut first, mut last) = (Instant::now(), 0, 0, 0);
    while begun.elapsed() < RUNS_FOR {
        let record = Record::new(Kind::Sent, &[0; 16], &[&[9; 500]]);
        let committed = journal.append(TreeIndex(0), record, beside.clone(), true).wait().unwrap();
        std::hint::black_box(committed.seal());
        last = committed.head().size;
        first = if records == 0 { last } else { first };
        records += 1;
    }
    (records, first, last)
}
