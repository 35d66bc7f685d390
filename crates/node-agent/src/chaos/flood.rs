//! A thousand events a second.

use std::time::Instant;

use tokio::time::{MissedTickBehavior, interval};

use super::*;
use crate::runtime::{EventKind, fake::Call};

/// How long it lasts.
const FLOOD: Duration = Duration::from_secs(4);
const EVENTS_PER_SECOND: u32 = 1000;
/// What each call of the engine takes.
const ANSWER: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_thousand_events_a_second_cost_few_looks_and_nobody_waits() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let node = Node::start(dir.path(), &engine, quick());
    node.assign((1..=20).map(assignment)).await;
    until("all run", || (1..=20).all(|n| node.is_healthy(n))).await;
    engine.delay(ANSWER);
    let looks = engine.count(Call::Inspect, None);

    let (begun, mut sent, mut killed, mut slowest) = (Instant::now(), 0_u32, 0_u32, Duration::ZERO);
    let mut tick = interval(Duration::from_millis(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut since: Option<Instant> = None;
    while begun.elapsed() < FLOOD {
        tick.tick().await;
        for _ in 0..EVENTS_PER_SECOND / 100 {
            // Of ten instances, and half of it false alarms about their end.
            let kind = if sent.is_multiple_of(2) { EventKind::Died } else { EventKind::Other };
            engine.say(id(u128::from(sent % 10) + 1), kind);
            sent += 1;
        }
        // Meanwhile others really die, one after the other.
        match since {
            None if killed < 10 => {
                engine.kill(id(u128::from(killed) + 11), 9);
                killed += 1;
                since = Some(Instant::now());
            }
            Some(at) if engine.running() == 20 => {
                slowest = slowest.max(at.elapsed());
                since = None;
            }
            _ => {}
        }
    }
    let looks = engine.count(Call::Inspect, None) - looks;
    until("all run", || engine.running() == 20).await;
    eprintln!("{sent} events, {looks} looks, {killed} killed, the slowest back after {slowest:?}");
    assert!(sent >= EVENTS_PER_SECOND * 3 && killed >= 5);
    // An instance is looked at once at a time, however many events tell of it.
    let most = 10 * FLOOD.as_millis() / ANSWER.as_millis();
    assert!(looks < usize::try_from(sent / 2).unwrap() && (looks as u128) < most, "{looks}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let attempts = |n| node.ledger.record(id(n)).unwrap().status.progress.attempt;
    assert!((1..=10).all(|n| attempts(n) == 1), "a false alarm restarts nothing");
    node.stop().await;
}
