//! Memory stays flat however long the log. A test program of its own: nothing else runs beside it.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use journal::{Directory, Journal, Options, Owner, Tree, TreeIndex};
use proto::record::{Kind, Record};
use proto::signature::SigningKey;

/// 100,000 records leave nothing behind in memory: a tree is its frontier, and a commit lives as long as its waiters.
#[test]
fn memory_does_not_grow_with_the_log() {
    let resident = || {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
    };
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let options = Options { segment_bytes: 16 << 20, first: true, ..Options::default() };
    let owner = Owner { instance: "VN".parse().unwrap(), member: "VN/GOV/moj".into(), server: "VN/GOV/moj/ss1".into() };
    let tree = Tree { owner, key: Arc::new(SigningKey::generate().0) };
    let journal = Journal::open(disk, vec![tree], options, None, &mut |_| {}).unwrap();
    let record = |number: u64| Record::new(Kind::Sent, &[0; 16], &[&number.to_be_bytes()]);
    let append = |numbers: std::ops::Range<u64>| {
        for number in numbers.step_by(500) {
            let beside = Bytes::from(vec![1; 1_000]);
            let pending: Vec<_> = (number..number + 500)
                .map(|number| journal.append(TreeIndex(0), record(number), beside.clone(), true))
                .collect();
            pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        }
    };
    append(0..20_000);
    let before = resident();
    append(20_000..120_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "100,000 records of 1 kB each left {grown} bytes in memory");
    journal.close();
}
