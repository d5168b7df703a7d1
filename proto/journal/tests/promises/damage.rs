//! Damage is told from a torn tail, and never read as anything else.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use journal::faulty::{Fault, Faulty};
use journal::{Disk, Entry, OpenError, Options, Owner, Position, ReadError, TreeIndex};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use proto::record::Genesis;

use crate::ledger;

const FIRST: &str = "0000000001.segment";

/// A closed journal of one segment with six batches, and where its batches begin.
fn closed() -> (Arc<Faulty>, Vec<u64>) {
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    let mut begins = Vec::new();
    for number in 0..6 {
        let beside = Bytes::from(vec![number as u8; 40]);
        let tree = TreeIndex(number as usize % 2);
        let committed = journal.append(tree, ledger::record(number), beside, true).wait().unwrap();
        begins.push(committed.position().offset);
    }
    journal.close();
    (disk, begins)
}

/// The same disk, with this file changed.
fn changed(disk: &Faulty, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Arc<Faulty> {
    let mut bytes = disk.read(name).unwrap();
    change(&mut bytes);
    let disk = disk.kill();
    disk.put(name, bytes);
    disk
}

fn cut_bytes(journal: &journal::Journal) -> u64 {
    Genesis::parse(journal.genesis(TreeIndex(0)).as_bytes().clone()).unwrap().content.cut_bytes
}

#[test]
fn damage_before_a_whole_batch_is_refused_and_left_alone() {
    let (disk, begins) = closed();
    let disk = changed(&disk, FIRST, |bytes| bytes[begins[2] as usize + 200] ^= 1);
    let before = disk.read(FIRST).unwrap();
    let names = disk.list().unwrap();
    let operations = disk.operations();
    let Err(OpenError::Unreadable(ReadError::Damaged(damage))) = ledger::open(&disk, ledger::options()) else {
        panic!("it starts on a damaged journal");
    };
    assert_eq!((damage.file.as_str(), damage.offset), ("faulty/0000000001.segment", begins[2]));
    assert!(damage.to_string().contains("damaged at offset"), "{damage}");
    assert_eq!((disk.read(FIRST).unwrap(), disk.list().unwrap(), disk.operations()), (before, names, operations));
    assert!(journal::read(&*disk, None, &mut |_| {}).is_err());
}

#[test]
fn a_torn_tail_is_cut_and_told() {
    let (disk, begins) = closed();
    let whole = ledger::read_all(&*disk);
    let length = disk.read(FIRST).unwrap().len();
    let last = begins[5] as usize;
    for torn in [last + 1, last + 40, length - 1] {
        for disk in [
            changed(&disk, FIRST, |bytes| bytes.truncate(torn)),
            changed(&disk, FIRST, |bytes| bytes[torn..].fill(0)),
            changed(&disk, FIRST, |bytes| {
                bytes[last..torn].fill(0);
                // What is nothing but zeros was written ahead.
                bytes[length - 1] |= 1;
            }),
        ] {
            let found = ledger::read_all(&*disk);
            assert!(whole.starts_with(&found) || found.len() == whole.len(), "the whole beginning is read");
            let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
            assert_eq!(recovered, found);
            assert!(cut_bytes(&journal) > 0);
            let end = journal.recovered_end();
            assert!(end.offset >= begins[5] && recovered.iter().all(|entry| entry.position < end));
            ledger::append(&journal, 0, 9, true);
            drop(journal);
            assert_eq!(disk.read(FIRST).unwrap().len() as u64, end.offset, "the file ends where it was accepted");
        }
    }
}

#[test]
fn zeros_that_were_written_ahead_are_no_tail_in_the_last_segment_or_an_older_one() {
    let (disk, begins) = closed();
    let whole = ledger::read_all(&*disk);
    for ahead in [1, 511, 512, 300_000] {
        let disk = changed(&disk, FIRST, |bytes| bytes.resize(bytes.len() + ahead, 0));
        assert_eq!(ledger::read_all(&*disk), whole);
        assert_eq!(journal::tail(&*disk, &mut |_| {}).unwrap().unwrap().torn_bytes, 0);
        let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
        assert_eq!((&recovered, cut_bytes(&journal)), (&whole, 0));
        journal.close();
        // A crash after the next segment was begun, and before the zeros of the one before were cut off.
        let older = changed(&disk, FIRST, |bytes| bytes.resize(bytes.len() + ahead, 0));
        assert_eq!(ledger::open(&older, ledger::options()).unwrap().1[..whole.len()], whole);
        // A batch that is there is not cut because zeros follow it, or stand where it should begin.
        let torn = changed(&disk, FIRST, |bytes| {
            bytes.resize(bytes.len() + ahead, 0);
            bytes[begins[5] as usize + 40] ^= 1;
        });
        assert!(ledger::open(&torn, ledger::options()).is_err(), "its successor names what is missing");
    }
}

#[test]
fn damage_in_an_older_segment_is_refused() {
    let (disk, _) = closed();
    ledger::open(&disk, ledger::options()).unwrap().0.close();
    let length = disk.read(FIRST).unwrap().len();
    for disk in [
        changed(&disk, FIRST, |bytes| bytes[length - 1] ^= 1),
        changed(&disk, FIRST, |bytes| bytes.truncate(length - 1)),
        changed(&disk, FIRST, |bytes| bytes.clear()),
    ] {
        assert!(matches!(ledger::open(&disk, ledger::options()), Err(OpenError::Unreadable(ReadError::Damaged(_)))));
        // Whoever needs only what comes after it is served.
        let from = Some(Position { segment: 2, offset: 0, record: 0 });
        let mut seen = 0;
        let opened =
            journal::Journal::open(disk.clone(), ledger::two_trees(), ledger::options(), from, &mut |_| seen += 1);
        assert!(opened.is_ok() && seen == 2);
    }
}

#[test]
fn a_segment_that_is_missing_or_was_put_back_older_is_refused() {
    let (disk, begins) = closed();
    for _ in 0..2 {
        ledger::open(&disk, ledger::options()).unwrap().0.close();
    }
    let missing = disk.kill();
    missing.remove("0000000002.segment").unwrap();
    let Err(OpenError::Unreadable(ReadError::Missing(name))) = ledger::open(&missing, ledger::options()) else {
        panic!("a gap is accepted");
    };
    assert!(name.ends_with("0000000002.segment"));
    // An older state of a segment is whole in itself; its successor knows better.
    let older = changed(&disk, FIRST, |bytes| bytes.truncate(begins[4] as usize));
    assert!(matches!(ledger::open(&older, ledger::options()), Err(OpenError::Unreadable(ReadError::Damaged(_)))));
    // What was archived is missing at the beginning only.
    let archived = disk.kill();
    archived.remove(FIRST).unwrap();
    assert!(ledger::open(&archived, ledger::options()).is_ok());
}

#[test]
fn a_segment_that_never_became_whole_is_cut() {
    let (disk, _) = closed();
    let whole = ledger::read_all(&*disk);
    let header = disk.read(FIRST).unwrap();
    let mut damaged_rest = header[..300].to_vec();
    damaged_rest[20..28].copy_from_slice(&2u64.to_be_bytes());
    for never_whole in [vec![], vec![0; 700], header[..10].to_vec(), header[..30].to_vec(), header[..100].to_vec()] {
        let disk = disk.kill();
        let length = never_whole.len() as u64;
        disk.put("0000000002.segment", never_whole);
        assert_eq!(ledger::read_all(&*disk), whole);
        let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
        assert_eq!((recovered, cut_bytes(&journal)), (whole.clone(), length));
        let committed = ledger::append(&journal, 0, 9, true);
        assert_eq!(committed.position().segment, 2);
        journal.close();
        assert_eq!(ledger::read_all(&*disk).len(), whole.len() + 3);
    }
    // Something else in its place is not ours to take away.
    disk.put("0000000002.segment", b"somebody's letters".to_vec());
    assert!(matches!(ledger::open(&disk, ledger::options()), Err(OpenError::Unreadable(ReadError::Damaged(_)))));
}

#[test]
fn old_bytes_are_never_read_as_new_ones() {
    let (disk, begins) = closed();
    let whole = ledger::read_all(&*disk);
    let bytes = disk.read(FIRST).unwrap();
    let (other, _) = closed();
    let other = other.read(FIRST).unwrap();
    let [one, two] = [begins[0] as usize, begins[1] as usize];
    for old in [&bytes[one..two], &bytes[one..], &other[..], &other[one..]] {
        // At the end of the file, and on top of a batch that was cut off.
        for at in [bytes.len(), begins[5] as usize] {
            let disk = changed(&disk, FIRST, |bytes| {
                bytes.truncate(at);
                bytes.extend_from_slice(old);
            });
            let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
            assert!(whole.starts_with(&recovered), "an old batch is read as new");
            // Zeros at the end are what was written ahead.
            let written = old.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            assert_eq!(cut_bytes(&journal), written as u64);
        }
    }
    // A whole file of another journal under a new name.
    disk.put("0000000002.segment", other);
    assert!(ledger::open(&disk, ledger::options()).is_err());
}

/// A peer may send us bytes that look like a block of a journal; it cannot know the segment's mark.
#[test]
fn a_message_that_holds_a_block_is_a_message() {
    let (other, begins) = closed();
    let block = other.read(FIRST).unwrap().split_off(begins[1] as usize);
    let disk = Faulty::new();
    let (journal, _) = ledger::open(&disk, ledger::first()).unwrap();
    disk.fail(0, Fault::Torn);
    journal.append(TreeIndex(0), ledger::record(1), block.repeat(3).into(), true).wait().unwrap_err();
    drop(journal);
    let (journal, recovered) = ledger::open(&disk, ledger::options()).unwrap();
    assert_eq!(recovered.len(), 2, "the two geneses");
    assert!(cut_bytes(&journal) > 0);
}

#[test]
fn an_empty_directory_is_never_taken_for_a_first_use() {
    let disk = Faulty::new();
    assert!(matches!(ledger::open(&disk, ledger::options()), Err(OpenError::NeverFirstUse(_))));
    disk.put("0000000001.segment", vec![]);
    assert!(matches!(ledger::open(&disk, ledger::options()), Err(OpenError::NeverFirstUse(_))));
    let (disk, _) = closed();
    assert!(matches!(ledger::open(&disk, ledger::first()), Err(OpenError::NotEmpty(_))));
}

#[test]
fn trees_that_cannot_be_are_refused() {
    let open = |trees| journal::Journal::open(Faulty::new(), trees, ledger::first(), None, &mut |_| {}).err().unwrap();
    let long = Owner { member: "m".repeat(1_024), ..ledger::tree("m").owner };
    for trees in [
        vec![],
        vec![ledger::tree("VN/GOV/moj"), ledger::tree("VN/GOV/moj")],
        vec![journal::Tree { owner: long, key: ledger::key() }],
    ] {
        assert!(matches!(open(trees), OpenError::Trees(_)));
    }
}

fn sample() -> &'static (Arc<Faulty>, Vec<Entry>) {
    static SAMPLE: OnceLock<(Arc<Faulty>, Vec<Entry>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        // Two segments, the first with all its batches whole behind it.
        let (disk, _) = closed();
        let (journal, _) = ledger::open(&disk, Options { segment_bytes: 1_000_000, ..ledger::options() }).unwrap();
        (10..14).for_each(|number| drop(ledger::append(&journal, number as usize % 2, number, number % 3 == 0)));
        journal.close();
        let entries = ledger::read_all(&*disk);
        (disk, entries)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_anywhere_is_detected(last in any::<bool>(), place in any::<proptest::sample::Index>(), bit in 0..8u32) {
        let (disk, whole) = sample();
        let name = if last { "0000000002.segment" } else { FIRST };
        let disk = changed(disk, name, |bytes| { let at = place.index(bytes.len()); bytes[at] ^= 1u8 << bit; });
        match ledger::open(&disk, ledger::options()) {
            Err(OpenError::Unreadable(_)) => {}
            Err(other) => panic!("{other}"),
            Ok((journal, recovered)) => {
                // Only where it cannot be told from a torn tail: at the last batch of the last segment.
                prop_assert!(last && cut_bytes(&journal) > 0);
                prop_assert!(recovered.len() + 1 >= whole.len());
                for (found, known) in recovered.iter().zip(whole) {
                    prop_assert!((found.position, &found.record, &found.beside) == (known.position, &known.record, &known.beside));
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes in any::<Vec<u8>>(), after in 0..400usize, magic in any::<bool>()) {
        let disk = Faulty::new();
        let mut file = if magic { sample().0.read(FIRST).unwrap()[..after].to_vec() } else { Vec::new() };
        file.extend_from_slice(&bytes);
        disk.put(FIRST, file);
        let mut seen = 0;
        let _ = journal::read(&*disk, None, &mut |_| seen += 1);
        prop_assert!(seen == 0);
        let _ = ledger::open(&disk, ledger::options());
    }

    #[test]
    fn a_segment_with_bytes_replaced_never_panics(bytes in any::<Vec<u8>>(), place in any::<proptest::sample::Index>()) {
        let (disk, whole) = sample();
        let disk = changed(disk, FIRST, |file| {
            let at = place.index(file.len());
            let ends = file.len().min(at + bytes.len());
            file[at..ends].copy_from_slice(&bytes[..ends - at]);
        });
        let mut found = Vec::new();
        let _ = journal::read(&*disk, None, &mut |entry| found.push(entry));
        prop_assert!(whole.starts_with(&found));
    }
}
