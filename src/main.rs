//! `orderfeed`: parse the arguments, run one command, turn its error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    orderfeed::cli::main()
}
