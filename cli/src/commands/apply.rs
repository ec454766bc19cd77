//! `bgctl apply`: the file goes to the controller as it is; the controller is the one that reads it.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::render::line::{Line, Tone};
use crate::render::{json, print, print_json};
use bgctl_proto::operator::{ApplyReply, ApplyRequest};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A spec is a page or two. More is another file, given by mistake.
const SPEC_BYTES_MAX: u64 = 1 << 20;

/// Hosts named after an apply; more are counted.
const HOSTS_NAMED_MAX: usize = 10;

/// A file that is no spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecFileError {
    /// Not readable.
    #[error("cannot read the spec {}: {cause}", path.display())]
    Read {
        /// As typed.
        path: PathBuf,
        /// As the system says.
        cause: io::Error,
    },
    /// Something else.
    #[error("the spec {} is larger than {SPEC_BYTES_MAX} bytes; is it the right file?", path.display())]
    TooLarge {
        /// As typed.
        path: PathBuf,
    },
    /// Not text.
    #[error("the spec {} is not UTF-8 text; is it the right file?", path.display())]
    NotText {
        /// As typed.
        path: PathBuf,
    },
}

/// Records a spec as the service's next revision.
pub async fn run(client: &Client<'_>, file: &Path, json: bool) -> Result<Exit, Failure> {
    let text = read(file)?;
    let file_name = if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() };
    let request = ApplyRequest { text, file_name };
    let reply = client.call(async |mut controller| controller.apply(request.clone()).await).await?;
    if json { print_json(&json::applied(&reply)) } else { print(&lines(&reply)) }.map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<String, SpecFileError> {
    let read = |cause| SpecFileError::Read { path: path.to_owned(), cause };
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(read)?) };
    let mut bytes = Vec::new();
    source.take(SPEC_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > SPEC_BYTES_MAX {
        return Err(SpecFileError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| SpecFileError::NotText { path: path.to_owned() })
}

fn lines(reply: &ApplyReply) -> Vec<Line> {
    let ApplyReply { service, revision, changed, hosts } = reply;
    let what = if *changed { "applied" } else { "unchanged" };
    let line = Line::new().with(Tone::Strong, service).with(Tone::Plain, &format!(": revision {revision} {what}, "));
    let selected = match hosts.as_slice() {
        [] => return vec![line.with(Tone::Busy, "selects NO HOST now; `bgctl hosts` shows the hosts' labels")],
        [one] => format!("selects 1 host: {one}"),
        all if all.len() <= HOSTS_NAMED_MAX => format!("selects {} hosts: {}", all.len(), all.join(", ")),
        all => format!("selects {} hosts: {}, …", all.len(), all[..HOSTS_NAMED_MAX].join(", ")),
    };
    vec![line.with(Tone::Plain, &selected)]
}
