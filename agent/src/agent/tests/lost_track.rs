//! The served container was being started again when its Docker was killed, which has lost track of it.

use super::*;
use crate::docker::Condition;
use crate::docker::fake::{Call, Fault, Left};

/// Long enough for everything that is looked at each second, and for the sweep of leftovers.
const A_WHILE: Duration = Duration::from_secs(45);

/// v1 serves, and what Docker lost track of is its container.
async fn served_by(left: Left) -> Host {
    let host = Host::new();
    host.engine.ensure_network(&host.settings().network).await.expect("a network");
    let v1 = host.release("v1");
    let mut state = HostState::new(Incarnation(7), subnet());
    let slot = Slot { generation: Generation(10), release: v1.digest, colour: Colour::Blue };
    state.record.applied.insert(v1.service.clone(), slot);
    let standing = Standing { release: v1.clone(), berth: Berth::A, generation: Generation(10), retired: None };
    host.stand(&mut state, &standing, Colour::Blue).await;
    state.places.insert((v1.service.clone(), Colour::Blue), standing);
    host.write(&state).await;
    let id = host.engine.listed(&host.settings().host).remove(0).id;
    host.engine.kill(&id, 137, false);
    host.engine.fail(Call::Start, Fault::KilledMeanwhile(left));
    host.engine.start(&id).await.expect_err("the daemon was killed");
    host.engine.heal(Call::Start);
    assert_eq!(host.engine.lost_track().len(), usize::from(left != Left::Nothing));
    host
}

async fn run_for_a_while(host: &Host, then: impl AsyncFnOnce()) {
    let shutdown = CancellationToken::new();
    let looked_at = async {
        tokio::time::sleep(A_WHILE).await;
        then().await;
        shutdown.cancel();
    };
    let (ran, ()) = tokio::join!(run(host.settings(), host.world(), || {}, shutdown.clone()), looked_at);
    ran.expect("it runs");
}

fn condition(host: &Host) -> Vec<Condition> {
    host.engine.listed(&host.settings().host).into_iter().map(|facts| facts.condition).collect()
}

#[tokio::test(start_paused = true)]
async fn it_is_left_alone_while_it_serves_and_ended_when_it_does_not() {
    let host = served_by(Left::Program).await;
    run_for_a_while(&host, async || {
        assert_eq!(host.engine.lost_track().len(), 1, "users were served by it");
        let id = host.engine.lost_track().remove(0).id;
        host.engine.set_sick(&id, true);
        tokio::time::sleep(A_WHILE).await;
        assert_eq!((host.engine.lost_track(), condition(&host)), (Vec::new(), vec![Condition::Running]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ended_and_started_again_where_it_does_not_serve() {
    let host = served_by(Left::Waiting).await;
    run_for_a_while(&host, async || {
        assert_eq!((host.engine.lost_track(), condition(&host)), (Vec::new(), vec![Condition::Running]));
    })
    .await;
}

/// There is no process, and what is left in containerd keeps it from being started for good.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_under_its_id_any_more_is_made_anew() {
    let host = served_by(Left::Nothing).await;
    let before = host.engine.listed(&host.settings().host).remove(0).id;
    run_for_a_while(&host, async || {
        assert_eq!(condition(&host), [Condition::Running]);
        assert_ne!(host.engine.listed(&host.settings().host).remove(0).id, before);
    })
    .await;
}

/// As `docker system prune` does to what does not run, as Docker says.
#[tokio::test(start_paused = true)]
async fn what_serves_and_was_pruned_from_docker_is_left_alone() {
    let host = served_by(Left::Program).await;
    let stray = host.engine.lost_track().remove(0);
    host.engine.remove(&stray.id).await.expect("it is removed");
    run_for_a_while(&host, async || {
        assert_eq!((host.engine.lost_track(), condition(&host)), (vec![stray], Vec::new()));
    })
    .await;
}

/// Somebody removed it from Docker, which lists nothing of it, and started another.
#[tokio::test(start_paused = true)]
async fn what_docker_does_not_even_list_is_swept_beside_what_serves() {
    let host = served_by(Left::Waiting).await;
    let id = host.engine.lost_track().remove(0).id;
    host.engine.remove(&id).await.expect("it is removed");
    let v1 = host.release("v1");
    let mut state = HostState::new(Incarnation(7), subnet());
    let standing = Standing { release: v1, berth: Berth::A, generation: Generation(10), retired: None };
    host.stand(&mut state, &standing, Colour::Blue).await;
    run_for_a_while(&host, async || {
        assert_eq!((host.engine.lost_track(), condition(&host)), (Vec::new(), vec![Condition::Running]));
    })
    .await;
}
