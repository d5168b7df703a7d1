//! The people that the population register knows from the start. None of them exists: place 000 of their numbers was
//! never given to anybody, and each middle name says "Mẫu" (sample) or "Thử" (trial).

use time::Date;
use time::macros::date;

use super::field::Sex;

/// A mother of one child, in Hà Nội.
pub const MOTHER: &str = "000196000001";
/// The father of the same child.
pub const FATHER: &str = "000094000001";
/// Their child, under six in 2026.
pub const CHILD: &str = "000221000001";
/// A mother in Đà Nẵng; her children have no father on record.
pub const OTHER_MOTHER: &str = "000190000001";
/// Her elder child, above six in 2026.
pub const SCHOOLCHILD: &str = "000317000001";
/// A number that was issued to nobody.
pub const NOBODY: &str = "000199999999";

/// One of them. Parents are given by their place in the list, and stand before their children.
pub(super) struct SyntheticPerson {
    pub name: &'static str,
    pub sex: Sex,
    pub born: Date,
    pub ethnicity: &'static str,
    pub residence: &'static str,
    pub mother: Option<usize>,
    pub father: Option<usize>,
}

const HANOI: &str = "12 phố Mẫu, phường Thử, Hà Nội";
const DANANG: &str = "7 đường Thử, phường Mẫu, Đà Nẵng";
const CANTHO: &str = "3 hẻm Mẫu, phường Thử, Cần Thơ";

pub(super) const PEOPLE: [SyntheticPerson; 12] = [
    person("Nguyễn Thị Mẫu An", Sex::Female, date!(1996 - 03 - 14), "Kinh", HANOI, None, None),
    person("Trần Văn Mẫu Bình", Sex::Male, date!(1994 - 07 - 02), "Kinh", HANOI, None, None),
    person("Trần Mẫu Minh Khoa", Sex::Male, date!(2021 - 11 - 20), "Kinh", HANOI, Some(0), Some(1)),
    person("Lê Thị Thử Chi", Sex::Female, date!(1990 - 12 - 01), "Kinh", DANANG, None, None),
    person("Lê Thử Bảo Ngọc", Sex::Female, date!(2017 - 05 - 09), "Kinh", DANANG, Some(3), None),
    person("Lê Thử Gia Huy", Sex::Male, date!(2023 - 01 - 30), "Kinh", DANANG, Some(3), None),
    person("Thạch Thị Mẫu Dung", Sex::Female, date!(1988 - 08 - 17), "Khmer", CANTHO, None, None),
    person("Sơn Thử Đức", Sex::Male, date!(1985 - 04 - 25), "Khmer", CANTHO, None, None),
    person("Sơn Mẫu Thu Hà", Sex::Female, date!(2010 - 10 - 10), "Khmer", CANTHO, Some(6), Some(7)),
    person("Sơn Mẫu Quang Vinh", Sex::Male, date!(2014 - 02 - 28), "Khmer", CANTHO, Some(6), Some(7)),
    person("Phạm Thị Thử Em", Sex::Female, date!(1961 - 06 - 06), "Kinh", HANOI, None, None),
    person("Hoàng Văn Thử Phúc", Sex::Male, date!(1958 - 09 - 19), "Tày", HANOI, None, None),
];

const fn person(
    name: &'static str,
    sex: Sex,
    born: Date,
    ethnicity: &'static str,
    residence: &'static str,
    mother: Option<usize>,
    father: Option<usize>,
) -> SyntheticPerson {
    SyntheticPerson { name, sex, born, ethnicity, residence, mother, father }
}
