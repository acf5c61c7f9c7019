//! Writes the page about a run, and the file with all of its data.

use crate::error::{Error, Result};
use crate::ops;
use crate::record::{self, Check, Checks, Device, Step, Timing, Timings, read_json};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Results of a run, which may have ended early.
#[derive(Clone, Debug, Default, Serialize)]
struct Run {
    date: String,
    device: Device,
    checks: Option<Checks>,
    /// Digests of the CPU's results on the machine that built the program.
    digests: Option<Checks>,
    timings: Option<Timings>,
    peers: Option<Timings>,
    steps: Vec<Step>,
}

/// Writes the page and the data file; returns their paths.
pub fn write(folder: &Path, docs: &Path, date: &str) -> Result<[PathBuf; 2]> {
    let run = read(folder, date)?;
    let slug: String = run.device.name.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-");
    let paths = ["md", "json"].map(|extension| docs.join(format!("{slug}-{date}.{extension}")));
    record::write_json(&paths[1], &run)?;
    record::write(&paths[0], &page(&run))?;
    Ok(paths)
}

fn read(folder: &Path, date: &str) -> Result<Run> {
    let checks = checks(folder)?;
    let timings: Option<Timings> = read_json(&folder.join("time.json"))?;
    let of_checks = checks.as_ref().and_then(|checks| checks.device.clone());
    let device = of_checks.or_else(|| timings.as_ref().map(|timings| timings.device.clone()));
    let nothing = || Error::NothingThere(folder.to_path_buf(), "check*.json or time.json", "check");
    let device = device.filter(|device| !device.name.is_empty()).ok_or_else(nothing)?;
    let path = folder.join("steps.tsv");
    let steps = match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().filter_map(step).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::File(path, error)),
    };
    let (digests, peers) = (read_json(&folder.join("digest.json"))?, read_json(&folder.join("peers.json"))?);
    Ok(Run { date: date.to_string(), device, checks, digests, timings, peers, steps })
}

/// Reads the files named `check*.json`, and puts their checks in the order of the ops. Returns `None` if there is no
/// such file.
fn checks(folder: &Path) -> Result<Option<Checks>> {
    let describe = |error| Error::File(folder.to_path_buf(), error);
    let mut all: Option<Checks> = None;
    for entry in std::fs::read_dir(folder).map_err(describe)? {
        let path = entry.map_err(describe)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with("check") && name.ends_with(".json")) {
            continue;
        }
        let Some(mut read) = read_json::<Checks>(&path)? else { continue };
        match &mut all {
            Some(all) => all.checks.append(&mut read.checks),
            None => all = Some(read),
        }
    }
    let order = ops::names();
    let at = |check: &Check| {
        // A name of a type has at most four letters. Checks of calls of more than 2^32 elements have longer names here,
        // and come last.
        (check.dtype.len() > 4, order.iter().position(|name| *name == check.op))
    };
    all.iter_mut().for_each(|all| all.checks.sort_by_key(at));
    Ok(all)
}

/// Parses a line of name, status and seconds, separated by tabs.
fn step(line: &str) -> Option<Step> {
    let mut parts = line.split('\t');
    let (name, status, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Step { name: name.to_string(), status: status.parse().ok()?, seconds: seconds.parse().ok()? })
}

fn page(run: &Run) -> String {
    let mut page = String::new();
    let Device { name, compute_capability, multiprocessors, memory, driver } = &run.device;
    let _ = writeln!(page, "# {name}, {}\n", run.date);
    let gib = *memory as f64 / f64::from(1 << 30);
    let _ = write!(page, "Compute capability {compute_capability}, {multiprocessors} multiprocessors, {gib:.0} GiB");
    let _ =
        writeln!(page, "{}.", if driver.is_empty() { String::new() } else { format!("; driver and clocks: {driver}") });
    let _ = writeln!(page, "Written by `scripts/gpu-check`; [README.md](README.md) describes the method.\n");
    bits(&mut page, run);
    times(&mut page, run);
    steps(&mut page, run);
    page
}

