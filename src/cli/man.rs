//! `orderfeed man`: the manual, from the same source as `--help`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, Exit, Failure};

/// Print the manual page of orderfeed, or of one of its commands
///
/// To read it: orderfeed man | man -l -
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command
    command: Option<String>,
    /// Write all pages into this folder instead: orderfeed.1, orderfeed-check.1, ...
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    to: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut all = Cli::command()
        .disable_help_subcommand(true)
        .mut_subcommands(|command| command.disable_help_subcommand(true));
    all.build();
    if let Some(folder) = &args.to {
        return clap_mangen::generate_to(all, folder).map_err(|error| {
            let message = format!("{}: {error}", folder.display());
            Failure::new(Exit::Failed, message)
        });
    }
    let command = match &args.command {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let message =
                    format!("there is no command {name:?}; `orderfeed --help` lists them");
                return Err(Failure::new(Exit::Usage, message));
            }
        },
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(())
}
