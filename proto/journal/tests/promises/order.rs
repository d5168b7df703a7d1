//! Write, sync, release: in this order, for every record and all before it, with one sync for all that wait.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use journal::faulty::{Faulty, Moment, Operation};
use journal::{Entry, Options, Pending, TreeIndex};
use proto::record::{Kind, Record};
use proto::seal;
use proto::signature::{KeyId, SigningKey};

use crate::ledger;

/// Holds the journal's thread at each sync until the test lets it on.
struct Gate {
    arrived: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl Gate {
    fn on(disk: &Faulty) -> Self {
        let (arrive, arrived) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let wait = Mutex::new(wait);
        disk.observe(move |operation, moment| {
            if matches!((operation, moment), (Operation::Sync(_), Moment::Before)) && arrive.send(()).is_ok() {
                let _ = wait.lock().unwrap().recv();
            }
        });
        Self { arrived, go_on }
    }

    fn wait_for_a_sync(&self) {
        self.arrived.recv().unwrap();
    }

    fn let_it_sync(&self) {
        self.go_on.send(()).unwrap();
    }
}

#[test]
fn nothing_is_released_before_its_own_and_every_earlier_sync_returned() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let gate = Gate::on(&disk);
    let append = |number, tree| journal.append(TreeIndex(tree), ledger::record(number), Bytes::new(), number % 2 == 0);
    let unresolved = |pending: &mut Vec<Pending>| pending.iter_mut().all(|pending| pending.now().is_none());

    let mut first = vec![append(1, 0)];
    gate.wait_for_a_sync();
    let mut second = vec![append(2, 1), append(3, 0)];
    assert!(unresolved(&mut first) && unresolved(&mut second));
    gate.let_it_sync();
    assert!(first.pop().unwrap().wait().is_ok());
    // The first is released; the second batch is written and not synced.
    gate.wait_for_a_sync();
    assert!(unresolved(&mut second));
    gate.let_it_sync();
    for pending in second {
        pending.wait().unwrap();
    }
    drop(gate);
}

#[test]
fn two_trees_share_one_write_and_one_sync() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let gate = Gate::on(&disk);
    let held = journal.append(TreeIndex(0), ledger::record(0), Bytes::new(), false);
    gate.wait_for_a_sync();
    let waiting: Vec<_> = (1..=128)
        .map(|number| {
            (number, journal.append(TreeIndex(number as usize % 2), ledger::record(number), Bytes::new(), true))
        })
        .collect();
    let before = disk.operations();
    gate.let_it_sync();
    held.wait().unwrap();
    gate.wait_for_a_sync();
    gate.let_it_sync();
    let mut heads = Vec::new();
    for (number, pending) in waiting {
        let committed = pending.wait().unwrap();
        ledger::assert_proves(&committed.seal().unwrap(), &ledger::record(number));
        heads.push((committed.head().tree, committed.head().size));
    }
    heads.sort_unstable();
    heads.dedup();
    assert_eq!(heads.len(), 2, "one commit a tree");
    assert_eq!(disk.operations() - before, 3, "the first batch's sync, then one write and one sync for all");
    drop(gate);
}

#[test]
fn what_rides_keeps_its_place_and_costs_no_sync_where_a_commit_comes() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let gate = Gate::on(&disk);
    let held = journal.append(TreeIndex(0), ledger::record(0), Bytes::new(), false);
    gate.wait_for_a_sync();
    let before = disk.operations();
    let mut riding = journal.append_riding(TreeIndex(0), ledger::record(1));
    let urgent = journal.append(TreeIndex(0), ledger::record(2), Bytes::new(), true);
    gate.let_it_sync();
    held.wait().unwrap();
    gate.wait_for_a_sync();
    assert!(riding.now().is_none(), "it is released with its commit and no sooner");
    gate.let_it_sync();
    let (riding, urgent) = (riding.wait().unwrap(), urgent.wait().unwrap());
    assert!(riding.position() < urgent.position() && riding.head() == urgent.head(), "one commit, in their order");
    assert_eq!(disk.operations() - before, 3, "the first batch's sync, then one write and one sync for both");
    drop(gate);
    // Alone, it is written all the same.
    journal.append_riding(TreeIndex(1), ledger::record(3)).wait().unwrap();
    let last = journal.append_riding(TreeIndex(1), ledger::record(4));
    journal.close();
    assert!(last.wait().is_ok(), "what rides when the journal is closed is durable");
}