fn bits(page: &mut String, run: &Run) {
    let _ = writeln!(page, "## Bits\n");
    let Some(checks) = &run.checks else {
        let _ = writeln!(page, "Bits were not compared.\n");
        return;
    };
    let sum = |of: fn(&Check) -> usize| checks.checks.iter().map(of).sum::<usize>();
    let wrong = checks.checks.iter().filter(|check| check.mismatches > 0 || check.stopped.is_some()).count();
    let _ = writeln!(
        page,
        "{} cases of {} elements, seed {}, sources {}: {} cases whose bits or errors differ from the CPU's, or whose \
         arguments the CPU refused. {wrong} of {} checks have such a case or did not finish. The last column says \
         whether the CPU gave the same bits as on the machine that built the program.\n",
        sum(|check| check.cases),
        sum(|check| check.elements),
        checks.seed,
        checks.build,
        sum(|check| check.mismatches),
        checks.checks.len(),
    );
    let _ =
        writeln!(page, "| op | type | cases | elements | different bits | first difference or reason | CPU's digest |");
    let _ = writeln!(page, "|---|---|---:|---:|---:|---|---|");
    for check in &checks.checks {
        let Check { op, dtype, cases, elements, mismatches, first, stopped, .. } = check;
        let described = [first, stopped].into_iter().flatten().map(|text| cell(text)).collect::<Vec<_>>().join("; ");
        let digest = on_build_machine(run, checks, check);
        let _ = writeln!(page, "| {op} | {dtype} | {cases} | {elements} | {mismatches} | {described} | {digest} |");
    }
    let _ = writeln!(page);
}

/// Escapes a text for a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn on_build_machine(run: &Run, checks: &Checks, check: &Check) -> &'static str {
    let same_cases =
        |other: &&Checks| (other.seed, other.part, other.elements) == (checks.seed, checks.part, checks.elements);
    let Some(digests) = run.digests.as_ref().filter(same_cases) else { return "missing" };
    let same_op = |other: &&Check| (&other.op, &other.dtype) == (&check.op, &check.dtype);
    match digests.checks.iter().find(same_op) {
        None => "missing",
        Some(other) if other.cases != check.cases => "of other cases",
        Some(other) if other.digest == check.digest => "the same",
        Some(_) => "**different**",
    }
}

