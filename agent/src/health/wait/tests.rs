//! The judge is pure and runs here on made-up time; the loop around it on short real time.

use super::*;
use crate::release::Probe;
use async_trait::async_trait;
use std::net::Ipv4Addr;

const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn check() -> Healthcheck {
    Healthcheck {
        probe: Probe::Tcp,
        port: 80,
        interval: millis(1000),
        timeout: millis(500),
        successes: 2,
        retries: 3,
        start_period: millis(2000),
        settle: millis(250),
    }
}

/// How a container is judged whose answers follow this script, in milliseconds: when it was asked, and
/// when it became healthy (None: it was given up). Ends after an hour.
fn judged(check: &Healthcheck, good: impl Fn(u64) -> bool) -> (Vec<u64>, Option<u64>) {
    let mut judge = Judge::new(check);
    let (mut now, mut asked) = (Duration::ZERO, Vec::new());
    loop {
        let at = u64::try_from(now.as_millis()).unwrap();
        assert!(at < 3_600_000, "never judged");
        asked.push(at);
        match judge.hear(good(at), now) {
            Verdict::Ask(pause) => now += pause,
            Verdict::Healthy { healthy_after } => {
                return (asked, Some(u64::try_from(healthy_after.as_millis()).unwrap()));
            }
            Verdict::Failed => return (asked, None),
        }
    }
}

#[test]
fn asks_at_once_then_fast_then_less_and_less() {
    let (asked, healthy) = judged(&check(), |_| false);
    assert_eq!(healthy, None);
    assert_eq!(asked[..6], [0, 10, 25, 47, 81, 131]);
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.iter().max(), Some(&1000));
    assert!(pauses.iter().rev().take(2).all(|pause| *pause == 1000), "{pauses:?}");
}

#[test]
fn a_fast_start_is_seen_within_milliseconds() {
    let at_once = Healthcheck { settle: Duration::ZERO, ..check() };
    assert_eq!(judged(&at_once, |at| at >= 20), (vec![0, 10, 25, 35], Some(35)));
}

#[test]
fn settles_with_good_answers_only() {
    let (asked, healthy) = judged(&check(), |_| true);
    assert_eq!(asked, [0, 10, 110, 210, 260], "10 ms for the count, then 100 ms, then what is left");
    assert_eq!(healthy, Some(10));
}

#[test]
fn a_bad_answer_while_settling_begins_anew() {
    let (asked, healthy) = judged(&check(), |at| at != 210);
    assert_eq!(healthy, Some(230), "210 bad, 220 and 230 good");
    assert_eq!(asked.last(), Some(&480));
}

#[test]
fn the_start_period_forgives_and_each_retry_takes_an_interval() {
    let (asked, healthy) = judged(&check(), |_| false);
    let end = *asked.last().unwrap();
    assert_eq!(healthy, None);
    assert!((5000..8000).contains(&end), "2 s to start, then 3 answers at least 1 s apart: {end}");
    let (asked, healthy) = judged(&Healthcheck { start_period: Duration::ZERO, ..check() }, |_| false);
    let end = *asked.last().unwrap();
    assert_eq!(healthy, None);
    assert!((3000..6000).contains(&end), "the fast probes at the start use up no retries: {end}");
}

#[test]
fn one_good_answer_forgives_the_bad_ones_before_it() {
    // Two counted bad answers, a good one, two bad ones, then good for ever.
    let bad_until = |until: u64| move |at: u64| at >= until;
    let (asked, _) = judged(&check(), bad_until(3_600_000));
    let forgiving = *asked.iter().rev().nth(1).unwrap() + 1;
    let (_, healthy) = judged(&check(), |at| at >= forgiving && (at < forgiving + 1000 || at >= forgiving + 3300));
    assert!(healthy.is_some());
}

/// Good, bad, or never an answer at all.
struct Always(Option<bool>);

#[async_trait]
impl Prober for Always {
    async fn is_anybody(&self, _: Ipv4Addr) -> bool {
        true
    }

    async fn probe(&self, _: SocketAddrV4, _: &Healthcheck) -> Result<String, String> {
        match self.0 {
            Some(true) => Ok("200".to_owned()),
            Some(false) => Err("503".to_owned()),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn the_deadline_ends_it_whatever_goes_on() {
    let long = Healthcheck { settle: Duration::from_secs(3600), ..check() };
    for (prober, words) in [
        (Always(Some(true)), "last answer: 200, good, but not for long enough ("),
        (Always(Some(false)), "last answer: 503 ("),
        (Always(None), "it was never asked (0 probes)"),
    ] {
        let deadline = Instant::now() + millis(60);
        let unhealthy = wait_until_healthy(&prober, ADDRESS, &long, deadline, |_| {}).await.unwrap_err();
        assert!(Instant::now() >= deadline);
        assert_eq!(unhealthy.reason, Reason::Deadline);
        let text = unhealthy.to_string();
        assert!(text.starts_with("not healthy when the time was up after 0.1 s; "), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn every_answer_is_heard_and_the_ends_are_kept() {
    let quick = Healthcheck { interval: millis(1), start_period: Duration::ZERO, retries: 30, ..check() };
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let waited =
        wait_until_healthy(&Always(Some(false)), ADDRESS, &quick, deadline, |report| heard.push(report.clone()));
    let unhealthy = waited.await.unwrap_err();
    assert_eq!(unhealthy.reason, Reason::BadAnswers(30));
    let count = unhealthy.probes.count();
    assert!(count >= 30, "{count}");
    assert_eq!(heard.len() as u64, count);
    let ends: Vec<_> = heard[..10].iter().chain(&heard[heard.len() - 10..]).collect();
    assert_eq!(unhealthy.probes.kept().collect::<Vec<_>>(), ends);
    assert_eq!(unhealthy.probes.latest(), heard.last());
    assert!(unhealthy.to_string().contains("30 bad answers in a row; last answer: 503 ("), "{unhealthy}");
}
