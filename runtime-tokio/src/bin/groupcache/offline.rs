//! `groupcache ring --members`: who would own a key, with no node running.

use groupcache_core::{Member, PeerId, Ring, RingEpoch};

use crate::cli::RingArgs;
use crate::report::{Exit, chain, print};

/// Prints a line `KEY<TAB>OWNER` for each key.
pub(crate) fn run(args: &RingArgs) -> Result<(), Exit> {
    print(owners(args)?.as_bytes())
}

fn owners(args: &RingArgs) -> Result<String, Exit> {
    let ring = ring(args)?;
    let mut lines = String::new();
    for key in &args.keys {
        let owner = ring.owner(key.as_bytes()).map(Member::name).unwrap_or_default();
        lines.extend([key, "\t", owner, "\n"]);
    }
    Ok(lines)
}

fn ring(args: &RingArgs) -> Result<Ring, Exit> {
    let (members, weights) = (args.members.len(), args.weights.len());
    if weights != 0 && weights != members {
        return Err(Exit::usage(format!(
            "--weights names {weights} weights for {members} members: give one for each"
        )));
    }
    let weights = args.weights.iter().copied().chain(std::iter::repeat(1));
    let members = (0..)
        .zip(args.members.iter().zip(weights))
        .map(|(id, (name, weight))| Member::new(PeerId::new(id), name.as_str()).with_weight(weight))
        .collect();
    Ring::new(args.placement, RingEpoch::default(), members).map_err(|error| Exit::usage(chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn owners_of(args: &[&str]) -> Result<String, Exit> {
        match Cli::try_parse_from([&["groupcache", "ring"], args].concat()).expect("parses").command {
            Command::Ring(args) => owners(&args),
            other => panic!("not ring: {other:?}"),
        }
    }

    #[test]
    fn each_key_is_printed_with_the_member_that_owns_it() {
        let lines = owners_of(&["--members", "a:1,b:1,c:1", "k1", "k2", "k3"]).unwrap();
        let rows: Vec<_> = lines.lines().map(|line| line.split_once('\t').expect("a tab")).collect();
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["k1", "k2", "k3"]);
        assert!(rows.iter().all(|row| ["a:1", "b:1", "c:1"].contains(&row.1)), "{lines}");
        let reordered = owners_of(&["--members", "c:1,a:1,b:1", "k1", "k2", "k3"]).unwrap();
        assert_eq!(lines, reordered, "slots/1 does not depend on the order of members");
    }

    #[test]
    fn a_heavier_member_owns_more() {
        let keys: Vec<String> = (0..1000).map(|n| format!("key-{n}")).collect();
        let mut args = vec!["--members", "a:1,b:1", "--weights", "1,3"];
        args.extend(keys.iter().map(String::as_str));
        let heavy = owners_of(&args).unwrap().lines().filter(|line| line.ends_with("\tb:1")).count();
        assert!((650..850).contains(&heavy), "{heavy} of 1000");
    }

    #[test]
    fn members_that_make_no_ring_are_refused() {
        for (args, reason) in [
            (&["--members", "a:1,a:1", "k"][..], "twice"),
            (&["--members", "a:1,b:1", "--weights", "1", "k"], "give one for each"),
            (&["--members", "a:1", "--weights", "0", "k"], "weights go from 1"),
        ] {
            let exit = owners_of(args).expect_err("refused");
            assert!(exit.message().contains(reason), "{}", exit.message());
        }
    }
}
