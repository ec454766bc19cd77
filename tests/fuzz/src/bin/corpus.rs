//! Takes a corpus apart for libFuzzer, which wants one file an input, and puts back what it found.

use bgctl_fuzz_cases::{TARGETS, corpus};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

const USAGE: &str = "usage: corpus unpack|pack TARGET FOLDER";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [verb, target, folder] = &arguments[..] else { return fail(USAGE) };
    let folder = Path::new(folder);
    let done = match verb.as_str() {
        "unpack" => unpack(target, folder),
        "pack" => pack(target, folder),
        _ => return fail(USAGE),
    };
    done.map_or_else(
        |error| fail(&error.to_string()),
        |said| {
            println!("{said}");
            ExitCode::SUCCESS
        },
    )
}

fn fail(said: &str) -> ExitCode {
    eprintln!("{said}");
    ExitCode::FAILURE
}

fn find(name: &str) -> io::Result<&'static bgctl_fuzz_cases::Target> {
    let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let found = TARGETS.iter().find(|target| target.name == name);
    found.ok_or_else(|| io::Error::other(format!("there is no target {name}; expected one of {}", known())))
}

fn unpack(name: &str, folder: &Path) -> io::Result<String> {
    let inputs = corpus::inputs(find(name)?)?;
    fs::create_dir_all(folder)?;
    for (number, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("kept-{number:05}")), input)?;
    }
    Ok(format!("{} inputs of {name} are in {}", inputs.len(), folder.display()))
}

/// What is made of code is left out: it is there already.
fn pack(name: &str, folder: &Path) -> io::Result<String> {
    let made: BTreeSet<_> = (find(name)?.seeds)().into_iter().collect();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        found.insert(fs::read(entry?.path())?);
    }
    let file = corpus::file(name);
    let text = fs::read_to_string(&file)?;
    let head: Vec<_> = text.lines().take_while(|line| line.starts_with('#')).collect();
    let lines: BTreeSet<_> =
        found.difference(&made).filter(|input| !input.is_empty()).map(|input| corpus::escape(input)).collect();
    let lines: Vec<_> = head.into_iter().map(str::to_owned).chain(lines).collect();
    fs::write(&file, lines.join("\n") + "\n")?;
    Ok(format!("{} lines are in {}", lines.len(), file.display()))
}
