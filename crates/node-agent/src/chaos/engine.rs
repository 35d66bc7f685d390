//! An engine that hangs, does not listen, or comes back as another.

use std::time::Instant;

use domain::{instance::Cause, node::EngineState};

use super::*;
use crate::runtime::fake::{Call, Fault};

/// Each call that an instance's life needs hangs for good, for one instance after
/// the other; the engine answers all else.
#[tokio::test]
async fn a_call_that_hangs_for_ever_keeps_no_other_instance_waiting_and_is_got_over() {
    for call in
        [Call::ImagePresent, Call::Pull, Call::Create, Call::Start, Call::Stop, Call::Remove, Call::Inspect]
    {
        let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
        engine.add_image("here:1");
        let node = Node::start(dir.path(), &engine, quick());
        let here = |n| Assignment {
            spec: InstanceSpec { image: "here:1".into(), ..assignment(n).spec },
            ..assignment(n)
        };
        let begins = matches!(call, Call::ImagePresent | Call::Pull | Call::Create | Call::Start);
        if !begins {
            node.assign([assignment(1)]).await;
            until("it runs", || node.is_healthy(1)).await;
        }
        engine.fail_next(call, Fault::Hang);
        let hung = engine.count(call, None) + 1;
        match call {
            Call::Inspect => engine.exit(id(1), 0),
            Call::Stop | Call::Remove => node.assign([]).await,
            _ => node.assign([assignment(1)]).await,
        }
        until("it hangs", || engine.count(call, None) >= hung).await;
        let begun = Instant::now();
        let kept: &[u128] = if matches!(call, Call::Stop | Call::Remove) { &[] } else { &[1] };
        node.assign(kept.iter().map(|n| assignment(*n)).chain([here(2)])).await;
        until("the other one runs", || node.is_healthy(2)).await;
        assert!(begun.elapsed() < quick().call_deadline, "{call:?}: it waited for {:?}", begun.elapsed());
        assert_eq!(*node.published.engine.borrow(), EngineState::Reachable);
        match call {
            Call::Stop | Call::Remove => until("it is gone", || engine.container(id(1)).is_none()).await,
            _ => until("it runs", || node.is_healthy(1)).await,
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn an_engine_that_tells_of_no_events_is_looked_at_all_the_same() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.fail_always(Call::Events, Fault::Hang);
    let node =
        Node::start(dir.path(), &engine, Settings { list_period: Duration::from_millis(50), ..quick() });
    node.assign([assignment(1)]).await;
    until("it runs", || node.is_healthy(1)).await;
    engine.exit(id(1), 1);
    until("it runs again", || node.is_healthy(1) && node.reports(1).len() > 4).await;
    assert_eq!(*node.published.engine.borrow(), EngineState::Reachable);
    engine.heal(Call::Events);
    until("it listens", || engine.subscribers() == 1).await;
    node.stop().await;
}

#[tokio::test]
async fn an_engine_that_lists_nothing_for_a_while_is_got_over() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    engine.fail_always(Call::List, Fault::Hang);
    let node = Node::start(dir.path(), &engine, quick());
    node.assign([assignment(1)]).await;
    until("it was asked twice", || engine.count(Call::List, None) >= 2).await;
    assert_eq!(engine.count(Call::Create, None), 0, "nothing is begun before all was looked at");
    engine.heal(Call::List);
    until("it runs", || node.is_healthy(1)).await;
    node.stop().await;
}

#[tokio::test]
async fn what_happened_while_nobody_was_subscribed_is_made_up_for() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let node = Node::start(dir.path(), &engine, quick());
    node.assign([assignment(1)]).await;
    until("it runs", || node.is_healthy(1)).await;
    // The next subscription is not to be had; meanwhile somebody kills it.
    engine.fail_next(Call::Events, Fault::Error(crate::runtime::RuntimeErrorKind::Unreachable));
    engine.lose_subscribers();
    engine.kill(id(1), 9);
    let again = || node.reports(1).pop().is_some_and(|r| r.status.progress.attempt == 2);
    until("it runs again", || again() && node.is_healthy(1)).await;
    let told = node.reports(1);
    let ends: Vec<_> = told.iter().filter(|report| report.status.outcome.is_some()).collect();
    assert_eq!(ends.len(), 1, "{told:#?}");
    // Only an event says who did it.
    assert_eq!(ends[0].cause, Cause::OutsideSignal { signal: 9 });
    node.stop().await;
}

#[tokio::test]
async fn an_engine_that_comes_back_with_other_containers_gets_ours_anew_and_loses_those_of_nobody() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let node = Node::start(dir.path(), &engine, quick());
    node.assign([assignment(1), assignment(2)]).await;
    until("both run", || node.is_healthy(1) && node.is_healthy(2)).await;
    let before = engine.container(id(1)).unwrap();
    // As with another data directory: one of an old assignment of this node is there.
    engine.come_back_with(&[assignment(7)]);
    until("both run again", || engine.container(id(1)).is_some() && engine.container(id(2)).is_some()).await;
    until("that of nobody is gone", || engine.container(id(7)).is_none()).await;
    let again = || node.reports(1).pop().is_some_and(|r| r.status.progress.attempt == 2);
    until("it is healthy", || again() && node.is_healthy(1) && engine.running() == 2).await;
    assert_ne!(engine.container(id(1)).unwrap().container_id, before.container_id);
    assert_eq!(engine.count(Call::Create, Some(id(1))), 2, "one container anew, and not two");
    let told = node.reports(1);
    let ends: Vec<_> = told.iter().filter(|report| report.status.outcome.is_some()).collect();
    assert_eq!(ends.len(), 1, "its end is told: {told:#?}");
    node.stop().await;
}
