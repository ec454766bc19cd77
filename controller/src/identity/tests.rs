//! Real handshakes between identities made as in production.

mod files;
mod handshake;

use super::authority::{Authority, Subject, Validity};
use super::{DAY, init, issue_host, issue_operator, operator_folder};
use bgctl_proto::link::Identity;
use cutover::ids::HostId;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// A fleet: its CA and controller, the operator `alice` and the host `web-1`.
struct Fleet {
    dir: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        init(dir.path(), "alice").expect("an identity");
        let labels = labels(&[("role", "web"), ("zone", "eu-west-1.a")]);
        issue_host(dir.path(), &host("web-1"), &labels, &dir.path().join("web-1")).expect("an identity");
        Self { dir }
    }

    fn controller(&self) -> Identity {
        load(self.dir.path(), "controller")
    }

    fn operator(&self) -> Identity {
        load(&operator_folder(self.dir.path(), "alice"), "operator")
    }

    fn host(&self) -> Identity {
        load(&self.dir.path().join("web-1"), "host")
    }

    /// An identity that the public functions would not make.
    fn odd(&self, subject: &Subject, validity: Validity) -> Identity {
        let authority = Authority::load(self.dir.path()).expect("the CA");
        let made = authority.issue(subject, validity).expect("a certificate");
        let folder = tempfile::tempdir_in(self.dir.path()).expect("a folder");
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).expect("written");
        write("ca.crt", authority.certificate());
        write("odd.crt", &made.certificate);
        write("odd.key", &made.key);
        load(folder.path(), "odd")
    }
}

fn load(dir: &Path, name: &str) -> Identity {
    let file = |suffix: &str| dir.join(format!("{name}.{suffix}"));
    Identity::load(&dir.join("ca.crt"), &file("crt"), &file("key")).expect("an identity")
}

fn host(name: &str) -> HostId {
    name.parse().expect("a name")
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
