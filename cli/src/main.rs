//! `bgctl`: what an operator types. It asks the controller and shows what it answers; nothing here decides
//! anything, and ending it changes nothing.
//!
//! Data goes to stdout, the rest to stderr. How it ends is said by the exit code, see [`exit::Exit`].

mod args;
mod settings;
mod client;
mod commands;
mod feed;
mod progress;
mod follow;
mod render;
mod exit;

use crate::args::Typed;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let typed = Typed::parse();
    let json = typed.globals.json;
    let exit = match run(typed) {
        Ok(exit) => exit,
        Err(failure) => tell(&failure, json),
    };
    ExitCode::from(exit.code())
}

fn run(typed: Typed) -> Result<Exit, Failure> {
    let (settings, verb) = Settings::from_typed(typed)?;
    // One thread: a command is one connection, and starting threads would be felt in a rollback.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::Runtime { cause })?;
    let ended = runtime.block_on(commands::run(&settings, verb));
    // A name that is still being looked up must not hold up the exit.
    runtime.shutdown_background();
    ended
}

fn tell(failure: &Failure, json: bool) -> Exit {
    render::complain(&failure.lines());
    let printed = if json { render::print_json(&render::json::failure(failure)) } else { Ok(()) };
    match printed {
        Ok(()) => failure.exit(),
        // The exit code is all that is left to say it with.
        Err(_) => failure.exit(),
    }
}
