//! What nginx answers to load balancers, as files that it looks up on each request: no reload changes it, and
//! it is answered while no agent runs.
//!
//! ```text
//!   switch/ready/web.yes           200, with this line        _host.*: for the whole host
//!   switch/ready/web.yes.170000000 200 in these ten seconds   (since 1970, in tens): an answer that runs out
//!   switch/ready/web.no            503, with this line, where there is no `yes`
//!   switch/ready/memory            the agent's own, for after a restart
//! ```
//!
//! nginx goes to them through `switch/current/../ready`: where the switch is gone or cannot be entered, there is no
//! `yes` to be found.

use super::{Answer, ProxyError, Readiness, files};
use cutover::ids::ServiceName;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Below the switch directory.
pub(super) const DIR: &str = "ready";
/// No service's name begins so.
pub(super) const HOST: &str = "_host";
const MEMORY: &str = "memory";

/// The directory `switch/ready`.
#[derive(Debug, Clone)]
pub(super) struct ReadyDir {
    dir: PathBuf,
}

impl ReadyDir {
    pub(super) fn new(switch_dir: &Path) -> Self {
        Self { dir: switch_dir.join(DIR) }
    }

    /// Brings the files to this, each by one rename or removal; what is right already is not touched. A `no` is there
    /// before its `yes` goes.
    pub(super) fn tell(&self, readiness: &Readiness) -> Result<(), ProxyError> {
        let switch = self.dir.parent().unwrap_or(Path::new("/"));
        files::ensure_state_dir(switch.parent().unwrap_or(Path::new("/")))?;
        files::ensure_dir(switch)?;
        files::ensure_dir(&self.dir)?;
        let wanted = wanted(readiness);
        for (name, text) in &wanted {
            let path = self.dir.join(name);
            if files::read(&path)?.as_deref() != Some(text) {
                files::replace(&path, text.as_bytes())?;
            }
        }
        for name in files::names(&self.dir)? {
            if !wanted.contains_key(&name) {
                files::remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// What was told last; nothing if there is nothing.
    pub(super) fn told(&self) -> Result<Readiness, ProxyError> {
        let mut readiness = Readiness::default();
        for name in files::names(&self.dir)? {
            let text = files::read(&self.dir.join(&name))?.unwrap_or_default();
            let line = text.trim_end().to_owned();
            if name == MEMORY {
                readiness.memory = line;
            } else if let Some((whose, answer)) = read(&name, line) {
                let told = match whose {
                    None => &mut readiness.host,
                    Some(service) => readiness.services.entry(service).or_default(),
                };
                merge(told, answer);
            }
        }
        Ok(readiness)
    }
}

/// Every file that has to be there.
fn wanted(readiness: &Readiness) -> BTreeMap<String, String> {
    let Readiness { services, host, memory } = readiness;
    let mut files = BTreeMap::from([(MEMORY.to_owned(), format!("{memory}\n"))]);
    let all = services.iter().map(|(name, answer)| (name.as_str(), answer));
    for (name, Answer { is_ready, line, tens }) in all.chain([(HOST, host)]) {
        let text = format!("{line}\n");
        match (is_ready, tens) {
            (true, None) => drop(files.insert(format!("{name}.yes"), text)),
            (true, Some(tens)) => {
                files.extend(tens.clone().map(|ten| (format!("{name}.yes.{ten}"), text.clone())));
                files.insert(format!("{name}.no"), format!("not ready: {name}: the agent has not been heard of\n"));
            }
            (false, _) => drop(files.insert(format!("{name}.no"), text)),
        }
    }
    files
}

/// Whose file it is, none being the host's, and what it says.
fn read(name: &str, line: String) -> Option<(Option<ServiceName>, Answer)> {
    let mut parts = name.split('.');
    let (whose, answer, ten) = (parts.next()?, parts.next()?, parts.next());
    let whose = if whose == HOST { None } else { Some(whose.parse().ok()?) };
    let ten = ten.map(|ten| ten.parse::<u64>().ok()).map_or(Some(None), |ten| ten.map(Some))?;
    let answer = match answer {
        "yes" => Answer { is_ready: true, line, tens: ten.map(|ten| ten..=ten) },
        "no" => Answer { is_ready: false, line, tens: None },
        _ => return None,
    };
    Some((whose, answer))
}

/// A `yes` counts before a `no`, as in nginx.
fn merge(told: &mut Answer, answer: Answer) {
    match (told.is_ready, answer.is_ready) {
        (true, false) => {}
        (false, _) => *told = answer,
        (true, true) => {
            let tens = told.tens.take().zip(answer.tens);
            told.tens = tens.map(|(a, b)| *a.start().min(b.start())..=*a.end().max(b.end()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(is_ready: bool, line: &str) -> Answer {
        Answer { is_ready, line: line.to_owned(), tens: None }
    }

    #[test]
    fn what_was_told_is_read_back_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let ready = ReadyDir::new(&dir.path().join("state/switch"));
        assert_eq!(ready.told(), Ok(Readiness::default()));
        let timed = Answer { tens: Some(170_000_000..=170_000_003), ..answer(true, "ready: web") };
        let service = |name: &str| name.parse::<ServiceName>().unwrap();
        let all = Readiness {
            services: BTreeMap::from([(service("web"), timed.clone()), (service("api"), answer(false, "no: api"))]),
            host: answer(false, "not ready: api"),
            memory: "boot x\nweb 42".to_owned(),
        };
        for readiness in [
            all.clone(),
            all.clone(),
            Readiness { services: BTreeMap::from([(service("web"), answer(true, "ready: web"))]), ..all.clone() },
            Readiness { services: BTreeMap::from([(service("web"), answer(false, "gone"))]), host: timed, ..all },
            Readiness { host: answer(true, "ready"), ..Readiness::default() },
        ] {
            ready.tell(&readiness).unwrap();
            assert_eq!(ready.told(), Ok(readiness));
        }
    }
}
