//! What people and programs get to see. `line` is the one way out for text: it takes care of control characters,
//! widths and colours. The rest builds lines from what is known, and looks at nothing else.

pub mod words;
pub mod time;
pub mod line;
pub mod table;
pub mod plain;
pub mod frame;
pub mod live;
pub mod report;
pub mod json;
mod view;

pub use view::View;

use line::{Line, Tone};
use std::io::{self, Write};

/// Prints lines to stdout, in one write.
pub fn print(lines: &[Line]) -> io::Result<()> {
    let stdout = io::stdout();
    let colour = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
    out(stdout, &painted(lines, colour))
}

/// Prints one JSON document to stdout, on one line.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    out(io::stdout(), &format!("{}\n", json::text(value)))
}

/// Says what went wrong, on stderr.
pub fn complain(lines: &[Line]) {
    let mut said = lines.to_vec();
    if let Some(first) = said.first_mut() {
        *first = Line::new().with(Tone::Bad, "bgctl: ").followed_by(std::mem::take(first));
    }
    say(&said);
}

/// Says something on stderr. Nobody can be told when that fails.
pub fn say(lines: &[Line]) {
    let stderr = io::stderr();
    let colour = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
    drop(out(stderr, &painted(lines, colour)));
}

fn painted(lines: &[Line], colour: bool) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.painted(colour));
        text.push('\n');
    }
    text
}

/// A reader that has seen enough, as `head`, is no error.
fn out(mut stream: impl Write, text: &str) -> io::Result<()> {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
