//! The way in for somebody on the host, with a controller or without one: a unix socket beside the journal, which
//! only root may open, with one question and one answer a connection.
//!
//! ```text
//!   switch web previous\n            ->   taken\n   0\nweb serves v1 (green) by hand ...\n
//! ```
//!
//! The agent says `taken` before it does anything: who has given up waiting cannot hear it, and nothing is done.

use crate::config::ConfigError;
use cutover::ids::{Colour, ServiceName};
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The socket's name, beside the journal.
pub const SOCKET: &str = "agent.sock";
/// Nobody but the agent's own user, which is root.
const MODE: u32 = 0o600;
/// A service's name and two words.
const REQUEST_BYTES_MAX: u64 = 256;
/// Who connects and then says nothing does not hold anybody up for longer.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// A switch is proven in milliseconds; one that is not is tried for two seconds. Twice that, and the rest is for a
/// machine that swaps.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// What is said before anything is done.
const TAKEN: &str = "taken\n";
/// Pause after a connection that could not be taken, for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// How is this host?
    Status,
    /// Move this service's traffic.
    Switch(ServiceName, Target),
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What stands there.
    Colour(Colour),
    /// What was served before.
    Previous,
    /// What the store wants: the end of a switch by hand.
    Resume,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// With the meaning it has for `bgctl`.
    pub exit: Exit,
    /// For a person.
    pub text: String,
}

/// The exit codes of `bgctl-agent switch` and `status`: the numbers are those of `bgctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is so.
    Done = 0,
    /// An error nobody expected.
    Internal = 1,
    /// Not possible as things stand; nothing changed.
    Refused = 2,
    /// The agent did not answer, or the switch is made and not proven.
    Unproven = 5,
}

/// What `--help` says about exit codes.
pub const HELP: &str = "\
Exit codes:
  0    done: nginx was seen serving it
  1    an error nobody expected
  2    refused: unknown name, or not possible as things stand; nothing changed
  5    the agent did not answer, or nginx was not seen to follow; look at
       `bgctl-agent status`";

impl Answer {
    /// Nothing changed.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, text: text.into() }
    }

    /// It is so.
    pub fn done(text: impl Into<String>) -> Self {
        Self { exit: Exit::Done, text: text.into() }
    }
}

/// A request, with who asks and where the answer goes.
pub struct Asked {
    /// What.
    pub request: Request,
    /// The user id at the other end.
    pub uid: u32,
    /// Since when.
    pub at: Instant,
    /// Dropped: no answer will come.
    pub answer: oneshot::Sender<Answer>,
}

/// What goes wrong between the two ends.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// The config could not be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket could not be opened for others.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The agent runs and the socket is closed to this user.
    #[error("cannot open {path}: {source}; run this as root")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It broke on the way.
    #[error(
        "the agent did not answer on {path}: {detail}; look at `journalctl -u bgctl-agent`. One that hangs is ended by \
         `systemctl kill -s KILL bgctl-agent`; its next start takes a second, and traffic goes on"
    )]
    Broken {
        /// Where.
        path: PathBuf,
        /// How.
        detail: String,
    },
}

/// A text that is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of `status` and `switch SERVICE blue|green|previous|resume`")]
pub struct RequestError(String);

impl FromStr for Target {
    type Err = RequestError;
    fn from_str(text: &str) -> Result<Self, RequestError> {
        match text {
            "previous" => Ok(Self::Previous),
            "resume" => Ok(Self::Resume),
            colour => colour.parse().map(Self::Colour).map_err(|_| RequestError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Colour(colour) => f.pad(colour.as_str()),
            Self::Previous => f.pad("previous"),
            Self::Resume => f.pad("resume"),
        }
    }
}

impl FromStr for Request {
    type Err = RequestError;
    fn from_str(text: &str) -> Result<Self, RequestError> {
        let error = || RequestError(text.chars().take(80).collect());
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["status"] => Ok(Self::Status),
            ["switch", service, target] => {
                Ok(Self::Switch(service.parse().map_err(|_| error())?, target.parse().map_err(|_| error())?))
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.pad("status"),
            Self::Switch(service, target) => write!(f, "switch {service} {target}"),
        }
    }
}

/// Opens the socket. The agent holds the journal's lock: what an agent before it left there is nobody's.
pub fn listen(path: &Path) -> Result<UnixListener, HandError> {
    let fault = |source| HandError::Listen { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        Ok(()) | Err(_) => {}
    }
    // Bound where nobody may enter yet, and only then given its name.
    let hidden = path.with_extension("new");
    drop(std::fs::remove_file(&hidden));
    let listener = UnixListener::bind(&hidden).map_err(fault)?;
    std::fs::set_permissions(&hidden, Permissions::from_mode(MODE)).map_err(fault)?;
    std::fs::rename(&hidden, path).map_err(fault)?;
    Ok(listener)
}

/// Passes on what is asked, until nobody listens any more.
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &asked).await {
                        tracing::debug!(%error, "somebody on the host did not get an answer");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection on the agent's socket");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, asked: &mpsc::Sender<Asked>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut text = String::new();
    let (mut incoming, mut outgoing) = stream.split();
    let mut limited = (&mut incoming).take(REQUEST_BYTES_MAX);
    tokio::time::timeout(REQUEST_WITHIN, limited.read_to_string(&mut text)).await??;
    outgoing.write_all(TAKEN.as_bytes()).await?;
    let answer = match text.trim_end().parse() {
        Ok(request) => {
            let (sender, receiver) = oneshot::channel();
            let is_passed_on = asked.send(Asked { request, uid, at: Instant::now(), answer: sender }).await.is_ok();
            let answer = if is_passed_on { tokio::time::timeout(ANSWER_WITHIN, receiver).await.ok() } else { None };
            answer.and_then(Result::ok).unwrap_or_else(|| Answer {
                exit: Exit::Unproven,
                text: "the agent stopped, or is too busy, before it could say how this ended".to_owned(),
            })
        }
        Err(error) => Answer::refused(format!("{error}")),
    };
    outgoing.write_all(format!("{}\n{}\n", answer.exit as u8, answer.text).as_bytes()).await?;
    outgoing.shutdown().await
}

