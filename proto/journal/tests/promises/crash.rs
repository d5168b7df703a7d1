//! Each crash order of SEAL.md: whatever fails at whatever moment, and however the process ends, nothing that was
//! acknowledged is lost and no two heads conflict.

use std::sync::Arc;

use bytes::Bytes;
use journal::faulty::{Fault, Faulty, Operation, Survival};
use journal::{Disk, OpenError, Options, TreeIndex};
use proto::wire::relay::Why;

use crate::ledger::{self, Ledger};

/// What happens to the machine after the process.
#[derive(Clone, Copy, Debug)]
pub enum After {
    Kill,
    PowerCut(Survival),
}

impl After {
    pub fn of(self, disk: &Faulty) -> Arc<Faulty> {
        match self {
            After::Kill => disk.kill(),
            After::PowerCut(survival) => disk.power_cut(survival),
        }
    }
}

pub fn afters(seed: u64) -> [After; 6] {
    let cut = |number| After::PowerCut(Survival::Some(seed * 3 + number));
    [After::Kill, After::PowerCut(Survival::Nothing), After::PowerCut(Survival::Everything), cut(0), cut(1), cut(2)]
}

/// One process: opens, appends in a few batches to both trees over several segments, ends. Everything that it is told
/// is durable goes to the ledger.
fn live(disk: &Arc<Faulty>, ledger: &mut Ledger, life: u64, first: bool) -> Result<(), OpenError> {
    let options = Options { segment_bytes: 2_500, first, ..ledger::options() };
    let (journal, recovered) = ledger::open(disk, options)?;
    ledger.opened(&journal);
    ledger.check_nothing_is_lost(&recovered);
    for round in 0..4 {
        let record = |number| ledger::record(life * 100 + round * 10 + number);
        let beside = Bytes::from(vec![round as u8; 600]);
        let appended = [
            (TreeIndex(0), record(0), beside.clone(), true),
            (TreeIndex(1), record(1), Bytes::new(), round % 2 == 0),
            (TreeIndex(0), record(2), Bytes::new(), false),
        ];
        let pending = appended.map(|(tree, record, beside, leaving)| {
            (journal.append(tree, record.clone(), beside.clone(), leaving), record, beside, leaving)
        });
        for (pending, record, beside, leaving) in pending {
            match pending.wait() {
                Ok(committed) => {
                    assert!(!leaving || committed.seal().is_some(), "what leaves is signed");
                    ledger.acknowledged(record, beside, &committed);
                }
                Err(ended) => assert_eq!(Some(ended.0), journal.ended()),
            }
        }
    }
    Ok(())
}

/// How many operations a life has that starts on this disk.
fn operations(disk: &Faulty, first: bool) -> u64 {
    let disk = disk.kill();
    let before = disk.operations();
    live(&disk, &mut Ledger::default(), 99, first).unwrap();
    disk.operations() - before
}

/// A life in which one thing goes wrong. The disk's own fault may end it, and nothing else may.
fn live_with(disk: &Arc<Faulty>, ledger: &mut Ledger, life: u64, first: bool) {
    match live(disk, ledger, life, first) {
        Ok(()) | Err(OpenError::Disk(_)) => {}
        Err(other) => panic!("an honest fault is no reason to refuse: {other}"),
    }
}

#[test]
fn an_operation_that_fails_loses_nothing_acknowledged() {
    each_crash_order_with(Fault::Lost);
}

#[test]
fn an_operation_that_fails_and_yet_happened_loses_nothing_acknowledged() {
    each_crash_order_with(Fault::Kept);
}

#[test]
fn an_operation_that_happens_by_half_loses_nothing_acknowledged() {
    each_crash_order_with(Fault::Torn);
}

#[test]
fn a_death_at_any_moment_loses_nothing_acknowledged() {
    each_crash_order_with(Fault::Death);
}

/// This fault at each operation of a life, with and without time to leave word of it; then each end of the machine.
fn each_crash_order_with(fault: Fault) {
    let first = Faulty::new();
    live(&first, &mut Ledger::default(), 0, true).unwrap();
    let orders = (0..operations(&first, false) + 2).flat_map(|number| [(number, false), (number, true)]);
    for (number, dies_at_once) in orders {
        let disk = first.kill();
        let mut ledger = Ledger::default();
        disk.fail(number, fault);
        if dies_at_once {
            disk.fail(number + 1, Fault::Death);
        }
        live_with(&disk, &mut ledger, 1, false);
        for after in afters(number) {
            let (disk, mut ledger) = (after.of(&disk), ledger.clone());
            live(&disk, &mut ledger, 2, false)
                .unwrap_or_else(|error| panic!("{fault:?} at {number}, then {after:?}: does not start: {error}"));
            // What the start itself built on is durable: nothing is lost by a power cut after it.
            let disk = disk.power_cut(Survival::Nothing);
            let (journal, entries) = ledger::open(&disk, ledger::options()).unwrap();
            ledger.opened(&journal);
            ledger.check_nothing_is_lost(&entries);
        }
    }
}

