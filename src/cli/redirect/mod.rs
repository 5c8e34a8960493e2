//! `wayfarer redirect --print | --apply | --remove`: the rules of the kernel that bring a service's connections to its sidecar.
//!
//! It never touches a rule that is not its own, and starts no sidecar. `plan` says what is redirected, `nft` and `iptables` word it, `tool`
//! runs the program of that name; here is the order of things, and the exit code: 0 done, 1 failed, 2 usage or configuration.
//!
//! | | rules of this name that are there already | at the end |
//! |---|---|---|
//! | `--apply` | are replaced, in one transaction | looks whether all are there |
//! | `--remove` | go, in one transaction; none is no mistake | looks whether none is |
//!
//! Invariant: applying and removing twice is the same as once, and what fails leaves what was there.

mod iptables;
mod nft;
mod plan;
mod tool;

use super::{ConfigurationArgs, USAGE, configuration};
use clap::{Args, ValueEnum};
use plan::Plan;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct RedirectArgs {
    #[command(flatten)]
    what: What,
    /// What makes the rules; what one has made, the other does not see
    #[arg(long, value_name = "TOOL", default_value = "nft")]
    tool: Tool,
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Print the rules as the tool reads them
    #[arg(long)]
    print: bool,
    /// Make them hold in this network namespace; replaces those of the same name
    #[arg(long)]
    apply: bool,
    /// Remove them; none is no mistake
    #[arg(long)]
    remove: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Tool {
    /// nftables: one table of its own
    Nft,
    /// Two chains for IPv4 and two for IPv6
    Iptables,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::Nft => "nft",
            Tool::Iptables => "iptables",
        }
    }
}

/// Why it is not done.
enum Trouble {
    Usage(Vec<String>),
    Failed(String),
}

impl From<tool::Failure> for Trouble {
    fn from(failure: tool::Failure) -> Trouble {
        Trouble::Failed(failure.to_string())
    }
}

pub(super) fn redirect(args: &RedirectArgs) -> ExitCode {
    match done(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Usage(lines)) => {
            lines.iter().for_each(|line| complain!("{line}"));
            ExitCode::from(USAGE)
        }
        Err(Trouble::Failed(line)) => {
            complain!("wayfarer: {line}");
            ExitCode::FAILURE
        }
    }
}

fn done(args: &RedirectArgs) -> Result<(), Trouble> {
    let loaded = configuration::load(&args.configuration)
        .map_err(|mistakes| Trouble::Usage(mistakes.iter().map(ToString::to_string).collect()))?;
    let table = &loaded.settings.redirect.table;
    if args.what.remove {
        return remove(args, table);
    }
    let plan = Plan::of(&loaded.settings).map_err(|why| Trouble::Usage(vec![format!("wayfarer: {why}")]))?;
    if args.what.apply { apply(args, &plan) } else { print(args, &plan) }
}

fn print(args: &RedirectArgs, plan: &Plan) -> Result<(), Trouble> {
    let rules = match args.tool {
        Tool::Nft => nft::script(plan),
        Tool::Iptables => iptables::printed(plan),
    };
    if args.json {
        let mut answer = plan.json();
        super::put(&mut answer, "tool", args.tool.name());
        super::put(&mut answer, "rules", rules);
        say!("{answer}");
    } else {
        say!("{}", rules.trim_end());
    }
    Ok(())
}

fn apply(args: &RedirectArgs, plan: &Plan) -> Result<(), Trouble> {
    tool::may_change_rules()?;
    let replaced = match args.tool {
        Tool::Nft => {
            let replaced = tool::nft_table(&plan.table)?.is_some();
            tool::run("nft", &["-f", "-"], &nft::script(plan))?;
            let there = tool::nft_table(&plan.table)?.unwrap_or_default();
            missing(nft::missing(plan, &there), "nft", plan)?;
            replaced
        }
        Tool::Iptables => {
            let mut replaced = false;
            for family in tool::families() {
                let before = tool::iptables_listing(family)?;
                replaced |= iptables::is_there(&plan.table, &before);
                tool::iptables_restore(family, &iptables::script(plan, family, &before))?;
                let there = tool::iptables_listing(family)?;
                missing(iptables::missing(plan, family, &there), family.command(), plan)?;
            }
            replaced
        }
    };
    if args.json {
        let mut answer = plan.json();
        super::put(&mut answer, "tool", args.tool.name());
        super::put(&mut answer, "replaced", replaced);
        say!("{answer}");
        return Ok(());
    }
    let how = if replaced { "replaced" } else { "applied" };
    say!("{how}     the rules {} of {}; connections of user {} are left alone", plan.table, args.tool.name(), plan.exempt);
    plan.lines().iter().for_each(|line| say!("{line}"));
    say!("note        connections that are open already stay where they are");
    Ok(())
}

/// A rule that the kernel does not have although the tool has taken it.
fn missing(found: Option<String>, tool: &str, plan: &Plan) -> Result<(), Trouble> {
    let Some(rule) = found else { return Ok(()) };
    let table = &plan.table;
    Err(Trouble::Failed(format!(
        "{tool} took the rules {table}, and this one is not there: {rule}; is somebody changing them too?"
    )))
}

fn remove(args: &RedirectArgs, table: &str) -> Result<(), Trouble> {
    tool::may_change_rules()?;
    let mut removed = false;
    match args.tool {
        Tool::Nft => {
            if tool::nft_table(table)?.is_some() {
                tool::run("nft", &["-f", "-"], &nft::removal(table))?;
                removed = true;
            }
            if tool::nft_table(table)?.is_some() {
                return Err(still_there(table));
            }
        }
        Tool::Iptables => {
            for family in tool::families() {
                if let Some(script) = iptables::removal(table, &tool::iptables_listing(family)?) {
                    tool::iptables_restore(family, &script)?;
                    removed = true;
                }
                if iptables::is_there(table, &tool::iptables_listing(family)?) {
                    return Err(still_there(table));
                }
            }
        }
    }
    if args.json {
        say!("{}", serde_json::json!({ "tool": args.tool.name(), "table": table, "removed": removed }));
    } else if removed {
        say!("removed     the rules {table} of {}", args.tool.name());
    } else {
        say!("none        there are no rules {table} of {}", args.tool.name());
    }
    Ok(())
}

fn still_there(table: &str) -> Trouble {
    Trouble::Failed(format!("the rules {table} were removed, and are there again: is somebody applying them?"))
}
