//! Segments that are kept elsewhere are removed: the lowest first, with what is left of them beside the others, and no crash leaves
//! anything in between.

use std::sync::Arc;

use bytes::Bytes;
use journal::faulty::{Fault, Faulty};
use journal::{
    Disk, Finished, NotRemoved, OpenError, Options, ReadError, Remains, TreeIndex, check_remains, finished,
    remains_name, removed, segment_name,
};
use proto::digest::Digest;
use proto::merkle::Frontier;

use crate::crash::afters;
use crate::ledger;

/// A journal of several segments and three starts, closed.
fn long() -> Arc<Faulty> {
    let disk = Faulty::new();
    for start in 0..3 {
        let options = Options { segment_bytes: 1_500, first: start == 0, ..ledger::options() };
        let (journal, _) = ledger::open(&disk, options).unwrap();
        for number in 0..8 {
            let (record, beside) = (ledger::record(start * 100 + number), Bytes::from(vec![7; 300]));
            journal.append(TreeIndex(number as usize % 2), record, beside, number % 3 == 0).wait().unwrap();
        }
        journal.close();
    }
    disk
}

fn remains_of(disk: &dyn Disk, number: u64) -> Remains {
    Remains::of(&Finished::read(disk, number).unwrap(), Bytes::from_static(b"a note")).unwrap()
}

/// As whoever removes them does: what is left of each stands there first.
fn remove_two(disk: &dyn Disk) -> Result<(), NotRemoved> {
    while removed(disk)?.len() < 2 {
        let number = finished(disk)?[0];
        let segment = Finished::read(disk, number)?;
        let remains = Remains::of(&segment, Bytes::from_static(b"a note")).map_err(ReadError::from)?;
        remains.write(disk).map_err(ReadError::from)?;
        remains.remove_segment(disk)?;
    }
    Ok(())
}

#[test]
fn what_is_left_of_a_segment_proves_what_it_proved() {
    let disk = long();
    let all = ledger::read_all(&*disk);
    let before: Vec<Remains> = [1, 2].map(|number| remains_of(&*disk, number)).into();
    remove_two(&*disk).unwrap();
    assert_eq!(removed(&*disk).unwrap(), [1, 2]);
    check_remains(&*disk).unwrap();
    for remains in &before {
        assert_eq!(Remains::read(&*disk, remains.number).unwrap().as_ref(), Some(remains));
        assert_eq!(Remains::parse(&remains.encode().into()).as_ref(), Some(remains));
    }
    // The rest is read as before, and a start goes on.
    let rest = ledger::read_all(&*disk);
    assert!(!rest.is_empty() && all.ends_with(&rest) && rest[0].position.segment == 3);
    ledger::open(&disk, ledger::options()).unwrap();
    // Each leaf of each tree is here once, from what is left or from the records.
    let mut trees = std::collections::BTreeMap::<_, Vec<Digest>>::new();
    for tree in before.iter().flat_map(|remains| &remains.trees) {
        let leaves = trees.entry(tree.name()).or_default();
        assert_eq!(leaves.len() as u64, tree.from);
        leaves.extend(&tree.leaves);
        if let Some(signed) = &tree.signed {
            signed.signed_by(ledger::key().public()).unwrap();
            let mut frontier = Frontier::default();
            leaves[..signed.head.size as usize].iter().for_each(|leaf| drop(frontier.append(*leaf)));
            assert_eq!(frontier.root(), signed.head.root);
        }
    }
    for entry in all.iter().filter(|entry| entry.position.segment < 3) {
        assert_eq!(trees[&entry.tree][entry.commit as usize], entry.leaf);
    }
}

#[test]
fn only_the_lowest_of_several_is_removed_and_only_with_what_is_left_beside_it() {
    let disk = long();
    let [first, second] = [1, 2].map(|number| remains_of(&*disk, number));
    assert!(matches!(first.remove_segment(&*disk), Err(NotRemoved::Unnoted(1))), "nothing is left of it");
    second.write(&*disk).unwrap();
    assert!(matches!(second.remove_segment(&*disk), Err(NotRemoved::NotTheLowest(2))));
    first.write(&*disk).unwrap();
    let other = Remains { sha256: Digest::ZERO, ..first.clone() };
    other.write(&*disk).unwrap();
    assert!(matches!(first.remove_segment(&*disk), Err(NotRemoved::Unnoted(1))), "of another");
    assert!(matches!(other.remove_segment(&*disk), Err(NotRemoved::Unnoted(1))), "it is another");
    assert_eq!(finished(&*disk).unwrap()[0], 1, "it is there");
    first.write(&*disk).unwrap();
    first.remove_segment(&*disk).unwrap();
    // The last is never removed.
    let all = finished(&*disk).unwrap();
    let last = all.last().unwrap() + 1;
    for number in all {
        let remains = remains_of(&*disk, number);
        remains.write(&*disk).unwrap();
        remains.remove_segment(&*disk).unwrap();
    }
    let remains = remains_of(&*disk, last);
    remains.write(&*disk).unwrap();
    assert!(matches!(remains.remove_segment(&*disk), Err(NotRemoved::NotTheLowest(_))));
}

