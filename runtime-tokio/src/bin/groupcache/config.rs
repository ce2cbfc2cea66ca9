//! A configuration file: the flags of `groupcache serve` by name, checked by what checks the flags.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml_edit::{Document, Item, Value};

use crate::cli::Cli;
use crate::report::{Exit, redacted, say};

/// The command line, with what a configuration file and the environment say where it says nothing. Help and wrong usage end the process, as clap has it.
///
/// # Errors
/// The configuration file cannot be read, or has mistakes.
pub(crate) fn command_line() -> Result<Cli, Exit> {
    let mut matches = Cli::command().try_get_matches().unwrap_or_else(refused);
    if let Some(("serve", serve)) = matches.subcommand()
        && let Some(path) = serve.get_one::<PathBuf>("config")
    {
        let file = ConfigFile::read(path).map_err(|unusable| unusable.of(path))?;
        matches = file.below(Cli::command(), serve).try_get_matches().unwrap_or_else(refused);
    }
    Ok(Cli::from_arg_matches(&matches).unwrap_or_else(refused))
}

/// Ends the process with what clap says. What was refused may have a password in it, and come from the environment.
fn refused<T>(error: clap::Error) -> T {
    let said = error.render().to_string();
    if said == redacted(&said) {
        error.exit();
    }
    say(said.trim_end());
    std::process::exit(error.exit_code())
}

/// The settings of a file, each known and by itself in order.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    settings: Vec<Setting>,
}

#[derive(Debug)]
struct Setting {
    name: String,
    values: Vec<String>,
    line: usize,
}

/// Why a file is of no use.
#[derive(Debug)]
pub(crate) enum Unusable {
    Unreadable(io::Error),
    Mistakes(Vec<Mistake>),
}

/// What is wrong in a file, and where.
#[derive(Debug)]
pub(crate) struct Mistake {
    line: usize,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Unusable {
    pub(crate) fn of(self, path: &Path) -> Exit {
        let path = path.display();
        Exit::usage(match self {
            Self::Unreadable(error) => format!("cannot read {path}: {error}"),
            Self::Mistakes(mistakes) => {
                let lines: String = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
                let count = if mistakes.len() == 1 { "a mistake" } else { "mistakes" };
                format!("{path} has {count}:{lines}")
            }
        })
    }
}

impl ConfigFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Unusable> {
        let text = fs::read_to_string(path).map_err(Unusable::Unreadable)?;
        Self::parse(&text).map_err(Unusable::Mistakes)
    }