fn times(page: &mut String, run: &Run) {
    let _ = writeln!(page, "## Times\n");
    let Some(timings) = &run.timings else {
        let _ = writeln!(page, "Nothing was timed.\n");
        return;
    };
    let peers = run.peers.clone().unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for timing in &peers.timings {
        if !names.contains(&timing.by.as_str()) {
            names.push(&timing.by);
        }
    }
    let largest = timings.timings.iter().filter(|timing| timing.copy_us > 0.0).max_by_key(|timing| timing.bytes);
    if let Some(Timing { bytes, copy_us, .. }) = largest {
        let (rate, mib) = (rate(*bytes, *copy_us), bytes >> 20);
        let _ = writeln!(page, "A copy that reads and writes {mib} MiB in total: {rate:.0} GB/s.\n");
    }
    let _ = writeln!(
        page,
        "Times are medians of batches, in µs. The share of a copy is the duration of a copy of as many bytes, read \
         and written, in this run, divided by the op's duration. Its inverse is the number of such copies that fit in \
         the op's duration. Bytes are those that Evenkeel's op has to move; other libraries may move more or fewer.\n"
    );
    if !peers.versions.is_empty() {
        let _ = writeln!(page, "Compared with {}.\n", peers.versions.join(", "));
    }
    let _ = write!(page, "| op | type | shape | µs | GB/s | share of a copy |");
    names.iter().for_each(|name| {
        let _ = write!(page, " {name}, µs |");
    });
    let _ = writeln!(page, " notes |\n|---|---|---|---:|---:|---:|{}---|", "---:|".repeat(names.len()));
    for timing in &timings.timings {
        let Timing { op, dtype, rows, cols, bytes, us, copy_us, trouble, .. } = timing;
        let _ = write!(page, "| {op} | {dtype} | {rows}x{cols} |");
        if *us > 0.0 {
            let _ = write!(page, " {us:.1} | {:.0} | {:.2} |", rate(*bytes, *us), copy_us / us);
        } else {
            let _ = write!(page, " | | |");
        }
        let mut notes: Vec<String> = trouble.iter().map(|trouble| cell(trouble)).collect();
        for name in &names {
            let same = |peer: &&Timing| {
                peer.by == **name && (&peer.op, &peer.dtype, peer.rows, peer.cols) == (op, dtype, *rows, *cols)
            };
            let peer = peers.timings.iter().find(same);
            let us = peer.filter(|peer| peer.us > 0.0).map(|peer| format!("{:.1}", peer.us)).unwrap_or_default();
            let _ = write!(page, " {us} |");
            notes.extend(peer.and_then(|peer| peer.trouble.as_ref()).map(|text| format!("{name}: {}", cell(text))));
        }
        let _ = writeln!(page, " {} |", notes.join("; "));
    }
    let _ = writeln!(page);
    let is_alone = |peer: &&Timing| {
        let same = |ours: &Timing| (&ours.op, ours.rows, ours.cols) == (&peer.op, peer.rows, peer.cols);
        peer.us > 0.0 && !timings.timings.iter().any(same)
    };
    for Timing { op, dtype, rows, cols, by, bytes, us, .. } in peers.timings.iter().filter(is_alone) {
        let _ = writeln!(page, "- {by}, {op} of {dtype}, {rows}x{cols}: {us:.1} µs, {:.0} GB/s", rate(*bytes, *us));
    }
    // Cases that were skipped for lack of time are counted by library.
    let mut untimed: BTreeMap<&str, usize> = BTreeMap::new();
    for left_out in &peers.left_out {
        match left_out.strip_suffix(": no time was left").and_then(|case| case.split_once(", ")) {
            Some((library, _)) => *untimed.entry(library).or_default() += 1,
            None => {
                let _ = writeln!(page, "- left out: {left_out}");
            }
        }
    }
    for (library, cases) in untimed {
        let _ = writeln!(page, "- left out, because no time was left: {cases} cases of {library}");
    }
    let _ = writeln!(page);
}

/// Returns the rate in GB/s.
fn rate(bytes: usize, us: f64) -> f64 {
    bytes as f64 / us / 1e3
}

