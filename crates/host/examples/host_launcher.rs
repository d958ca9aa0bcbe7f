//! The `internal` subcommands that services need, and nothing else, for the tests of this crate.

use std::error::Error;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use flotilla_host::{init, inside, launch};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            // Nobody is left to tell when the standard error is closed.
            drop(writeln!(std::io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<i32, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["internal", "launch", spec] => {
            Err(launch::become_program(&serde_json::from_str(spec)?).into())
        }
        ["internal", "inside", spec] => {
            Err(inside::become_inside(&serde_json::from_str(spec)?).into())
        }
        ["internal", "init", spec] => {
            let own_program = std::env::current_exe()?;
            Ok(init::run_outer(Path::new(&own_program), spec)?)
        }
        ["internal", "init-inner", spec] => {
            init::run_inner(&serde_json::from_str(spec)?)?;
            Ok(0)
        }
        // For tests of rooms that begin where something else is mounted.
        ["own-mounts", mount_point, program, rest @ ..] => {
            flotilla_host::room::unshare_mounts()?;
            if !mount_point.is_empty() {
                let nothing = None::<&str>;
                let flags = nix::mount::MsFlags::empty();
                nix::mount::mount(nothing, *mount_point, Some("tmpfs"), flags, nothing)?;
            }
            #[expect(clippy::disallowed_methods, reason = "this process becomes the command")]
            let mut command = std::process::Command::new(program);
            Err(command.args(rest).exec().into())
        }
        _ => Err("unknown arguments".into()),
    }
}
