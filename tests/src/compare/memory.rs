//! `compare memory`: what an entry takes beside the bytes of its key and its value.

use std::hint::black_box;

use serde_json::{Value, json};

use super::caches::{CONTENDERS, CORE, Contender, GROUP_ASYNC_STD, GROUP_TOKIO};
use super::keys::{KEY, Stream, VALUE};
use super::{Bound, Outcome, Progress, Report, Samples, Setting, Subject, run_child};

pub(super) const SUBJECT: Subject = Subject {
    name: "memory",
    about: "bytes per entry, by the allocator's books and by resident memory",
    run,
    child: Some(child),
};

const METHOD: &str = "\
1 M entries (a quick run: 500,000) with keys of 16 bytes and values of 100, of which every one was read once; each contender in a process of its own. \"Asked for\" is \
what the allocator was asked for and not given back: tables, slack and handles, without what it rounds up. \"Resident\" is how much the \
process has grown by. Key and value are 116 of each figure. The books are those of one thread: what async-std's threads allocate and free for each other is not in \
them, so it has no line there.";

const ASKED: &str = "bytes per entry, asked for";
const RESIDENT: &str = "bytes per entry, resident";
const BEYOND: &str = "bytes per entry beyond key and value, asked for";
/// So many entries; a quick run makes do with fewer.
const ENTRIES: [u32; 2] = [1_000_000, 500_000];
const CASES: [&str; 2] = ["1 M entries", "500,000 entries"];

fn run(setting: &Setting) -> Outcome<Report> {
    let mut report = Report::new(SUBJECT.name, METHOD);
    let case = setting.pick(CASES[0], CASES[1]);
    let contenders: Vec<_> = CONTENDERS.iter().filter(|it| setting.wants(it.name)).collect();
    let progress = Progress::new(SUBJECT.name, contenders.len());
    let mut beyond = Vec::new();
    for contender in contenders {
        progress.begin(contender.name);
        let told = run_child(setting, SUBJECT.name, &[contender.name.to_owned()])?;
        let figure = |name: &str| told[name].as_f64().ok_or_else(|| format!("{}: no {name}", contender.name));
        let (asked, resident) = (figure("asked")?, figure("resident")?);
        if contender.name != GROUP_ASYNC_STD.name {
            report.add(ASKED, case, contender.name, Samples::count(asked));
            beyond.push((contender.name, asked - (KEY + VALUE) as f64));
        }
        report.add(RESIDENT, case, contender.name, Samples::count(resident));
        progress.done();
    }
    for (name, bytes) in beyond {
        report.add(BEYOND, case, name, Samples::count(bytes));
    }
    for metric in [ASKED, RESIDENT] {
        for ours in [CORE, GROUP_TOKIO] {
            let bytes = report.samples(metric, case, ours.name).map(Samples::median);
            report.demand(format!("{}: {metric}", ours.name), Bound::AtMost(180.0), bytes);
            let least = least_of_others(&report, metric);
            let against = bytes.zip(least).map(|(ours, theirs)| ours / theirs);
            report.demand(
                format!("{}: {metric}, against the least of the others", ours.name),
                Bound::AtMost(1.0),
                against,
            );
        }
    }
    Ok(report)
}

/// Of the contenders that hold keys and values whole, the one that takes least, ours left out.
fn least_of_others(report: &Report, metric: &str) -> Option<f64> {
    let others =
        report.rows.iter().filter(|row| row.metric == metric && !row.contender.starts_with("groupcache "));
    others.map(|row| row.median).min_by(f64::total_cmp)
}

/// Fills one cache and tells what it takes.
fn child(setting: &Setting, args: &[String]) -> Outcome<Value> {
    let named = |contender: &&Contender| Some(contender.name) == args.first().map(String::as_str);
    let contender = CONTENDERS.iter().find(named).ok_or("no such contender")?;
    // What is not the cache's comes first: the requests, and whatever starts with a program.
    let entries = setting.pick(ENTRIES[0], ENTRIES[1]);
    let stream = Stream::new(0..entries);
    let before = resident()?;
    let mut made = None;
    let allocated = (setting.meter)(&mut || {
        made = Some((contender.make)(entries as usize * 21 / 20).and_then(|cache| {
            cache.fill(&stream)?;
            cache.settle();
            let held = cache.hits(&stream);
            cache.settle();
            Ok((cache, held))
        }));
    });
    let (cache, held) = made.ok_or("the meter has not called")??;
    if held < entries as usize * 99 / 100 {
        return Err(format!("{} holds {held} entries only", contender.name).into());
    }
    let grown = resident()?.saturating_sub(before);
    black_box(cache);
    let each = |bytes: usize| bytes as f64 / held as f64;
    Ok(json!({ "asked": each(allocated.bytes_kept), "resident": each(grown) }))
}

/// Resident bytes of this process.
fn resident() -> Outcome<usize> {
    Ok(usize::try_from(crate::resident(std::process::id())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_grows_with_what_is_written_to() {
        let before = resident().unwrap();
        let block = black_box(vec![1_u8; 64 << 20]);
        assert!(resident().unwrap() > before + (48 << 20));
        drop(block);
    }

    #[test]
    fn the_least_of_the_others_is_none_of_ours() {
        let mut report = Report::new("memory", "so");
        report.add(ASKED, CASES[0], CORE.name, Samples::count(1.0));
        report.add(ASKED, CASES[0], "quick_cache", Samples::count(3.0));
        report.add(ASKED, CASES[0], "moka sync", Samples::count(2.0));
        report.add(RESIDENT, CASES[0], "moka sync", Samples::count(1.5));
        assert_eq!(least_of_others(&report, ASKED), Some(2.0));
    }
}
