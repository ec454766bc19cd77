//! The live view of the real binary on a real pseudo-terminal.

use crate::fake::Fake;
use crate::run::Stream;
use crate::screen::Screen;
use crate::story::*;
use bgctl_proto::operator::{DeploymentPhase, HostPhase, HostProgress};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::process::{Child, Command, Stdio};

const COLUMNS: u16 = 90;

/// `bgctl` on a terminal of its own. Ended with the test.
struct Session {
    child: Child,
    terminal: Stream,
    screen: Screen,
    shown: usize,
}

impl Session {
    /// Stderr is the terminal; stdout too, or a pipe.
    fn start(mut command: Command, rows: u16, stdout_too: bool) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        tcsetwinsize(&ours, Winsize { ws_col: COLUMNS, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).expect("its size");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("UTF-8");
        let theirs = OpenOptions::new().read(true).write(true).open(name).expect("its other side");
        let stdout = if stdout_too { Stdio::from(theirs.try_clone().unwrap()) } else { Stdio::null() };
        let child = command.env("TERM", "xterm").stdout(stdout).stderr(theirs).spawn().expect("bgctl starts");
        // The command holds the other side: the terminal ends with it.
        drop(command);
        let screen = Screen::new(COLUMNS.into(), rows.into());
        Self { child, terminal: Stream::of(File::from(ours)), screen, shown: 0 }
    }

    /// Waits until the screen shows this. Each drawing on the way has one overall line, and no more.
    fn wait_for(&mut self, text: &str) {
        let (screen, shown) = (&mut self.screen, &mut self.shown);
        self.terminal.wait_until(|told| {
            // A sequence that has come in half is left for later.
            let whole = told.rfind("\u{1b}[?2026l").map_or(0, |at| at + "\u{1b}[?2026l".len());
            if whole > *shown {
                screen.show(&told[*shown..whole], one_overall_line);
                *shown = whole;
            }
            screen.text().contains(text)
        });
    }

    fn end(mut self) -> (i32, Screen) {
        self.terminal.wait_for_end();
        self.screen.show(&self.terminal.told[self.shown..], one_overall_line);
        let code = self.child.wait().unwrap().code().unwrap();
        assert!(self.screen.is_at_rest(), "{:?}", self.screen);
        (code, std::mem::replace(&mut self.screen, Screen::new(1, 1)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn one_overall_line(screen: &Screen) {
    let text = screen.text();
    let overall = text.matches("deploy web 2.3.0 → 2.3.1").count() + text.matches("asking the controller").count();
    assert!(overall <= 1, "residue:\n{text}");
}

/// From the first line to the last, drawn over one another, with the result elsewhere: the last frame stays.
#[test]
fn a_deployment_as_it_goes() {
    let fake = Fake::new();
    let teller = fake.stream();
    let mut session = Session::start(fake.command(&DEPLOY), 24, false);
    session.wait_for("asking the controller");
    let mut first = opening();
    first.attached = true;
    teller.tell(first);
    session.wait_for("asked");
    teller.tell(pulling());
    session.wait_for("pulling");
    let mut probing = host("web-2", HostPhase::Probing);
    probing.detail = format!("GET /healthz: {}\u{1b}[2J", "very long ".repeat(30));
    teller.tell(event(deployment(DeploymentPhase::Preparing, 1_000_000), vec![probing]));
    session.wait_for("very long");
    teller.tell(ready());
    session.wait_for("3 of 3 ready");
    let mut over = settled();
    over.hosts = all(HostPhase::Switched);
    teller.tell(over);
    let (code, screen) = session.end();
    assert_eq!(code, 0);
    insta::assert_snapshot!("terminal_end", screen.text());
    assert_eq!(screen.earlier(), 23, "the lines of earlier commands are untouched");
}

/// With stdout on the same terminal the result takes the frame's place.
#[test]
fn the_result_takes_the_frames_place() {
    let fake = Fake::new();
    let teller = fake.stream();
    let mut session = Session::start(fake.command(&DEPLOY), 24, true);
    teller.tell(opening());
    session.wait_for("asked");
    teller.tell(aborted());
    let (code, screen) = session.end();
    assert_eq!(code, 3);
    insta::assert_snapshot!("terminal_result", screen.text());
    assert_eq!(screen.earlier(), 23);
}

/// More hosts than rows: nothing scrolls out with each drawing.
#[test]
fn more_hosts_than_rows() {
    let fake = Fake::new();
    let teller = fake.stream();
    let mut session = Session::start(fake.command(&DEPLOY), 10, false);
    let fleet = |phase| -> Vec<HostProgress> { (0..60).map(|i| host(&format!("web-{i:02}"), phase)).collect() };
    let phases = [HostPhase::Asked, HostPhase::Pulling, HostPhase::Starting, HostPhase::Probing, HostPhase::Ready];
    for phase in phases {
        let mut deployment = deployment(DeploymentPhase::Preparing, 1_000_000);
        deployment.host_count = 60;
        teller.tell(event(deployment, fleet(phase)));
        let word = format!("… and 54 more {}", format!("{phase:?}").to_lowercase());
        session.wait_for(&word);
    }
    let mut over = settled();
    over.hosts = fleet(HostPhase::Switched);
    teller.tell(over);
    let (code, screen) = session.end();
    assert_eq!(code, 0);
    assert_eq!(screen.text().lines().count(), 9, "{}", screen.text());
}

/// The connection goes and comes back: said in the frame, and gone from it again.
#[test]
fn a_lost_connection_is_shown() {
    let mut fake = Fake::new();
    let teller = fake.stream();
    teller.tell(opening());
    let mut session = Session::start(fake.command(&DEPLOY), 24, false);
    session.wait_for("asked");
    fake.kill();
    session.wait_for("connection to the controller lost");
    let teller = fake.stream();
    fake.start();
    teller.tell(ready());
    session.wait_for("3 of 3 ready");
    let mut over = settled();
    over.hosts = all(HostPhase::Switched);
    teller.tell(over);
    let (code, screen) = session.end();
    assert_eq!(code, 0);
    assert!(!screen.text().contains("lost"), "{}", screen.text());
}

/// A frame as high as the screen leaves nothing behind, not even in what has scrolled out of sight.
#[test]
fn a_full_screen_is_wiped_for_the_result() {
    let fake = Fake::new();
    let teller = fake.stream();
    let mut session = Session::start(fake.command(&DEPLOY), 6, true);
    teller.tell(opening());
    session.wait_for("asked");
    teller.tell(aborted());
    let (code, screen) = session.end();
    assert_eq!(code, 3);
    assert_eq!(screen.text().matches("deploy web").count(), 1, "{}", screen.text());
}