    /// # Errors
    /// Every mistake, in the order of the lines.
    fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
        let document = Document::parse(text).map_err(|error| {
            let line = line_at(error.span().map_or(text.len(), |span| span.start));
            vec![Mistake { line, what: format!("this is not TOML: {}", error.message()) }]
        })?;
        let schema = Schema::new();
        let (mut settings, mut mistakes) = (Vec::new(), Vec::new());
        for (name, item) in document.as_table() {
            let key = document.as_table().key(name).and_then(toml_edit::Key::span);
            let line = line_at(key.or_else(|| item.span()).map_or(0, |span| span.start));
            match schema.read(name, item) {
                Ok(values) => settings.push(Setting { name: name.to_owned(), values, line }),
                Err(what) => mistakes.push(Mistake { line, what }),
            }
        }
        mistakes.extend(two_ways_to_find_members(&settings));
        mistakes.sort_by_key(|mistake| mistake.line);
        if mistakes.is_empty() { Ok(Self { settings }) } else { Err(mistakes) }
    }

    /// Puts the file's settings in the place of the defaults: whatever was said by a flag or the environment goes before them. Who said there how members
    /// are found has said that the file's way is not meant.
    pub(crate) fn below(&self, mut command: Command, said: &ArgMatches) -> Command {
        let is_said = |id: &str| {
            let source = said.try_contains_id(id).ok().and_then(|_| said.value_source(id));
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let finds_members = MEMBERS.into_iter().any(|name| is_said(&name.replace('-', "_")));
        for Setting { name, values, .. } in &self.settings {
            if values.is_empty() || (finds_members && MEMBERS.contains(&name.as_str())) {
                continue;
            }
            let with_default = |arg: Arg| {
                let is_it = arg.get_long() == Some(name);
                if is_it { arg.default_values(values.clone()) } else { arg }
            };
            command =
                command.mut_args(with_default).mut_subcommand("serve", |serve| serve.mut_args(with_default));
        }
        command
    }

    /// What a node would run with, as a file of its own without the passwords of URLs, and where each setting comes from.
    pub(crate) fn effective(&self) -> String {
        let nothing = without_environment(Cli::command()).get_matches_from(["groupcache", "serve"]);
        let serve = nothing.subcommand_matches("serve").expect("serve was asked for");
        let command = self.below(without_environment(Cli::command()), serve);
        let matches = command.clone().get_matches_from(["groupcache", "serve"]);
        let serve = matches.subcommand_matches("serve").expect("serve was asked for");
        let mut lines = String::new();
        for arg in Schema::new().settings() {
            let name = arg.get_long().unwrap_or_default();
            let from = self.settings.iter().find(|setting| setting.name == name);
            let from = from.map_or_else(|| "default".to_owned(), |setting| format!("line {}", setting.line));
            let of = if matches.try_contains_id(arg.get_id().as_str()).is_ok() { &matches } else { serve };
            let line = match of.get_raw(arg.get_id().as_str()) {
                Some(values) => {
                    let values =
                        values.map(|value| Value::from(value.to_string_lossy().as_ref()).to_string());
                    let values = values.collect::<Vec<_>>().join(", ");
                    let shown = if is_list(arg) { format!("[{values}]") } else { values };
                    format!("{:<50} # {from}\n", format!("{name} = {shown}"))
                }
                None => format!("# {name} is not set\n"),
            };
            lines.push_str(&line);
        }
        redacted(&lines)
    }
}

/// The ways to find members, of which a node has one.
const MEMBERS: [&str; 4] = ["peers", "etcd", "dns", "dns-srv"];

fn two_ways_to_find_members(settings: &[Setting]) -> Option<Mistake> {
    let given: Vec<&Setting> = settings
        .iter()
        .filter(|setting| MEMBERS.contains(&setting.name.as_str()) && !setting.values.is_empty())
        .collect();
    let [first, second, ..] = given[..] else { return None };
    let what = format!(
        "`{}` stands beside `{}` of line {}: a node finds its members in one way. Leave one of them out",
        second.name, first.name, first.line
    );
    Some(Mistake { line: second.line, what })
}

/// What may stand in a file: the flags of `serve`, but for those that are about the command line itself.
struct Schema {
    command: Command,
}

impl Schema {
    fn new() -> Self {
        let mut command = without_environment(Cli::command());
        command.build();
        Self { command }
    }

    fn settings(&self) -> impl Iterator<Item = &Arg> {
        let serve = self.command.find_subcommand("serve").expect("there is a command `serve`");
        let excluded = ["config", "help", "version"];
        serve.get_arguments().filter(move |arg| arg.get_long().is_some_and(|long| !excluded.contains(&long)))
    }

