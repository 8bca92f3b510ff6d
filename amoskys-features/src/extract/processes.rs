use amoskys_core::event::{Entity, ProcessAction, ProcessEvent};

use super::catalog::{Catalog, Feature, Reads};
use super::domain::byte_entropy;
use super::fact::{Ancestry, Fact};
use super::parts::count;
use super::process_tracker::is_shell;
use crate::aggregate::{Distinct, Frequencies, Moments, Quantiles, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of the processes of a device: what starts what, as whom, and for how long. The entity is
/// [`Entity::Named`] by the device.
pub struct Processes;

type F = Feature<ProcessAggregate>;

aggregate! {
    /// What is kept for the processes of a device.
    pub struct ProcessAggregate {
        forks: u64,
        execs: u64,
        exits: u64,
        credentials: u64,
        failed: u64,
        killed: u64,
        executables: Frequencies,
        users: Frequencies,
        containers: Distinct,
        commands: Distinct,
        directories: Frequencies,
        new_executables: u64,
        new_pairs: u64,
        orphans: u64,
        shells: u64,
        by_shells: u64,
        inline: u64,
        temporary: u64,
        hidden: u64,
        deleted: u64,
        as_root: u64,
        became_root: u64,
        with_address: u64,
        downloads: u64,
        encoded: u64,
        renamed: u64,
        depth: Moments,
        siblings: Moments,
        arguments: Moments,
        argument_length: Moments,
        argument_entropy: Moments,
        lifetimes: Quantiles,
        short_lives: u64,
    }
}

impl Catalog for Processes {
    type Aggregate = ProcessAggregate;

    const NAME: &'static str = "process";
    const READS: Reads = Reads::Processes;

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Process { device, .. } => Some(Entity::Named((*device).clone())),
            _ => None,
        }
    }

    fn add(kept: &mut ProcessAggregate, fact: &Fact<'_>) {
        if let Fact::Process { record, ancestry, .. } = fact {
            kept.users.add(KeyHash::of_number(u64::from(record.uid)));
            kept.became_root += u64::from(ancestry.became_root);
            if !record.container.is_empty() {
                kept.containers.add(KeyHash::of(record.container.as_bytes()));
            }
            match record.action {
                ProcessAction::Fork => {
                    kept.forks += 1;
                    kept.siblings.add(count(ancestry.siblings));
                }
                ProcessAction::Exec => kept.exec(record, ancestry),
                ProcessAction::Exit => {
                    kept.exits += 1;
                    kept.failed += u64::from(record.exit_code.is_some_and(|code| code != 0));
                    kept.killed += u64::from(record.exit_signal.is_some_and(|signal| signal != 0));
                    if let Some(lifetime) = ancestry.lifetime {
                        kept.lifetimes.add(lifetime);
                        kept.short_lives += u64::from(lifetime < 0.1);
                    }
                }
                ProcessAction::Credentials => kept.credentials += 1,
                _ => {}
            }
        }
    }

    fn features() -> Vec<Feature<ProcessAggregate>> {
        vec![
            F::new("forks", "", "processes created", |w| count(w.forks)),
            F::new("execs", "", "programs started", |w| count(w.execs)),
            F::new("exits", "", "processes that ended", |w| count(w.exits)),
            F::new(
                "credential_changes",
                "",
                "changes of user, group or capabilities",
                |w| count(w.credentials),
            ),
            F::new("exec_ratio", "", "execs / (forks + execs)", |w| {
                ratio(w.execs, w.forks + w.execs)
            }),
            F::new(
                "failed_ratio",
                "",
                "processes that ended with a status other than 0 / exits",
                |w| ratio(w.failed, w.exits),
            ),
            F::new("killed_ratio", "", "processes that a signal ended / exits", |w| {
                ratio(w.killed, w.exits)
            }),
            F::new("executables", "", "distinct programs started", |w| {
                w.executables.distinct()
            }),
            F::new(
                "executable_entropy",
                "bit",
                "entropy of the programs started",
                |w| w.executables.entropy(),
            ),
            F::new(
                "executable_top_share",
                "",
                "share of the commonest program",
                |w| w.executables.top_share(),
            ),
            F::new("commands", "", "distinct command lines", |w| w.commands.count()),
            F::new(
                "directory_entropy",
                "bit",
                "entropy of the working directories of programs started",
                |w| w.directories.entropy(),
            ),
            F::new("users", "", "distinct users that processes ran as", |w| {
                w.users.distinct()
            }),
            F::new(
                "user_entropy",
                "bit",
                "entropy of the users that processes ran as",
                |w| w.users.entropy(),
            ),
            F::new("containers", "", "distinct containers", |w| w.containers.count()),
            F::new(
                "new_executables",
                "",
                "programs the device had not started before",
                |w| count(w.new_executables),
            ),
            F::new("new_executable_ratio", "", "new_executables / execs", |w| {
                ratio(w.new_executables, w.execs)
            }),
            F::new(
                "new_pairs",
                "",
                "programs started from a program that had not started them before",
                |w| count(w.new_pairs),
            ),
            F::new("new_pair_ratio", "", "new_pairs / execs", |w| {
                ratio(w.new_pairs, w.execs)
            }),
            F::new(
                "orphan_ratio",
                "",
                "programs started whose parent is not known / execs",
                |w| ratio(w.orphans, w.execs),
            ),
            F::new("shells", "", "command lines started", |w| count(w.shells)),
            F::new(
                "by_shell_ratio",
                "",
                "programs started by a command line / execs",
                |w| ratio(w.by_shells, w.execs),
            ),
            F::new(
                "inline_scripts",
                "",
                "programs started with a script as argument (-c, -e)",
                |w| count(w.inline),
            ),
            F::new(
                "temporary",
                "",
                "programs started from /tmp, /var/tmp, /dev/shm or /run/user",
                |w| count(w.temporary),
            ),
            F::new(
                "hidden",
                "",
                "programs started from a file or directory whose name begins with a dot",
                |w| count(w.hidden),
            ),
            F::new(
                "deleted",
                "",
                "programs started that have no file: deleted, or in memory only",
                |w| count(w.deleted),
            ),
            F::new("as_root_ratio", "", "programs started as user 0 / execs", |w| {
                ratio(w.as_root, w.execs)
            }),
            F::new("became_root", "", "processes whose user became 0", |w| {
                count(w.became_root)
            }),
            F::new(
                "with_address",
                "",
                "programs started with a URL or an IPv4 address among the arguments",
                |w| count(w.with_address),
            ),
            F::new(
                "downloads",
                "",
                "starts of curl, wget, fetch, ftp, tftp, scp or nc",
                |w| count(w.downloads),
            ),
            F::new(
                "encoded_arguments",
                "",
                "arguments of 40 or more letters and digits of base64 without a path",
                |w| count(w.encoded),
            ),
            F::new(
                "renamed",
                "",
                "programs started under a name other than that of their file",
                |w| count(w.renamed),
            ),
            F::new(
                "depth_mean",
                "",
                "mean steps from a started program to the oldest ancestor known; NaN without",
                |w| w.depth.mean(),
            ),
            F::new(
                "depth_max",
                "",
                "most steps from a started program to the oldest ancestor known; NaN without",
                |w| w.depth.max(),
            ),
            F::new(
                "siblings_max",
                "",
                "most children a parent had when it forked; NaN without",
                |w| w.siblings.max(),
            ),
            F::new(
                "arguments_mean",
                "",
                "mean number of arguments; NaN without",
                |w| w.arguments.mean(),
            ),
            F::new(
                "arguments_max",
                "",
                "largest number of arguments; NaN without",
                |w| w.arguments.max(),
            ),
            F::new(
                "argument_length_mean",
                "By",
                "mean length of command lines; NaN without",
                |w| w.argument_length.mean(),
            ),
            F::new(
                "argument_length_max",
                "By",
                "length of the longest command line; NaN without",
                |w| w.argument_length.max(),
            ),
            F::new(
                "argument_entropy_mean",
                "bit",
                "mean entropy of the bytes of command lines; NaN without",
                |w| w.argument_entropy.mean(),
            ),
            F::new(
                "argument_entropy_max",
                "bit",
                "largest entropy of the bytes of a command line; NaN without",
                |w| w.argument_entropy.max(),
            ),
            F::new(
                "lifetime_p50",
                "s",
                "median lifetime of processes that ended; NaN without",
                |w| w.lifetimes.quantile(0.5),
            ),
            F::new(
                "lifetime_p90",
                "s",
                "nine tenths of the processes that ended lived no longer; NaN without",
                |w| w.lifetimes.quantile(0.9),
            ),
            F::new(
                "short_life_ratio",
                "",
                "processes that lived less than 0.1 s / processes that ended whose start is known",
                |w| ratio(w.short_lives, w.lifetimes.count()),
            ),
        ]
    }
}