/// Asks the agent of this host. None: no agent runs.
pub async fn ask(path: &Path, request: &Request) -> Result<Option<Answer>, HandError> {
    let broken = |detail: String| HandError::Broken { path: path.to_owned(), detail };
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(source) => return Err(HandError::Open { path: path.to_owned(), source }),
    };
    let mut taken = [0; TAKEN.len()];
    let given = async {
        stream.write_all(request.to_string().as_bytes()).await?;
        stream.shutdown().await?;
        stream.read_exact(&mut taken).await
    };
    let given = tokio::time::timeout(REQUEST_WITHIN, given).await;
    let given =
        given.map_err(|_| broken(format!("it took no question within {REQUEST_WITHIN:?}, and will not do it")))?;
    given.map_err(|error| broken(error.to_string()))?;
    if taken != TAKEN.as_bytes() {
        return Err(broken(format!("it said {:?}", String::from_utf8_lossy(&taken))));
    }
    let mut text = String::new();
    let conversed = stream.read_to_string(&mut text);
    // The agent's own limit comes first, and says more.
    let answered = tokio::time::timeout(ANSWER_WITHIN + REQUEST_WITHIN, conversed).await;
    answered.map_err(|error| broken(error.to_string()))?.map_err(|error| broken(error.to_string()))?;
    let (exit, text) = text.split_once('\n').ok_or_else(|| broken("it closed the connection".to_owned()))?;
    let exits = [Exit::Done, Exit::Internal, Exit::Refused, Exit::Unproven];
    let exit = exits.into_iter().find(|known| (*known as u8).to_string() == exit);
    let exit = exit.ok_or_else(|| broken(format!("it said {:?}", text.chars().take(80).collect::<String>())))?;
    Ok(Some(Answer { exit, text: text.trim_end().to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written_and_others_are_refused() {
        for text in ["status", "switch web previous", "switch web resume", "switch api-v2 blue", "switch web green"] {
            assert_eq!(text.parse::<Request>().map(|request| request.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "switch", "switch web", "switch web red", "switch Web blue", "switch web blue now", "stop"] {
            assert!(text.parse::<Request>().is_err(), "{text}");
        }
    }

    /// As an agent that was stopped (SIGSTOP) and goes on: what was asked meanwhile waits at its socket.
    #[tokio::test]
    async fn what_somebody_asked_who_has_given_up_is_not_done() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(SOCKET);
        let listener = listen(&path).expect("listens");
        let mut gone = UnixStream::connect(&path).await.expect("connects");
        gone.write_all(b"switch web previous").await.expect("writes");
        drop(gone);
        let (sender, mut receiver) = mpsc::channel(2);
        tokio::spawn(serve(listener, sender));
        let asking = tokio::spawn(async move { ask(&path, &Request::Status).await });
        let asked = receiver.recv().await.expect("a question");
        assert_eq!(asked.request, Request::Status, "nobody waits for that any more");
        drop(asked);
        let answer = asking.await.expect("no panic").expect("an answer").expect("an agent");
        assert_eq!(answer.exit, Exit::Unproven);
        assert!(receiver.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_asks_is_known_and_gets_one_answer() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(SOCKET);
        assert_eq!(ask(&path, &Request::Status).await.expect("no agent is no error"), None);
        let (sender, mut receiver) = mpsc::channel(1);
        tokio::spawn(serve(listen(&path).expect("listens"), sender));
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let answered = tokio::spawn(async move {
            let asked = receiver.recv().await.expect("a question");
            assert_eq!((asked.request, asked.uid), (Request::Status, rustix::process::getuid().as_raw()));
            drop(asked.answer.send(Answer::refused("no\nreally")));
            // The next one gets none.
            drop(receiver.recv().await);
        });
        let answer = ask(&path, &Request::Status).await.expect("an answer").expect("an agent");
        assert_eq!(answer, Answer::refused("no\nreally"));
        let none = ask(&path, &Request::Status).await.expect("an answer").expect("an agent");
        assert_eq!(none.exit, Exit::Unproven);
        answered.await.expect("no panic");
    }
}
