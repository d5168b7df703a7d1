//! Segments come and go, on a real disk too, and what is in them stays readable and proved.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use journal::faulty::Faulty;
use journal::{Directory, OpenError, Options, Position, TreeIndex};

use crate::ledger::{self, Ledger};

#[test]
fn a_locked_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let Err(OpenError::Locked(named)) = ledger::open(&disk, ledger::options()) else { panic!("it opens twice") };
    assert_eq!(named, directory.path().display().to_string());
    // Reading needs no lock.
    assert_eq!(ledger::read_all(&*disk).len(), 2);
    journal.close();
    ledger::open(&disk, ledger::options()).unwrap();

    let faulty = Faulty::new();
    let (_journal, _) = ledger::open(&faulty, ledger::first()).unwrap();
    assert!(matches!(ledger::open(&faulty, ledger::options()), Err(OpenError::Locked(_))));
}

#[test]
fn segments_follow_one_another_and_old_seals_still_hold() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let mut known = Ledger::default();
    let mut positions = Vec::new();
    for start in 0..3 {
        let options = Options { segment_bytes: 4_000, first: start == 0, ..ledger::options() };
        let (journal, recovered) = ledger::open(&disk, options).unwrap();
        known.opened(&journal);
        known.check_nothing_is_lost(&recovered);
        for number in 0..20 {
            let (record, beside) = (ledger::record(start * 100 + number), Bytes::from(vec![7; 200]));
            let pending = journal.append(TreeIndex(number as usize % 2), record.clone(), beside.clone(), true);
            let committed = pending.wait().unwrap();
            known.acknowledged(record, beside, &committed);
            positions.push(committed.position());
        }
    }
    assert!(positions.is_sorted() && positions.last().unwrap().segment > 6, "{:?}", positions.last());
    let all = ledger::read_all(&*disk);
    known.check_nothing_is_lost(&all);
    assert!(all.iter().all(|entry| entry.seal.is_some()));

    // From a position on; and one alone.
    for (index, from) in all.iter().enumerate().step_by(7) {
        let mut entries = Vec::new();
        journal::read(&*disk, Some(from.position), &mut |entry| entries.push(entry)).unwrap();
        assert_eq!(entries, all[index..]);
        assert_eq!(journal::entry(&*disk, from.position).unwrap().as_ref(), Some(from));
    }
    let last = all.last().unwrap().position;
    for nowhere in [
        Position { record: last.record + 1, ..last },
        Position { offset: last.offset + 1, ..last },
        Position { segment: last.segment + 1, ..last },
        Position { segment: 0, ..last },
    ] {
        assert_eq!(journal::entry(&*disk, nowhere).unwrap(), None);
    }
    // A start shows only what it is asked for.
    let from = Position { segment: last.segment, offset: 0, record: 0 };
    let mut entries = Vec::new();
    let shown = &mut |entry| entries.push(entry);
    journal::Journal::open(disk, ledger::two_trees(), ledger::options(), Some(from), shown).unwrap();
    assert!(!entries.is_empty() && all.ends_with(&entries));
}

#[test]
fn a_full_segment_is_signed_to_its_end() {
    let disk = Faulty::new();
    let options = Options { segment_bytes: 3_000, ..ledger::first() };
    let (journal, _) = ledger::open(&disk, options).unwrap();
    while ledger::append(&journal, 0, 1, false).position().segment < 3 {}
    for segment in [1, 2] {
        let last = ledger::read_all(&*disk).into_iter().rfind(|entry| entry.position.segment == segment).unwrap();
        ledger::assert_proves(&last.seal.expect("signed"), &last.record);
    }
}

#[test]
fn a_kill_of_the_whole_process_is_a_start_like_any_other() {
    // Forgotten, the journal is neither closed nor unlocked; its thread stands still. A copy is what another machine
    // would find.
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Directory(directory.path().to_owned()));
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let committed = ledger::append(&journal, 0, 1, true);
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let clone = Arc::new(Directory(copy.path().to_owned()));
    let written_ahead = fs::metadata(copy.path().join("0000000001.segment")).unwrap().len();
    assert!(written_ahead > committed.position().offset + 100_000, "there are zeros behind it: {written_ahead}");
    assert_eq!(journal::tail(&*clone, &mut |_| {}).unwrap().unwrap().torn_bytes, 0, "and they are no tail");
    let (cloned, recovered) = ledger::open(&clone, ledger::options()).unwrap();
    assert_eq!(recovered.last().unwrap().seal, committed.seal());
    assert_ne!(cloned.name(TreeIndex(0)), journal.name(TreeIndex(0)), "a clone signs under a name of its own");
}

#[cfg(unix)]
#[test]
fn a_journal_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (_journal, _) = ledger::open(&Arc::new(Directory(directory.path().to_owned())), ledger::first()).unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nowhere");
    let error = ledger::open(&Arc::new(Directory(path.clone())), ledger::first()).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_position_sorts_as_its_bytes() {
    let position = |segment, offset, record| Position { segment, offset, record };
    let sorted = [position(0, 0, 0), position(1, 255, 7), position(1, 256, 0), position(1, 256, 1), position(2, 0, 0)];
    assert!(sorted.is_sorted_by(|one, next| one < next && one.to_bytes() < next.to_bytes()));
    for position in sorted {
        assert_eq!(Position::from_bytes(&position.to_bytes()), position);
    }
}