#[test]
fn after_a_crash_between_any_two_writes_it_is_there_or_gone_as_noted() {
    let whole = long();
    let all = ledger::read_all(&*whole);
    let count = {
        let disk = whole.kill();
        let before = disk.operations();
        remove_two(&*disk).unwrap();
        disk.operations() - before
    };
    assert!(count >= 12, "{count} operations");
    for skipped in 0..count {
        for fault in Fault::HONEST {
            for after in afters(skipped) {
                let disk = whole.kill();
                disk.fail(skipped, fault);
                let _ = remove_two(&*disk);
                let disk = after.of(&disk);
                let told = format!("operation {skipped}, {fault:?}, {after:?}");
                match ledger::open(&disk, ledger::options()) {
                    Ok((journal, recovered)) => {
                        let gone = removed(&*disk).unwrap();
                        let here = all.iter().filter(|entry| !gone.contains(&entry.position.segment));
                        assert!(here.eq(recovered.iter()), "{told}: {gone:?}");
                        journal.close();
                    }
                    Err(error) => panic!("{told}: {error}"),
                }
                check_remains(&*disk).unwrap_or_else(|error| panic!("{told}: {error}"));
                // And it goes on where it was.
                remove_two(&*disk).unwrap_or_else(|error| panic!("{told}: {error}"));
                assert_eq!(removed(&*disk).unwrap(), [1, 2], "{told}");
            }
        }
    }
}

#[test]
fn a_segment_that_came_back_below_a_removed_one_is_not_in_the_way() {
    let disk = long();
    let first = disk.read(&segment_name(1)).unwrap();
    remove_two(&*disk).unwrap();
    disk.put(&segment_name(1), first);
    assert_eq!(removed(&*disk).unwrap(), [1, 2]);
    assert_eq!(ledger::read_all(&*disk)[0].position.segment, 3);
    ledger::open(&disk, ledger::options()).unwrap().0.close();
    // Where nothing says that those between were removed, they are missing.
    disk.remove(&remains_name(2)).unwrap();
    let Err(OpenError::Unreadable(ReadError::Missing(name))) = ledger::open(&disk, ledger::options()) else {
        panic!("a gap is no gap")
    };
    assert!(name.contains(&segment_name(2)), "{name}");
}

#[test]
fn whatever_is_done_to_what_is_left_is_found() {
    let disk = long();
    remove_two(&*disk).unwrap();
    let names = [remains_name(1), remains_name(2)];
    let files = names.each_ref().map(|name| disk.read(name).unwrap());
    for (name, file) in names.iter().zip(&files) {
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1 << (at % 8);
            assert_eq!(Remains::parse(&changed.into()), None, "byte {at}");
            assert_eq!(Remains::parse(&Bytes::copy_from_slice(&file[..at])), None, "{at} bytes");
        }
        // With a right checksum it is told by the trees that go on.
        let mut remains = Remains::parse(&file.clone().into()).unwrap();
        let leaf = remains.trees[0].leaves.last_mut().unwrap();
        *leaf = Digest::ZERO;
        disk.put(name, remains.encode());
        let found = check_remains(&*disk).unwrap_err().to_string();
        assert!(found.contains(".removed"), "{found}");
        disk.put(name, file.clone());
        check_remains(&*disk).unwrap();
    }
    disk.put(&names[0], files[1].clone());
    assert!(matches!(check_remains(&*disk), Err(ReadError::Damaged(damage)) if damage.file.ends_with(&names[0])));
    disk.put(&names[0], files[0].clone());
    let mut late = remains_of_file(&files[1]);
    late.trees[0].from += 1;
    late.trees[0].signed = None;
    disk.put(&names[1], late.encode());
    assert!(check_remains(&*disk).is_err());
}

fn remains_of_file(file: &[u8]) -> Remains {
    Remains::parse(&Bytes::copy_from_slice(file)).unwrap()
}
