//! What nginx serves now: its workers are asked, file and exit codes are not believed.

use super::probe::{Connection, Probe};
use super::render::{NONE, lost, upstream};
use super::switch::{from_text, to_text};
use super::{Flag, Flags, ProxyError};
use cutover::ids::ServiceName;
use http::StatusCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A rename between two questions makes them contradict each other; again and again is no rename.
const ATTEMPTS: usize = 3;
/// nginx sees a rename on its next request. What takes longer is not a slow nginx but a frozen one.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);
/// Between two questions after the first. Short: an acknowledgement waits for it.
const FOLLOW_PAUSE: Duration = Duration::from_millis(1);

/// Asks for the generation, and for each service which upstream its requests take; both must agree.
/// Services that nginx has no route for are left out. `known`: services it must have a flag for.
pub(super) async fn observe(probe: &Probe, known: &BTreeSet<ServiceName>) -> Result<Flags, ProxyError> {
    let mut contradiction = None;
    for _ in 0..ATTEMPTS {
        let (flags, routes) = ask(probe.connect().await?, known).await?;
        match agreed(flags, &routes) {
            Ok(routed) => return Ok(routed),
            Err(error) => contradiction = Some(error),
        }
    }
    Err(contradiction.unwrap_or_else(|| probe.not_answering("it was not asked".to_owned())))
}

/// The flags of the services that nginx has routes for, if the routes are where the flags say.
fn agreed(flags: Flags, routes: &BTreeMap<ServiceName, String>) -> Result<Flags, ProxyError> {
    let routed: Flags =
        Flags { services: flags.services.into_iter().filter(|(name, _)| routes.contains_key(name)).collect() };
    let expected: BTreeMap<_, _> =
        routed.services.iter().map(|(name, flag)| (name.clone(), expected_route(name, flag))).collect();
    if expected == *routes {
        return Ok(routed);
    }
    Err(ProxyError::NotFollowing { expected: one_line(&routed), answered: list(routes) })
}

/// Waits until nginx serves exactly these flags. `early`: a connection to ask over first.
pub(super) async fn follow(probe: &Probe, early: Option<Connection<'_>>, flags: &Flags) -> Result<(), ProxyError> {
    let known: BTreeSet<ServiceName> = flags.services.keys().cloned().collect();
    let deadline = Instant::now() + FOLLOW_LIMIT;
    let mut early = early;
    loop {
        let answered = match early.take() {
            // It may have been closed meanwhile: that is no answer.
            Some(connection) => ask(connection, &known).await.and_then(|(flags, routes)| agreed(flags, &routes)),
            None => observe(probe, &known).await,
        };
        match answered {
            Ok(seen) if seen == *flags => return Ok(()),
            answered if Instant::now() >= deadline => {
                let not_following = |answered| ProxyError::NotFollowing { expected: one_line(flags), answered };
                return Err(answered.map_or_else(|error| error, |seen| not_following(one_line(&seen))));
            }
            Ok(_) | Err(_) => sleep(FOLLOW_PAUSE).await,
        }
    }
}

async fn ask(
    mut connection: Connection<'_>,
    known: &BTreeSet<ServiceName>,
) -> Result<(Flags, BTreeMap<ServiceName, String>), ProxyError> {
    let unreadable = |detail| ProxyError::File {
        operation: "read through nginx",
        path: "the switch's current/generation".to_owned(),
        detail,
    };
    let (status, text) = connection.get("/generation").await?;
    if status != StatusCode::OK {
        return Err(unreadable(format!("nginx answers {status}: is the switch directory there, and may it enter?")));
    }
    let flags = from_text(&text).map_err(unreadable)?;
    let mut routes = BTreeMap::new();
    for service in known.iter().chain(flags.services.keys()) {
        let (status, upstream) = connection.get(&format!("/route/{service}")).await?;
        if status == StatusCode::OK {
            routes.insert(service.clone(), upstream);
        }
    }
    Ok((flags, routes))
}

fn expected_route(service: &ServiceName, flag: &Option<Flag>) -> String {
    match flag {
        Some(flag) => upstream(service, flag.berth),
        None => NONE.to_owned(),
    }
}

fn one_line(flags: &Flags) -> String {
    let text = to_text(flags);
    if text.is_empty() { "no service".to_owned() } else { text.trim_end().replace('\n', ", ") }
}

/// A service that no flag was found for reads `web lost`.
fn list(routes: &BTreeMap<ServiceName, String>) -> String {
    let route = |(service, route): (&ServiceName, &String)| {
        if *route == lost(service) { format!("{service} lost") } else { format!("{service} by {route}") }
    };
    routes.iter().map(route).collect::<Vec<_>>().join(", ")
}
