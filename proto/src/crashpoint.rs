//! Named places at which a test can stop or kill a daemon: right before and right after each step that must
//! survive a crash. They are there only in builds with debug assertions; a released program has neither the
//! code nor the names.
//!
//! `BGCTL_CRASHPOINTS` names a folder. While it holds a file `NAME.armed`, the next process that reaches the
//! point takes it, by renaming it to `NAME.reached`, and
//!
//! | the file says | the process |
//! |---|---|
//! | `stop` | stops whole, every thread of it, until it gets SIGCONT or is killed |
//! | `abort` | dies at once, as by `kill -9` |
//!
//! A point that was taken is no longer armed: the process that comes after it passes.

use rustix::process::{Signal, getpid, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// The kernel stops a process through any of its threads. Until that one has got to it, the thread that is at the
/// point must not run on.
const STOPPED_WITHIN: Duration = Duration::from_millis(100);

/// The environment variable that names the folder.
pub const FOLDER: &str = "BGCTL_CRASHPOINTS";

/// For what was handed to a stream to be on the wire: a few tasks pass it on, each in its turn.
const TURNS_UNTIL_OUT: usize = 64;

/// A place with this name: what [`reach`](crate::crashpoint::reach) does where there are debug assertions, and
/// nothing anywhere else. With `sent`, behind a message that was handed to its stream: once that can be on the wire.
#[macro_export]
macro_rules! crashpoint {
    ($name:literal) => {{
        #[cfg(debug_assertions)]
        $crate::crashpoint::reach($name);
    }};
    ($name:literal, sent) => {{
        #[cfg(debug_assertions)]
        $crate::crashpoint::reach_once_out($name);
    }};
}

/// Waits until what was sent just now can be on the wire, without keeping the caller, and then does what `reach`
/// does. Must be called on a tokio runtime.
pub fn reach_once_out(name: &'static str) {
    if std::env::var_os(FOLDER).is_none() {
        return;
    }
    tokio::spawn(async move {
        for _ in 0..TURNS_UNTIL_OUT {
            tokio::task::yield_now().await;
        }
        reach(name);
    });
}

/// Stops or kills this process if the point is armed. Called by [`crashpoint!`](crate::crashpoint!) alone.
pub fn reach(name: &str) {
    static ARMED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(folder) = ARMED.get_or_init(|| std::env::var_os(FOLDER).map(PathBuf::from)) else { return };
    let Some(order) = take(folder, name) else { return };
    let signal = if order.trim() == "abort" { Signal::KILL } else { Signal::STOP };
    if let Err(error) = kill_process(getpid(), signal) {
        tracing::error!(name, %error, "a crash point is armed and cannot be obeyed");
    }
    std::thread::sleep(STOPPED_WITHIN);
}

/// What the file says, if the point is armed and nobody else took it.
fn take(folder: &Path, name: &str) -> Option<String> {
    let reached = folder.join(format!("{name}.reached"));
    fs::rename(folder.join(format!("{name}.armed")), &reached).ok()?;
    fs::read_to_string(&reached).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    const LIMIT: Duration = Duration::from_secs(60);

    /// In a process of its own: this test again, which finds the folder in its environment.
    fn child(folder: &Path) -> std::process::Child {
        let own = std::env::current_exe().expect("a test has a program");
        let mut command = Command::new(own);
        command.args(["--exact", "crashpoint::tests::a_process_that_reaches_two_points", "--nocapture"]);
        command.env(FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("a process")
    }

    /// Does nothing unless another test starts it.
    #[test]
    fn a_process_that_reaches_two_points() {
        crashpoint!("first");
        crashpoint!("second");
    }

    fn wait_for(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn state(pid: u32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    #[test]
    fn a_point_that_is_not_armed_is_passed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("third.armed"), "abort").expect("writes");
        assert!(child(folder.path()).wait().expect("it ends").success());
    }

    #[test]
    fn a_process_stops_whole_at_an_armed_point_and_goes_on_when_told_to() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("first.armed"), "stop").expect("writes");
        let mut child = child(folder.path());
        wait_for("the stop", || state(child.id()) == Some('T'));
        assert!(folder.path().join("first.reached").exists() && !folder.path().join("first.armed").exists());
        let pid = rustix::process::Pid::from_child(&child);
        kill_process(pid, Signal::CONT).expect("it is there");
        assert!(child.wait().expect("it ends").success());
    }

    #[test]
    fn a_process_dies_at_a_point_that_says_so_and_the_next_one_passes() {
        use std::os::unix::process::ExitStatusExt;
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("second.armed"), "abort\n").expect("writes");
        assert_eq!(child(folder.path()).wait().expect("it ends").signal(), Some(Signal::KILL.as_raw()));
        assert!(child(folder.path()).wait().expect("it ends").success());
    }

    /// The macro's whole body is behind that `cfg`, and the released profile does not ask for debug assertions.
    #[test]
    fn a_released_program_has_no_such_points() {
        let own = include_str!("crashpoint.rs");
        let arms: Vec<_> = own.split("=> {{\n").skip(1).filter_map(|rest| rest.split("}};").next()).collect();
        assert_eq!(arms.len(), 2);
        for arm in arms {
            let lines: Vec<_> = arm.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let [cfg, call] = lines[..] else { panic!("{lines:?} is more than one call") };
            assert!(cfg == "#[cfg(debug_assertions)]" && call.starts_with("$crate::crashpoint::reach"), "{lines:?}");
        }
        let manifest = include_str!("../../Cargo.toml");
        let released = manifest.split("[profile.release]").nth(1).expect("the released profile");
        assert!(!released.contains("debug-assertions"), "released programs would stop where a file says so");
    }
}