#[test]
fn many_crashes_one_after_another_lose_nothing() {
    for chain in 0..200u64 {
        let mut drawn = chain.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| {
            drawn ^= drawn << 13;
            drawn ^= drawn >> 7;
            drawn ^= drawn << 17;
            (drawn >> 20) % below
        };
        let mut disk = Faulty::new();
        let mut ledger = Ledger::default();
        live(&disk, &mut ledger, 0, true).unwrap();
        for life in 1..6 {
            disk = afters(chain)[draw(6) as usize].of(&disk);
            disk.fail(draw(40), Fault::HONEST[draw(4) as usize]);
            disk.fail(draw(40), Fault::HONEST[draw(4) as usize]);
            live_with(&disk, &mut ledger, life, false);
        }
        let disk = disk.power_cut(Survival::Some(chain));
        live(&disk, &mut ledger, 9, false).unwrap_or_else(|error| panic!("chain {chain}: {error}"));
    }
}

#[test]
fn a_first_use_that_crashes_leaves_nothing_or_a_journal() {
    for number in 0..6 {
        for fault in Fault::HONEST {
            for after in afters(number) {
                let disk = Faulty::new();
                let mut ledger = Ledger::default();
                disk.fail(number, fault);
                live_with(&disk, &mut ledger, 0, true);
                let disk = after.of(&disk);
                let holds_one = disk.list().unwrap().iter().any(|name| name.ends_with(".segment"));
                live(&disk, &mut ledger, 1, !holds_one).unwrap();
            }
        }
    }
}

/// The kernel takes pages for clean after a failed sync: they are read back after a kill, a sync of the same file
/// returns well, and a power cut takes them all the same. A journal that built on them would have signed over nothing.
#[test]
fn a_sync_that_failed_is_not_believed_after_a_kill() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    disk.fail(1, Fault::Lost);
    // It dies before it can leave word of the failure.
    disk.fail(2, Fault::Death);
    let refused = journal.append(TreeIndex(0), ledger::record(1), Bytes::new(), true).wait();
    assert!(refused.is_err());
    let disk = disk.kill();
    let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
    assert!(recovered.iter().any(|entry| entry.record == ledger::record(1)), "the cache still shows it");
    let mut ledger = Ledger::default();
    ledger.acknowledged(ledger::record(2), Bytes::new(), &ledger::append(&journal, 0, 2, true));
    drop(journal);
    let (_, after) = ledger::open(&disk.power_cut(Survival::Nothing), ledger::options()).unwrap();
    ledger.check_nothing_is_lost(&after);
    assert_eq!(after[..recovered.len()], recovered, "what a start accepted, it made durable");
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_taken_any_more() {
    for fault in [Fault::Lost, Fault::Kept, Fault::Torn] {
        for number in [0, 1] {
            let disk = Faulty::new();
            let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
            assert_eq!(journal.ended(), None);
            disk.fail(number, fault);
            let told = journal.append(TreeIndex(0), ledger::record(1), Bytes::new(), true).wait().unwrap_err();
            let ended = journal.ended().expect("it says so itself");
            assert_eq!(told.0, ended);
            assert!(ended.contains("0000000001.segment"), "{ended}");
            // The disk works again, and nothing is retried as if nothing had happened.
            for tree in [0, 1] {
                let later = journal.append(TreeIndex(tree), ledger::record(2), Bytes::new(), false).wait();
                assert_eq!(later.unwrap_err().0, ended);
            }
            let waiting = journal.until_ended();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert_eq!(runtime.block_on(waiting), ended);
            let size = disk.read("0000000001.segment").unwrap().len();
            journal.close();
            assert_eq!(disk.read("0000000001.segment").unwrap().len(), size, "closing writes nothing more");
        }
    }
}

