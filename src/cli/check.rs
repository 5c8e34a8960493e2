//! `wayfarer check`: every mistake of a configuration with its line and remedy, and what is right but surprising.

use super::{ConfigurationArgs, USAGE, configuration};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use wayfarer_settings::{DirectoryPlace, Mistake, Settings};

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    configuration: ConfigurationArgs,
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

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let (mistakes, warnings) = match configuration::load(&args.configuration) {
        Ok(loaded) => (folder_of(&loaded.settings), loaded.warnings),
        Err(mistakes) => (mistakes, Vec::new()),
    };
    if args.json {
        println!("{}", serde_json::json!({ "mistakes": as_json(&mistakes), "warnings": as_json(&warnings) }));
    } else {
        mistakes.iter().for_each(|m| println!("{m}"));
        warnings.iter().for_each(|w| println!("warning: {w}"));
        match mistakes.len() {
            0 => println!("the configuration can be used"),
            1 => println!("1 mistake"),
            n => println!("{n} mistakes"),
        }
    }
    if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}
