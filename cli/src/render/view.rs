//! The three ways to show a deployment as it goes, chosen once.

use super::frame::{Size, frame, lost};
use super::line::{Line, Tone};
use super::live::Canvas;
use super::{complain, json, plain, print, print_json, report, say};
use crate::exit::Exit;
use crate::progress::{Changes, Progress};
use std::io::{self, IsTerminal, Stderr};
use std::time::Instant;

/// What a terminal that does not tell its size is taken for.
const SIZE_UNKNOWN: Size = Size { columns: 80, rows: 24 };

/// How a deployment is shown.
#[derive(Debug)]
pub enum View {
    /// In place, on a terminal.
    Live(Canvas<Stderr>),
    /// A line a change, on stderr.
    Plain,
    /// A JSON object a change, on stdout; stderr stays quiet.
    Json,
}

impl View {
    /// As the streams and `--json` ask for.
    pub fn choose(json: bool) -> Self {
        let stderr = io::stderr();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if json {
            Self::Json
        } else if stderr.is_terminal() && !dumb {
            let colour = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
            Self::Live(Canvas::new(stderr, colour))
        } else {
            Self::Plain
        }
    }

    /// The controller told something.
    pub fn changed(&mut self, progress: &Progress, changes: &Changes) {
        let attached = if changes.first { report::attached(progress) } else { None };
        match self {
            // The frame itself waits for the next tick.
            Self::Live(canvas) => {
                if let Some(note) = attached {
                    canvas.note(&[note], size());
                }
            }
            Self::Plain => {
                say(attached.as_slice());
                say(&plain::lines(progress, changes));
            }
            // Whoever read it has gone. The exit code will still tell.
            Self::Json => drop(print_json(&json::progress(progress, changes))),
        }
    }

    /// The connection went or came back.
    pub fn link(&mut self, progress: &Progress) {
        match self {
            Self::Live(_) => {}
            Self::Plain => say(&[match &progress.lost {
                Some(detail) => lost(detail),
                None => Line::new().with(Tone::Good, "connection to the controller is back"),
            }]),
            Self::Json => drop(print_json(&json::connection(progress))),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, progress: &Progress) {
        match self {
            Self::Live(canvas) => {
                let size = size();
                canvas.draw(frame(progress, progress.elapsed(Instant::now()), size), size);
            }
            Self::Plain | Self::Json => {}
        }
    }

    /// Nothing more will come. The last frame stays, unless the result is about to be shown in its place.
    pub fn finish(&mut self, progress: &Progress, result_follows: bool) {
        match self {
            Self::Live(canvas) if result_follows && io::stdout().is_terminal() => canvas.clear(size()),
            Self::Live(_) => self.tick(progress),
            Self::Plain | Self::Json => {}
        }
    }

    /// Prints the result to stdout. `words` say on stderr why there is none.
    pub fn result(&mut self, progress: &Progress, exit: Exit, words: &[Line]) -> io::Result<()> {
        complain(words);
        match self {
            Self::Live(_) | Self::Plain if words.is_empty() => print(&report::result(progress)),
            Self::Live(_) | Self::Plain => Ok(()),
            Self::Json => print_json(&json::result(progress, exit, words)),
        }
    }
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        Ok(_) | Err(_) => SIZE_UNKNOWN,
    }
}
