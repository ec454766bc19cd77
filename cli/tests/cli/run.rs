//! Runs the real binary, with nothing of the tester's own environment.

use crate::fake::Fake;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }

    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// `bgctl`, with an empty environment.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bgctl"));
    command.env_clear().stdin(Stdio::null());
    command
}

impl Fake {
    /// `bgctl` that knows this controller.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.known_as(&self.address(), &self.pki.operator());
        command.args(args);
        command
    }

    /// `bgctl` with other controllers or another identity.
    pub fn known_as(&self, controllers: &str, identity: &Path) -> Command {
        let mut command = bare();
        command.env("BGCTL_CONTROLLERS", controllers).env("BGCTL_IDENTITY", identity);
        command
    }

    /// Runs `bgctl` to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        run(self.command(args))
    }
}

/// Runs a command to its end.
pub fn run(command: Command) -> Ended {
    Running::start(command).wait()
}

/// Runs a command to its end, with something to read.
pub fn run_with_stdin(mut command: Command, text: &str) -> Ended {
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    running.wait()
}

/// A command that runs. Ended with the test.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bgctl starts");
        let (stdout, stderr) = (Stream::of(child.stdout.take().unwrap()), Stream::of(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// Waits until stderr has said this.
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.stderr.wait_until(|told| told.contains(text));
    }

    /// Waits until stdout has said this.
    pub fn wait_for_stdout(&mut self, text: &str) {
        self.stdout.wait_until(|told| told.contains(text));
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the signal is sent");
    }

    pub fn wait(mut self) -> Ended {
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        let status = self.child.wait().expect("bgctl ends");
        let code = status.code().unwrap_or_else(|| panic!("bgctl was ended by a signal: {status}"));
        let take = |stream: &mut Stream| std::mem::take(&mut stream.told);
        Ended { code, stdout: take(&mut self.stdout), stderr: take(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a pipe has said so far.
#[derive(Debug)]
pub struct Stream {
    pieces: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    pub told: String,
}

impl Stream {
    pub fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            // A terminal whose program has ended is an error to read, a pipe is at its end.
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { pieces, bytes: Vec::new(), told: String::new() }
    }

    pub fn wait_until(&mut self, mut is_so: impl FnMut(&str) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(&self.told) {
            assert!(self.next(deadline), "it ended too early, having said: {}", self.told);
        }
    }

    pub fn wait_for_end(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.next(deadline) {}
    }

    fn next(&mut self, deadline: Instant) -> bool {
        match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => {
                self.bytes.extend(piece);
                self.told = String::from_utf8_lossy(&self.bytes).into_owned();
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => panic!("nothing more within {DEADLINE:?} after: {}", self.told),
        }
    }
}
