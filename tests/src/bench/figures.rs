//! Figures: what processes used, medians, and how they are shown.

use std::collections::BTreeMap;

/// Microseconds of a tick of `/proc/PID/stat`: a hundredth of a second on every Linux.
const TICK_US: f64 = 10_000.0;

/// A process and all that it started.
pub fn tree(process: u32) -> Vec<u32> {
    let mut of_tree = vec![process];
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|other: u32| Some((other, field(&stat(other)?, 1) as u32)))
        .collect();
    let mut at = 0;
    while at < of_tree.len() {
        let parent = of_tree[at];
        of_tree.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    of_tree
}

/// What follows the name in `/proc/PID/stat`: the state is field 0.
fn stat(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}

fn field(stat: &str, at: usize) -> f64 {
    stat.split(' ').nth(at).and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

/// Microseconds of CPU that a process and all that it started have used.
pub fn cpu_us(process: u32) -> f64 {
    tree(process).into_iter().filter_map(stat).map(|stat| (field(&stat, 11) + field(&stat, 12)) * TICK_US).sum()
}

/// Microseconds of CPU that this process has used, without those that it started.
pub fn own_cpu_us() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| (field(&stat, 11) + field(&stat, 12)) * TICK_US)
}

/// Microseconds of CPU that the whole machine was busy: the kernel's own threads, which write to the disk, too.
pub fn machine_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> = stat.lines().next().unwrap().split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let idle = fields[3] + fields[4];
    (fields.iter().take(8).sum::<f64>() - idle) * TICK_US
}

/// Megabytes of a process and all that it started in memory.
pub fn resident_mb(process: u32) -> f64 {
    tree(process).into_iter().map(resident_of).sum()
}

fn resident_of(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// What this machine is, and whether the build is one to be measured.
pub fn machine() -> serde_json::Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    serde_json::json!({ "cores": cores, "optimised": !cfg!(debug_assertions) })
}

/// Megabytes of this process in memory, without those that it started.
pub fn own_resident_mb() -> f64 {
    resident_of(std::process::id())
}

/// Microseconds of one write of 4 KiB to the end of a file and its sync, in the directory of temporary files: the median.
pub fn sync_us() -> f64 {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    let syncs = (0..200).map(|_| {
        let began = std::time::Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        began.elapsed().as_secs_f64() * 1e6
    });
    median(syncs.collect())
}

/// The middle one; of an even number, between the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

/// The figures of one stack in one round, or their medians, by name.
pub type Row = BTreeMap<&'static str, f64>;

/// The medians of rounds, name by name.
pub fn medians(rounds: &[Row]) -> Row {
    let names = rounds.iter().flat_map(|row| row.keys().copied());
    names.map(|name| (name, median(rounds.iter().filter_map(|row| row.get(name)).copied().collect()))).collect()
}

/// The median over the rounds of one's figure divided by the other's of the same round.
pub fn ratio(ones: &[Row], others: &[Row], name: &str) -> f64 {
    median(ones.iter().zip(others).map(|(one, other)| one[name] / other[name]).collect())
}

/// With as many digits as are worth reading.
pub fn rounded(value: f64) -> f64 {
    let digits = if value.abs() < 10.0 {
        100.0
    } else if value.abs() < 100.0 {
        10.0
    } else {
        1.0
    };
    (value * digits).round() / digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() {
        let rows = |values: [f64; 3]| values.map(|value| Row::from([("calls_per_second", value)]));
        let (ones, others) = (rows([10.0, 40.0, 90.0]), rows([10.0, 20.0, 30.0]));
        assert_eq!(ratio(&ones, &others, "calls_per_second"), 2.0);
        assert_eq!(medians(&ones)["calls_per_second"], 40.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }

    #[test]
    fn a_process_uses_cpu_and_memory_and_knows_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(tree(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(resident_mb(std::process::id()) > 1.0 && machine_us() > 0.0);
        assert!(cpu_us(std::process::id()) >= 0.0);
    }
}