#[test]
fn a_changed_key_signs_what_comes_after_its_record_and_nothing_before() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let before = ledger::key().public().id();
    let after = Arc::new(SigningKey::generate().0);
    let gate = Gate::on(&disk);
    let held = journal.append(TreeIndex(0), ledger::record(0), Bytes::new(), false);
    gate.wait_for_a_sync();
    // All of these wait together: the change divides them.
    let append = |number, tree| journal.append(TreeIndex(tree), ledger::record(number), Bytes::new(), true);
    let with_the_old = [append(1, 0), append(2, 1)];
    let change = Record::new(Kind::Key, &[7; 16], &[b"before and after"]);
    let changed = journal.change_key(TreeIndex(0), Arc::clone(&after), change.clone());
    let with_the_new = [append(3, 0), append(4, 1)];
    for _ in 0..3 {
        gate.let_it_sync();
    }
    held.wait().unwrap();
    let key_of = |pending: Pending| {
        let seal = pending.wait().unwrap().seal().expect("it leaves");
        KeyId::try_from(&seal.key[..]).unwrap()
    };
    assert_eq!(with_the_old.map(key_of), [before, before]);
    let changed = changed.wait().unwrap();
    let last = changed.seal().expect("the last head of the key before is signed");
    assert_eq!(last.key[..], before.as_bytes()[..], "and by that key");
    assert!(seal::walk_record(&last, &change).unwrap().signed_by(ledger::key().public(), |_, _| false).is_ok());
    assert_eq!(with_the_new.map(key_of), [after.public().id(), before], "the other tree has its own key");
    drop(gate);
    // The tree went on: its name is the same, its size grew.
    journal.close();
    let entries = ledger::read_all(&*disk);
    let of_the_tree = |entry: &&Entry| entry.tree == changed.head().tree && entry.record.kind() != Kind::Genesis;
    assert_eq!(entries.iter().filter(of_the_tree).count(), 4);
}

#[test]
fn a_tail_that_nothing_leaving_signed_is_signed_soon() {
    let disk = Faulty::new();
    let options = Options { tail_signed_within: Some(Duration::ZERO), ..ledger::first() };
    let (journal, _) = ledger::open(&disk, options).unwrap();
    let committed = journal.append(TreeIndex(0), ledger::record(1), Bytes::new(), false);
    let (seen, syncs) = mpsc::channel();
    disk.observe(move |operation, moment| {
        if matches!((operation, moment), (Operation::Sync(_), Moment::After(true))) {
            let _ = seen.send(());
        }
    });
    let committed = committed.wait().unwrap();
    // The batch's own sync may have been before the observer came; its signature comes in the same batch or the next.
    while committed.seal().is_none() {
        syncs.recv().unwrap();
    }
    ledger::assert_proves(&committed.seal().unwrap(), &ledger::record(1));
    journal.close();
    let entry = journal::entry(&*disk, committed.position()).unwrap().unwrap();
    assert_eq!(entry.seal, committed.seal());
}

#[test]
fn a_tail_is_signed_when_the_journal_is_closed() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let committed = ledger::append(&journal, 0, 1, false);
    assert_eq!(committed.seal(), None, "nothing that leaves, nothing signed");
    let queued = journal.append(TreeIndex(1), ledger::record(2), Bytes::new(), false);
    journal.close();
    let queued = queued.wait().expect("what was queued is durable");
    for (committed, number) in [(committed, 1), (queued, 2)] {
        let entry = journal::entry(&*disk, committed.position()).unwrap().unwrap();
        ledger::assert_proves(&entry.seal.unwrap(), &ledger::record(number));
    }
}

#[test]
fn a_batch_has_its_limit() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let gate = Gate::on(&disk);
    let held = journal.append(TreeIndex(0), ledger::record(0), Bytes::new(), false);
    gate.wait_for_a_sync();
    let waiting: Vec<_> =
        (0..4_097).map(|number| journal.append(TreeIndex(0), ledger::record(number), Bytes::new(), false)).collect();
    for _ in 0..3 {
        gate.let_it_sync();
    }
    held.wait().unwrap();
    let sizes: Vec<_> = waiting.into_iter().map(|pending| pending.wait().unwrap().head().size).collect();
    assert_eq!((sizes[0], sizes[4_095], sizes[4_096]), (3, 3, 4), "4,096 in one commit, the next in the next");
    drop(gate);
}