impl ProcessAggregate {
    fn exec(&mut self, record: &ProcessEvent, ancestry: &Ancestry) {
        let path = record.executable.as_str();
        let name = path.rsplit('/').next().unwrap_or_default();
        let line = record.arguments.join(" ");
        let rest = record.arguments.get(1..).unwrap_or_default();
        self.execs += 1;
        self.executables.add(KeyHash::of(path.as_bytes()));
        self.commands.add(KeyHash::of(line.as_bytes()));
        self.directories
            .add(KeyHash::of(record.working_directory.as_bytes()));
        self.new_executables += u64::from(ancestry.is_new_executable);
        self.new_pairs += u64::from(ancestry.is_new_pair);
        self.orphans += u64::from(!ancestry.is_parent_known);
        self.shells += u64::from(is_shell(path));
        self.by_shells += u64::from(ancestry.is_parent_shell);
        self.inline += u64::from(rest.iter().any(|argument| argument == "-c" || argument == "-e"));
        let temporary = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"];
        self.temporary += u64::from(temporary.iter().any(|start| path.starts_with(start)));
        self.hidden += u64::from(path.contains("/."));
        self.deleted += u64::from(path.ends_with(" (deleted)") || path.starts_with("/memfd:"));
        self.as_root += u64::from(record.uid == 0);
        self.with_address += u64::from(rest.iter().any(|argument| names_address(argument)));
        let fetches = matches!(
            name,
            "curl" | "wget" | "fetch" | "ftp" | "tftp" | "scp" | "nc" | "ncat" | "netcat"
        );
        self.downloads += u64::from(fetches);
        self.encoded += count_encoded(rest);
        let called = record
            .arguments
            .first()
            .map(|argument| argument.rsplit('/').next().unwrap_or_default());
        // A login shell is called by its name with a dash before it.
        self.renamed += u64::from(called.is_some_and(|called| called.trim_start_matches('-') != name));
        self.depth.add(f64::from(ancestry.depth));
        self.arguments.add(count(rest.len() as u64));
        self.argument_length.add(count(line.len() as u64));
        self.argument_entropy.add(byte_entropy(&line));
    }
}

fn names_address(argument: &str) -> bool {
    argument.contains("://")
        || argument
            .split(|at: char| !at.is_ascii_digit() && at != '.')
            .any(|part| part.parse::<std::net::Ipv4Addr>().is_ok())
}

fn count_encoded(arguments: &[String]) -> u64 {
    let is_encoded = |argument: &&String| {
        let body = argument.trim_end_matches('=');
        body.len() >= 40
            && body
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    };
    arguments.iter().filter(is_encoded).count() as u64
}
