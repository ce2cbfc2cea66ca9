//! `groupcache check`: what is wrong in a configuration file, or what a node would run with.

use crate::cli::CheckArgs;
use crate::config::ConfigFile;
use crate::report::{Exit, print};

/// Prints what a node would run with.
///
/// # Errors
/// The file cannot be read, or has mistakes: all of them are told.
pub(crate) fn run(args: &CheckArgs) -> Result<(), Exit> {
    let file = ConfigFile::read(&args.file).map_err(|unusable| unusable.of(&args.file))?;
    let shown =
        format!("# {}: no mistakes. A node would run with:\n{}", args.file.display(), file.effective());
    print(shown.as_bytes())
}
