//! The command line: one file a command, and the exit codes they share (contract, section 7).
//!
//! Only here is anything printed. A command returns what went wrong as a [`Failure`]; nothing
//! panics at a user's mistake, and a reader that closes the pipe ends a command in peace.
//! [`enqueue::source`] and [`receive::arrival`] read what is foreign; the fuzz targets reach them.

mod adopt_queue;
mod ask;
mod backup;
mod check;
mod client;
mod complete;
mod completions;
mod demo;
mod discard;
pub mod enqueue;
mod init;
mod man;
mod pause;
mod payloads;
pub mod receive;
mod reconcile;
mod reload;
mod resend;
mod restore;
mod resume;
mod retry_now;
mod run;
mod show;
mod status;
mod table;
mod tail;
mod test;
mod trace;
mod webhooks;
mod withdraw;

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::clock::WallTime;
use crate::config::{self, Config};
use crate::feed::order::OrderType;
use crate::store;
use crate::telemetry;

/// Delivers purchase, transfer and work orders from a local SQLite queue to HTTP receivers.
#[derive(Debug, Parser)]
#[command(
    name = "orderfeed",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        help = "The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Init(init::Args),
    Check(check::Args),
    Enqueue(enqueue::Args),
    Receive(receive::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    AdoptQueue(adopt_queue::Args),
    Resend(resend::Args),
    Discard(discard::Args),
    Withdraw(withdraw::Args),
    Test(test::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    RetryNow(retry_now::Args),
    Reload(reload::Args),
    Status(status::Args),
    Trace(trace::Args),
    Payloads(payloads::Args),
    Show(show::Args),
    Reconcile(reconcile::Args),
    Tail(tail::Args),
    Completions(completions::Args),
    Man(man::Args),
    Webhooks(webhooks::Args),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // Asked by a shell what could follow: answers, and ends there.
    complete::answer_shell(Cli::command);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are errors to clap, with exit code 0.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            drop(error.print());
            return exit.into();
        }
    };
    let place = ConfigPlace(cli.config);
    let done = match cli.command {
        Command::Run(args) => run::run(&args, &place),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args, &place),
        Command::Check(args) => check::run(&args, &place),
        Command::Enqueue(args) => enqueue::run(&args, &place),
        Command::Receive(args) => receive::run(args),
        Command::Backup(args) => backup::run(&args, &place),
        Command::Restore(args) => restore::run(&args, &place),
        Command::AdoptQueue(args) => adopt_queue::run(&args, &place),
        Command::Resend(args) => resend::run(&args, &place),
        Command::Discard(args) => discard::run(&args, &place),
        Command::Withdraw(args) => withdraw::run(&args, &place),
        Command::Test(args) => test::run(&args, &place),
        Command::Pause(args) => pause::run(&args, &place),
        Command::RetryNow(args) => retry_now::run(&args, &place),
        Command::Resume(args) => resume::run(&args, &place),
        Command::Status(args) => status::run(&args, &place),
        Command::Trace(args) => trace::run(&args, &place),
        Command::Payloads(args) => payloads::run(&args, &place),
        Command::Show(args) => show::run(&args, &place),
        Command::Reconcile(args) => reconcile::run(&args, &place),
        Command::Reload(args) => reload::run(&args, &place),
        Command::Tail(args) => tail::run(&args, &place),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Webhooks(args) => webhooks::run(&args, &place),
    };
    match done {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                let told = format!("orderfeed: {}", failure.message);
                drop(writeln!(io::stderr(), "{}", telemetry::as_error(&told)));
            }
            failure.exit.into()
        }
    }
}

/// Where the configuration is: as the command line says, or the environment, or the default.
struct ConfigPlace(Option<PathBuf>);

impl ConfigPlace {
    fn path(&self) -> PathBuf {
        self.0
            .clone()
            .or_else(|| std::env::var_os("ORDERFEED_CONFIG").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("/etc/orderfeed/config.toml"))
    }

    fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.path())?)
    }
}

/// How a command ends (contract, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Done.
    Done = 0,
    /// It failed or was refused.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// The daemon can't be reached.
    Unreachable = 3,
    /// Not allowed.
    NotAllowed = 4,
    /// A file is missing, damaged, foreign, or held by another daemon.
    Damaged = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    /// What was wrong, where, and what to do next.
    message: String,
    /// Whether a daemon runs, and can't do its work: nothing is delivered.
    is_outage: bool,
}

impl Failure {
    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            is_outage: false,
        }
    }

    fn outage(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            is_outage: true,
            ..Self::new(exit, message)
        }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let exit = match &error {
            store::Error::NotPermitted { .. } => Exit::NotAllowed,
            store::Error::Missing(_)
            | store::Error::Foreign { .. }
            | store::Error::Held { .. }
            | store::Error::Disagree(_) => Exit::Damaged,
            store::Error::Sqlite { .. } if error.is_lasting() => Exit::Damaged,
            store::Error::Exists(_)
            | store::Error::Sqlite { .. }
            | store::Error::Io { .. }
            | store::Error::Stopped => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<config::Errors> for Failure {
    fn from(errors: config::Errors) -> Self {
        Self::new(Exit::Usage, errors)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            // Whoever read the output has seen enough.
            Self::new(Exit::Done, "")
        } else {
            Self::new(Exit::Failed, error)
        }
    }
}

/// Prints a value as JSON, as the admin socket answers it.
fn print_json(out: &mut impl Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Prints what was done: a sentence, or all of it as JSON.
fn print_told(value: &impl serde::Serialize, message: &str, json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        return print_json(&mut out, value);
    }
    writeln!(out, "{message}")?;
    Ok(())
}

/// The local time of day, with the date if it is not today's.
fn local_time(at: WallTime) -> String {
    at.local(WallTime::now())
}

/// What people call an order type.
const fn short(order_type: OrderType) -> &'static str {
    match order_type {
        OrderType::PurchaseOrder => "PO",
        OrderType::TransferOrder => "TO",
        OrderType::WorkOrder => "WO",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