    /// The values that a setting has, or what is wrong with it.
    fn read(&self, name: &str, item: &Item) -> Result<Vec<String>, String> {
        let arg = self.settings().find(|arg| arg.get_long() == Some(name));
        let arg = arg.ok_or_else(|| self.unknown(name, item))?;
        let values = match item.as_value() {
            Some(Value::Array(array)) if is_list(arg) => array.iter().map(scalar).collect(),
            Some(Value::Array(_)) => None,
            Some(value) => scalar(value).map(|value| vec![value]),
            None => None,
        };
        let expected =
            arg.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str());
        let values = values.ok_or_else(|| {
            if is_list(arg) {
                format!("`{name}` is a list of strings: {name} = [\"{expected}\"]")
            } else {
                format!("`{name}` is one value in quotes: {name} = \"{expected}\"")
            }
        })?;
        match values.iter().find_map(|value| Some((value, self.refusal(name, value)?))) {
            Some((value, why)) => Err(format!("{name} = \"{value}\": {why}")),
            None => Ok(values),
        }
    }

    fn unknown(&self, name: &str, item: &Item) -> String {
        if name == "config" {
            return "a file cannot name another: `config` is for the command line".to_owned();
        }
        let likeness =
            |arg: &&Arg| (strsim::jaro_winkler(name, arg.get_long().unwrap_or_default()) * 1e3) as u32;
        let underscored = name.replace('_', "-");
        let closest = self.settings().max_by_key(likeness).filter(|arg| likeness(arg) >= 750);
        match closest.and_then(Arg::get_long) {
            Some(known) if known == underscored => {
                format!("`{name}` is written `{known}`, with hyphens as the flag has them")
            }
            Some(known) => format!("`{name}` is no setting: did you mean `{known}`?"),
            None if item.is_table() || item.is_array_of_tables() => {
                format!(
                    "`[{name}]` is no setting, and settings are not grouped: each stands at the top, by its flag's name"
                )
            }
            None => format!("`{name}` is no setting: `groupcache serve --help` lists them"),
        }
    }

    /// Why the flag of that name would refuse the value.
    fn refusal(&self, name: &str, value: &str) -> Option<String> {
        let error = self
            .command
            .clone()
            .try_get_matches_from(["groupcache", "serve", &format!("--{name}={value}")])
            .err()?;
        Some(match error.source() {
            Some(why) => why.to_string(),
            None => {
                error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        })
    }
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A string, or a number as it would be written behind a flag.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::InlineTable(_) => None,
    }
}