/// A disk that says "synced" and lies can lose what was acknowledged; nothing helps against that. It is noticed where it can
/// be, and no two heads ever conflict.
#[test]
fn a_disk_that_lies_makes_no_conflict() {
    let first = Faulty::new();
    live(&first, &mut Ledger::default(), 0, true).unwrap();
    for number in 0..operations(&first, false) {
        for after in afters(number) {
            let disk = first.kill();
            let mut ledger = Ledger::default();
            disk.fail(number, Fault::Lie);
            live_with(&disk, &mut ledger, 1, false);
            let disk = after.of(&disk);
            match ledger::open(&disk, ledger::options()) {
                Ok((journal, entries)) => {
                    ledger.opened(&journal);
                    ledger.check_heads(&entries);
                    ledger::append(&journal, 0, 7, true);
                    drop(journal);
                    ledger.check_heads(&ledger::read_all(&*disk));
                }
                Err(OpenError::Unreadable(_) | OpenError::NeverFirstUse(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_genesis_tells_what_was_found_before_it() {
    let genesis = |journal: &journal::Journal| {
        proto::record::Genesis::parse(journal.genesis(TreeIndex(0)).as_bytes().clone()).unwrap().content
    };
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let content = genesis(&journal);
    assert_eq!((content.why(), content.before.len(), content.before_size), (Why::First, 0, 0));
    assert_eq!((content.instance.as_str(), content.member.as_str()), ("VN", "VN/GOV/moj"));
    let head = ledger::append(&journal, 0, 1, false).head();
    journal.close();

    let random = content.random;

    let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
    let content = genesis(&journal);
    assert_eq!((content.why(), content.cut_bytes), (Why::Start, 0));
    assert_ne!(content.random, random, "drawn anew");
    assert_eq!((&content.before[..], content.before_size), (&head.tree.0.as_bytes()[..], head.size));
    assert_eq!(&content.before_root[..], head.root.as_bytes());

    // A write fails half way: the next start finds its half, cuts it and says so.
    disk.fail(0, Fault::Torn);
    journal.append(TreeIndex(0), ledger::record(2), Bytes::new(), false).wait().unwrap_err();
    drop(journal);
    assert!(disk.list().unwrap().contains(&"failed".to_owned()));
    let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
    let content = genesis(&journal);
    assert_eq!((content.why(), content.before_size), (Why::FailedWrite, 1));
    assert!(content.cut_bytes > 0);
    assert!(recovered.iter().all(|entry| entry.position < journal.recovered_end()));
    drop(journal);

    // Word of a failure is for one start only.
    let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
    assert_eq!((genesis(&journal).why(), genesis(&journal).cut_bytes), (Why::Start, 0));
}

#[test]
fn a_tree_whose_owner_was_not_served_for_a_while_is_still_found() {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let name = journal.name(TreeIndex(1));
    ledger::append(&journal, 1, 1, true);
    journal.close();
    for _ in 0..2 {
        let only = vec![ledger::tree("VN/GOV/moj")];
        journal::Journal::open(disk.clone(), only, ledger::options(), None, &mut |_| {}).unwrap().close();
    }
    let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
    let genesis = proto::record::Genesis::parse(journal.genesis(TreeIndex(1)).as_bytes().clone()).unwrap();
    assert_eq!(&genesis.content.before[..], name.0.as_bytes());
    assert_eq!((genesis.content.why(), genesis.content.before_size), (Why::Start, 2));
}

#[test]
fn nothing_is_built_on_a_tail_before_it_is_durable() {
    let disk = Faulty::new();
    live(&disk, &mut Ledger::default(), 0, true).unwrap();
    let disk = disk.kill();
    let (seen, events) = std::sync::mpsc::channel();
    disk.observe(move |operation, moment| {
        if moment == journal::faulty::Moment::After(true) {
            seen.send(operation.clone()).unwrap();
        }
    });
    let last = disk.list().unwrap().into_iter().rfind(|name| name.ends_with(".segment")).unwrap();
    let number: u64 = last.strip_suffix(".segment").unwrap().parse().unwrap();
    let next = format!("{:010}.segment", number + 1);
    let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
    let events: Vec<_> = events.try_iter().collect();
    let at = |wanted: Operation| events.iter().position(|event| *event == wanted).unwrap();
    let accepted = [
        at(Operation::Sync(format!("{last}.new"))),
        at(Operation::Rename(format!("{last}.new"), last.clone())),
        at(Operation::SyncDirectory),
        at(Operation::Create(format!("{next}.new"))),
        at(Operation::Sync(format!("{next}.new"))),
        at(Operation::Rename(format!("{next}.new"), next.clone())),
    ];
    assert!(accepted.is_sorted(), "{events:?}");
    assert_eq!(events.last(), Some(&Operation::SyncDirectory), "and the new one's name before anything is released");
    drop(journal);
}