fn steps(page: &mut String, run: &Run) {
    let _ = writeln!(page, "## Steps\n\n| step | result | s |\n|---|---|---:|");
    for Step { name, status, seconds } in &run.steps {
        let described = match status {
            0 => "finished",
            124 | 137 => "timed out",
            127 => "missing",
            _ => "failed",
        };
        let _ = writeln!(page, "| {name} | {described} ({status}) | {seconds} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::OURS;

    fn made_up(folder: &Path) {
        let device = Device {
            name: "Made Up 100".into(),
            compute_capability: "9.0".into(),
            multiprocessors: 2,
            memory: 8 << 30,
            driver: "1.2, 3 MHz".into(),
        };
        let good = Check {
            op: "softmax".into(),
            dtype: "BF16".into(),
            cases: 3,
            elements: 40,
            digest: "12".into(),
            ..Check::default()
        };
        let first = Some("2x2, plain: result 0 | element 1".to_string());
        let bad = Check { dtype: "F32".into(), mismatches: 1, first, digest: "34".into(), ..good.clone() };
        let stopped = Check { op: "exp".into(), stopped: Some("lost".into()), ..good.clone() };
        let checks = Checks { device: Some(device.clone()), checks: vec![good, bad, stopped], ..Checks::default() };
        record::write_json(&folder.join("check.json"), &checks).unwrap();
        let mut digests = Checks { device: None, ..checks };
        digests.checks[1].digest = "35".into();
        digests.checks.truncate(2);
        record::write_json(&folder.join("digest.json"), &digests).unwrap();
        let timing = Timing {
            op: "softmax".into(),
            dtype: "BF16".into(),
            rows: 8192,
            cols: 1024,
            by: OURS.into(),
            bytes: 4_000_000,
            us: 2.0,
            copy_us: 1.0,
            ..Timing::default()
        };
        let timings = Timings { device, timings: vec![timing.clone()], ..Timings::default() };
        record::write_json(&folder.join("time.json"), &timings).unwrap();
        // Timings in the format that peers.py writes.
        let peers = r#"{"versions": ["torch 9.9"], "left_out": ["Liger: not there",
            "torch, exp of F32, 1x2: no time was left", "torch, exp of BF16, 1x2: no time was left"], "timings": [
            {"op": "softmax", "dtype": "BF16", "rows": 8192, "cols": 1024, "by": "torch", "us": 3.5, "fastest": 3.0,
             "slowest": 4.0, "trouble": null},
            {"op": "softmax", "dtype": "BF16", "rows": 8192, "cols": 1024, "by": "Triton", "us": 0.0, "fastest": 0.0,
             "slowest": 0.0, "trouble": "off by 0.5"},
            {"op": "read", "dtype": "F32", "rows": 1, "cols": 250000, "by": "torch", "us": 1.0, "fastest": 1.0,
             "slowest": 1.0, "trouble": null, "bytes": 1000000}]}"#;
        record::write(&folder.join("peers.json"), peers).unwrap();
        record::write(&folder.join("steps.tsv"), "check\t1\t12\ncompute-sanitizer racecheck\t127\t0\n").unwrap();
    }

    #[test]
    fn a_made_up_run_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        made_up(folder.path());
        let docs = folder.path().join("docs/gpu");
        let [page, file] = write(folder.path(), &docs, "2026-01-02").unwrap();
        assert_eq!(page.file_name().unwrap(), "made-up-100-2026-01-02.md");
        let text = std::fs::read_to_string(page).unwrap();
        for line in [
            "# Made Up 100, 2026-01-02\n",
            "Compute capability 9.0, 2 multiprocessors, 8 GiB; driver and clocks: 1.2, 3 MHz.\n",
            "9 cases of 120 elements, seed 0, sources : 1 cases whose bits or errors differ from the CPU's, or whose \
             arguments the CPU refused. 2 of 3 checks",
            "\n| softmax | BF16 | 3 | 40 | 0 |  | the same |\n",
            "\n| softmax | F32 | 3 | 40 | 1 | 2x2, plain: result 0 \\| element 1 | **different** |\n",
            "\n| exp | BF16 | 3 | 40 | 0 | lost | missing |\n",
            "\nA copy that reads and writes 3 MiB in total: 4000 GB/s.\n",
            "\n| op | type | shape | µs | GB/s | share of a copy | torch, µs | Triton, µs | notes |\n",
            "\n| softmax | BF16 | 8192x1024 | 2.0 | 2000 | 0.50 | 3.5 |  | Triton: off by 0.5 |\n",
            "\n- torch, read of F32, 1x250000: 1.0 µs, 1000 GB/s\n- left out: Liger: not there\n\
             - left out, because no time was left: 2 cases of torch\n",
            "\n| check | failed (1) | 12 |\n| compute-sanitizer racecheck | missing (127) | 0 |\n",
        ] {
            assert!(text.contains(line), "the page must contain {line:?}, got\n{text}");
        }
        let whole: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(whole["checks"]["checks"][1]["mismatches"], 1);
        assert_eq!(whole["peers"]["timings"][0]["by"], "torch");
    }

    #[test]
    fn parts_of_a_run_have_theirs_and_nothing_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let docs = folder.path().join("docs");
        let error = write(folder.path(), &docs, "2026-01-02").unwrap_err().to_string();
        assert!(
            error.ends_with("has no check*.json or time.json; run `gpu-check check` on a device to write it"),
            "{error}"
        );
        assert!(!docs.exists());
        made_up(folder.path());
        for file in ["check.json", "digest.json", "peers.json", "steps.tsv"] {
            std::fs::remove_file(folder.path().join(file)).unwrap();
        }
        let [page, _] = write(folder.path(), &docs, "2026-01-02").unwrap();
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains("Bits were not compared.") && text.contains("| 2.0 | 2000 | 0.50 |  |"), "{text}");
        std::fs::write(folder.path().join("time.json"), "{").unwrap();
        assert!(matches!(write(folder.path(), &docs, "2026-01-03"), Err(Error::Json(..))));
    }
}
