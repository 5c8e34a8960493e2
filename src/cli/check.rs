//! `wayfarer check`: every mistake of a configuration with its line and remedy, and what is right but surprising; with `--key`,
//! `--cookie`, `--header`, `--path` or `--bearer`, what that is taken for.
//!
//! It changes nothing and starts nothing. Exit code 2: the configuration cannot be used; 1: the request names no session.

use super::named::{self, RequestArgs};
use super::taken::{self, Answer};
use super::{ConfigurationArgs, USAGE, configuration, put};
use crate::upstream::Dialer;
use clap::Args;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use wayfarer_settings::{DirectoryPlace, ListenAt, Mistake, Settings};

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// Say what this Redis key is taken for, and why
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The database of --key
    #[arg(long, value_name = "N", default_value_t = 0, requires = "key")]
    database: u32,
    #[command(flatten)]
    request: RequestArgs,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

fn as_json(found: &[Mistake]) -> serde_json::Value {
    let one = |m: &Mistake| serde_json::json!({ "file": m.file, "line": m.line, "key": m.key, "message": m.message, "remedy": m.remedy });
    found.iter().map(one).collect()
}

/// What only a look at this machine tells: whether the directory's file can be made where it is to be.
fn folder_of(settings: &Settings) -> Vec<Mistake> {
    let DirectoryPlace::Sqlite { path } = &settings.cluster.directory;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Vec::new();
    }
    let message = format!("the folder {} does not exist", folder.display());
    let remedy = "make it, writable for wayfarer, or name another place".to_owned();
    let (file, key) = ("this machine".to_owned(), "cluster.directory".to_owned());
    vec![Mistake { file, line: None, key, message, remedy }]
}

/// Whether the sockets of the state face can be made where they are to be, as far as a look tells.
fn sockets_of(settings: &Settings) -> Vec<Mistake> {
    let faces = settings.state.faces().filter(|_| settings.state.enabled);
    let wrong = faces.filter_map(|(key, place, _)| {
        let ListenAt::Unix(path) = place else { return None };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let (message, remedy) = if !folder.is_dir() {
            (format!("the folder {} does not exist", folder.display()), "make it, writable for wayfarer, or name another path")
        } else if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            (format!("what stands at {} is no socket", path.display()), "remove it, or name another path")
        } else {
            return None;
        };
        let (file, key) = ("this machine".to_owned(), key.to_owned());
        Some(Mistake { file, line: None, key, message, remedy: remedy.to_owned() })
    });
    wrong.collect()
}

/// Whether certificates and keys for the upstream can be used.
pub(super) fn upstream_of(settings: &Settings) -> Option<Mistake> {
    let unfit = Dialer::new(settings.state.upstream.as_ref().filter(|_| settings.state.enabled)?).err()?;
    let (file, key) = ("this machine".to_owned(), unfit.setting.to_owned());
    Some(Mistake { file, line: None, key, message: unfit.message, remedy: unfit.remedy.to_owned() })
}

/// What was asked about, as long as the configuration can be used.
fn answers(args: &CheckArgs, settings: &Settings) -> Vec<(&'static str, Answer)> {
    let key = args.key.as_ref().map(|key| ("key", taken::key(settings, args.database, key)));
    let request = args.request.is_given().then(|| ("request", named::request(settings, &args.request)));
    key.into_iter().chain(request).collect()
}

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let (mistakes, warnings, answers) = match configuration::load(&args.configuration) {
        Ok(loaded) => {
            let mut here = [folder_of(&loaded.settings), sockets_of(&loaded.settings)].concat();
            here.extend(upstream_of(&loaded.settings));
            (here, loaded.warnings, answers(args, &loaded.settings))
        }
        Err(mistakes) => (mistakes, Vec::new(), Vec::new()),
    };
    if args.json {
        let mut all = serde_json::json!({ "mistakes": as_json(&mistakes), "warnings": as_json(&warnings) });
        for (name, answer) in &answers {
            put(&mut all, name, answer.json.clone());
        }
        say!("{all}");
    } else if answers.is_empty() {
        mistakes.iter().for_each(|m| say!("{m}"));
        warnings.iter().for_each(|w| say!("warning: {w}"));
        match mistakes.len() {
            0 => say!("the configuration can be used"),
            1 => say!("1 mistake"),
            n => say!("{n} mistakes"),
        }
    } else {
        // The answer is what was asked for; the warnings are those of keys alone.
        mistakes.iter().for_each(|m| say!("{m}"));
        warnings.iter().filter(|w| w.key.starts_with("state.keys")).for_each(|w| say!("warning: {w}"));
        answers.iter().flat_map(|(_, answer)| &answer.lines).for_each(|line| say!("{line}"));
    }
    match answers.iter().any(|(_, answer)| answer.wrong) {
        _ if !mistakes.is_empty() => ExitCode::from(USAGE),
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