fn without_environment(command: Command) -> Command {
    let silent = |arg: Arg| arg.env(None::<&'static str>);
    command.mut_args(silent).mut_subcommand("serve", |serve| serve.mut_args(silent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command as Asked, ServeArgs};
    use bytesize::ByteSize;

    fn mistakes(text: &str) -> Vec<String> {
        ConfigFile::parse(text).expect_err("mistakes").iter().map(ToString::to_string).collect()
    }

    fn serve(text: &str, args: &[&str]) -> ServeArgs {
        let args = [&["groupcache", "serve"], args].concat();
        let command = || without_environment(Cli::command());
        let said = command().get_matches_from(&args);
        let said = said.subcommand_matches("serve").expect("serve");
        let file = ConfigFile::parse(text).expect("no mistakes");
        let matches = file.below(command(), said).get_matches_from(&args);
        match Cli::from_arg_matches(&matches).expect("parses").command {
            Asked::Serve(args) => *args,
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let file = "budget = \"1GiB\"\nttl = \"1m\"\ngroup = [\"a=file:/a\", \"b=http://b/\"]\nweight = 3\n";
        let args = serve(file, &["--ttl", "5s"]);
        assert_eq!(args.budget, ByteSize::gib(1));
        assert_eq!(args.ttl, Some(std::time::Duration::from_secs(5)));
        assert_eq!((args.groups.len(), args.weight), (2, 3));
        assert_eq!(args.http, "127.0.0.1:8080");
        assert_eq!(serve(file, &["--group", "c=file:/c"]).groups.len(), 1, "a list replaces a list");
    }

    #[test]
    fn who_says_how_members_are_found_need_not_know_how_the_file_does() {
        let args = serve("peers = [\"a:1\", \"b:1\"]\n", &["--etcd", "http://e:2379"]);
        assert_eq!((args.peers.len(), args.etcd.len()), (0, 1));
        let args = serve("etcd = [\"http://e:2379\"]\n", &["--dns-srv", "n"]);
        assert_eq!((args.etcd.len(), args.dns_srv.as_deref()), (0, Some("n")));
        let args = serve("peers = [\"a:1\", \"b:1\"]\n", &[]);
        assert_eq!(args.peers, ["a:1", "b:1"]);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line_and_what_to_write() {
        let said = mistakes(
            "addr = \"6324\"\nbugdet = \"1GiB\"\nttl = \"soon\"\nload_timeout = \"1s\"\nbudget = [\"1MiB\"]\n\
             peers = [\"a:1\", true]\nconfig = \"other.toml\"\nweight = 0\nfrobnicate = 1\n[cache]\nttl = \"1s\"\n",
        );
        let expected = [
            ("line 1: ", "expected HOST:PORT"),
            ("line 2: ", "did you mean `budget`?"),
            ("line 3: ", "such as 500ms"),
            ("line 4: ", "written `load-timeout`"),
            ("line 5: ", "one value in quotes: budget = \"SIZE\""),
            ("line 6: ", "a list of strings"),
            ("line 7: ", "cannot name another"),
            ("line 8: ", "0 is not in"),
            ("line 9: ", "--help"),
            ("line 10: ", "not grouped"),
        ];
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, (line, reason)) in said.iter().zip(expected) {
            assert!(said.starts_with(line) && said.contains(reason), "{said}, and not {reason}");
        }
    }

    #[test]
    fn settings_that_go_together_may_stand_in_a_file_each_by_itself() {
        let file = "etcd-user = \"node\"\netcd-password-file = \"/p\"\ntls-cert = \"/c\"\ntls-key = \"/k\"\n\
                    tls-ca = \"/ca\"\nhttp-tls = \"on\"\ntoken-for = \"writes\"\ntls-client-auth = \"off\"\n";
        let shown = ConfigFile::parse(file).expect("no mistakes").effective();
        assert!(shown.contains("http-tls = \"on\"") && shown.contains("token-for = \"writes\""), "{shown}");
        let said = mistakes("http-tls = \"maybe\"\ntoken-for = \"reads\"\n");
        assert!(said[0].contains("on or off") && said[1].contains("writes"), "{said:?}");
    }

    #[test]
    fn what_a_node_would_run_with_is_shown_without_passwords() {
        let file = ConfigFile::parse("group = [\"a=http://u:s3cret@h/\"]\n").expect("no mistakes");
        let shown = file.effective();
        assert!(shown.contains("http://***@h/") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn two_ways_to_find_members_are_one_too_many() {
        let said = mistakes("peers = [\"a:1\"]\n\netcd = [\"http://e:2379\"]\n");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("line 3: ") && said[0].contains("of line 1"), "{said:?}");
        let said = mistakes("dns-srv = \"n\"\ndns = \"n:1\"\n");
        assert!(said.len() == 1 && said[0].contains("of line 1"), "{said:?}");
        assert!(ConfigFile::parse("peers = []\netcd = [\"http://e:2379\"]\n").is_ok());
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        let said = mistakes("addr = \"127.0.0.1:1\"\nbudget = 64MiB\n");
        assert!(said.len() == 1 && said[0].starts_with("line 2: this is not TOML"), "{said:?}");
        let twice = mistakes("ttl = \"1s\"\nttl = \"2s\"\n");
        assert!(twice[0].starts_with("line 2: "), "{twice:?}");
    }

    #[test]
    fn what_a_node_would_run_with_is_a_file_again_and_names_every_setting() {
        let shown =
            ConfigFile::parse("ttl = \"90s\"\npeers = [\"a:1\", \"b:1\"]\n").expect("fine").effective();
        assert!(shown.contains("ttl = \"90s\"") && shown.contains("# line 1"), "{shown}");
        assert!(
            shown.contains("peers = [\"a:1\", \"b:1\"]") && shown.contains("budget = \"64MiB\""),
            "{shown}"
        );
        for arg in Schema::new().settings() {
            assert!(shown.contains(arg.get_long().expect("a flag")), "{arg:?}");
        }
        let again = ConfigFile::parse(&shown).expect("a file again");
        assert!(again.settings.len() > 15);
    }

    #[test]
    fn every_setting_is_in_the_environment_under_the_flags_name() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("serve");
        for arg in serve
            .get_arguments()
            .filter(|arg| arg.get_long() != Some("help") && arg.get_long() != Some("version"))
        {
            let name = arg.get_long().expect("a flag").to_uppercase().replace('-', "_");
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(&*format!("GROUPCACHE_{name}")));
        }
    }
}
