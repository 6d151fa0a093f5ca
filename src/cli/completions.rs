//! `orderfeed completions`: makes a shell complete our commands.

use std::io;

use clap_complete::env::Shells;

use super::complete::VARIABLE;
use super::{Exit, Failure};

/// Print what makes a shell complete commands, webhooks and payload ids
///
/// For bash, in ~/.bashrc: source <(orderfeed completions bash)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", hide_possible_values = true, value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    shell: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&args.shell) else {
        let message = format!("there are no completions for {}", args.shell);
        return Err(Failure::new(Exit::Usage, message));
    };
    let mut out = io::stdout().lock();
    shell.write_registration(VARIABLE, "orderfeed", "orderfeed", "orderfeed", &mut out)?;
    Ok(())
}
