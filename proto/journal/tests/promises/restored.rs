//! A journal that was put back from a copy: the copy is one that a start accepts, whenever it was made, and the journal
//! says that it was put back.

use std::sync::Arc;

use bytes::Bytes;
use journal::faulty::{Fault, Faulty, Survival};
use journal::{Directory, Disk, Journal, NotCopied, Options, RESTORED_FILE, Segments, TreeIndex};
use proto::record::Genesis;
use proto::signature::KeyId;
use proto::wire::relay::Why;

use crate::ledger::{self, Ledger};

fn why(journal: &Journal) -> Why {
    Genesis::parse(journal.genesis(TreeIndex(0)).as_bytes().clone()).unwrap().content.why()
}

fn put_word(disk: &dyn Disk, text: &str) {
    let mut file = disk.create(RESTORED_FILE).unwrap();
    file.append(text.as_bytes()).unwrap();
    file.sync().unwrap();
    disk.sync_directory().unwrap();
}

#[test]
fn every_start_says_restored_until_it_was_noted() {
    let disk = Faulty::new();
    drop(ledger::open(&disk, ledger::first()).unwrap());
    put_word(&*disk, "from a backup");
    for _ in 0..2 {
        let disk = disk.power_cut(Survival::Nothing);
        let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
        assert_eq!((why(&journal), journal.restored()), (Why::Restored, Some("from a backup")));
    }
    let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
    journal.restore_is_noted().unwrap();
    drop(journal);
    let (journal, _) = ledger::open(&disk.power_cut(Survival::Nothing), ledger::options()).unwrap();
    assert_eq!((why(&journal), journal.restored()), (Why::Start, None));
}

#[test]
fn a_note_that_did_not_become_durable_is_asked_for_again() {
    let disk = Faulty::new();
    drop(ledger::open(&disk, ledger::first()).unwrap());
    put_word(&*disk, "x");
    let (journal, _) = ledger::open(&disk, ledger::options()).unwrap();
    disk.fail(1, Fault::Lost);
    assert!(journal.restore_is_noted().is_err());
    drop(journal);
    let (journal, _) = ledger::open(&disk.power_cut(Survival::Nothing), ledger::options()).unwrap();
    assert_eq!(why(&journal), Why::Restored);
}

fn copied(from: &std::path::Path, segments: Segments) -> Result<tempfile::TempDir, NotCopied> {
    let directory = tempfile::tempdir().unwrap();
    journal::copy(from, segments, &mut |name, bytes| std::fs::write(directory.path().join(name), bytes))?;
    Ok(directory)
}

/// Copies are made while another thread writes: each is a beginning of what was written, holds all that was acknowledged
/// before it was begun, and opens.
#[test]
fn a_copy_beside_a_running_journal_holds_all_that_was_acknowledged_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let options = Options { segment_bytes: 20_000, ..ledger::first() };
    let (journal, _) = ledger::open(&disk, options).unwrap();
    let mut acknowledged = Ledger::default();
    std::thread::scope(|scope| {
        let (done, until) = std::sync::mpsc::channel::<()>();
        let journal = &journal;
        scope.spawn(move || {
            for number in 10_000.. {
                if until.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                    return;
                }
                let beside = Bytes::from(vec![7; 300]);
                journal.append(TreeIndex(1), ledger::record(number), beside, number % 3 == 0).wait().unwrap();
            }
        });
        for round in 0..12 {
            let (record, beside) = (ledger::record(round), Bytes::from_static(b"beside"));
            let committed = journal.append(TreeIndex(0), record.clone(), beside.clone(), true).wait().unwrap();
            acknowledged.acknowledged(record, beside, &committed);
            let copy = copied(directory.path(), Segments::All).unwrap();
            let disk = Arc::new(Directory(copy.path().to_owned()));
            let (_, entries) = ledger::open(&disk, ledger::options()).unwrap();
            acknowledged.clone().check_nothing_is_lost(&entries);
        }
        drop(done);
    });
}

#[test]
fn the_newest_segments_alone_open_too() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    for start in 0..4 {
        let (journal, _) = ledger::open(&disk, Options { first: start == 0, ..ledger::options() }).unwrap();
        ledger::append(&journal, 0, start, true);
    }
    let copy = copied(directory.path(), Segments::Newest(2)).unwrap();
    assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 2);
    let (_, entries) = ledger::open(&Arc::new(Directory(copy.path().to_owned())), ledger::options()).unwrap();
    assert!(entries.iter().any(|entry| entry.record == ledger::record(3)));
}

/// What a start would cut is not copied; what a start would refuse is not copied as if it were whole.
#[test]
fn a_copy_leaves_a_torn_tail_out_and_refuses_damage() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    ledger::append(&journal, 0, 1, true);
    drop(journal);
    let file = directory.path().join("0000000001.segment");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&whole[..], b"half a block"].concat()).unwrap();
    let copy = copied(directory.path(), Segments::All).unwrap();
    assert_eq!(std::fs::read(copy.path().join("0000000001.segment")).unwrap(), whole);
    let mut damaged = whole.clone();
    damaged[60] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let refused = copied(directory.path(), Segments::All).unwrap_err().to_string();
    assert!(refused.contains("damaged"), "{refused}");
    assert!(matches!(copied(tempfile::tempdir().unwrap().path(), Segments::All), Err(NotCopied::None(_))));
}

/// Over several starts, rotations and a killed tail: every tree is there, proved up to its end or a named tail.
#[test]
fn a_journal_verifies_as_it_was_written_and_a_foreign_key_proves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    for start in 0..3 {
        let options = Options { segment_bytes: 2_500, first: start == 0, ..ledger::options() };
        let (journal, _) = ledger::open(&disk, options).unwrap();
        for number in 0..10 {
            let beside = Bytes::from(vec![7; 300]);
            journal.append(TreeIndex(0), ledger::record(number), beside, number % 2 == 0).wait().unwrap();
        }
    }
    let known = |id: &KeyId| (*id == ledger::key().public().id()).then(|| ledger::key().public().clone());
    let mut entries = 0;
    let verified = journal::verify(&*disk, &known, &mut |_| entries += 1).unwrap();
    assert_eq!((verified.trees.len(), verified.unproven().count(), verified.torn_bytes), (6, 0, 0));
    assert_eq!((verified.records, entries), (36, 36));
    assert!(verified.segments > 3, "segments were full: {}", verified.segments);
    assert!(verified.trees.iter().all(|tree| tree.unsigned() == 0));
    let nobody = journal::verify(&*disk, &|_| None, &mut |_| {}).unwrap();
    assert_eq!(nobody.unproven().count(), 6);
}
