//! The rules in a world where anything happens at any moment: the agent dies
//! between any two steps, containers are killed, started and removed from
//! outside, the engine restarts, steps fail, assignments change; probes pass and fail,
//! writable layers grow and shrink, the controller goes silent and speaks again.

use super::*;
use crate::{
    deployment::RestartPolicy,
    instance::{FailureReason, Progress, Standing},
    probe::{ProbeKind, ProbeResult, ProbeRole, ProbeSpec, Probes, Verdict},
    spec::{SecretTarget, SecretUse, StorageExceeded},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The agent does its next thing.
    Agent,
    /// What the agent queued for its disk is written.
    Flush,
    Crash,
    Pass(u16),
    Exit(u8),
    KillOutside,
    StartOutside,
    RemoveOutside,
    EngineRestart,
    FailNext,
    Want(Desired),
    AskRestart,
    Unassign,
    /// Its probe passes, or fails, whereupon it is unhealthy.
    Probe(bool),
    /// Its writable layer is measured, and is over its limit or far below it.
    Measure(bool),
    /// The controller is silent for too long, or gives a word.
    Silence(bool),
}

/// What a user declared.
#[derive(Clone, Debug)]
struct Declared {
    policy: RestartPolicy,
    probe: Option<ProbeRole>,
    storage: StorageExceeded,
    secret: Option<SecretTarget>,
}

const LIMIT: u64 = 1 << 30;

/// One engine with room for one instance's container.
#[derive(Default)]
struct Engine {
    container: Option<Container>,
    made: u32,
    fail_next: bool,
}

impl Engine {
    fn alive(&mut self) -> Option<&mut Container> {
        self.container.as_mut().filter(|c| c.status.is_alive())
    }

    fn end(&mut self, now: i64, code: i32, signal: Option<i32>) {
        if let Some(container) = self.alive() {
            container.status = ContainerStatus::Exited;
            container.finished_at = Some(at(now));
            container.exit_code = Some(code);
            container.outside_signal = signal;
            container.pid = None;
        }
    }

    fn start(&mut self, now: i64) -> bool {
        match &mut self.container {
            Some(container) if !container.status.is_alive() => {
                *container = super::container(ContainerStatus::Running, Some(now));
                true
            }
            _ => false,
        }
    }
}

/// What an agent loses when it dies.
struct Memory {
    record: Record,
    /// The last look and its time; `None` when it has to look again.
    look: Option<(Seen, i64)>,
    /// What it is about to do, and whether it was wanted running when it decided so.
    step: Option<(Step, bool)>,
    /// Not yet on disk: the record, what happened, and whether steps wait for it.
    queued: Vec<(Record, Vec<Transition>)>,
    durable_first: bool,
    forgotten: bool,
    /// The probes of a run, by when it started.
    probes: Option<(Option<Timestamp>, Probes)>,
    /// The run that the agent before knew.
    adopted: Option<Timestamp>,
    /// Whether what it is given is at hand, as it really is.
    at_hand: bool,
}

struct World {
    now: i64,
    engine: Engine,
    assignment: Option<Assignment>,
    disk: Option<Record>,
    log: Vec<Transition>,
    memory: Memory,
    /// Stops of a running container that the agent made while it was wanted running.
    stops_while_wanted: u32,
    /// Whether anything but restart requests ever asked for a stop.
    ever_unwanted: bool,
    started_since_request: bool,
    outside_starts: u32,
    silent: bool,
}

impl World {
    fn new(declared: &Declared) -> Self {
        let mut assignment = assignment(Desired::Running, 0);
        let spec = &mut assignment.spec;
        spec.restart = declared.policy;
        spec.limits.storage_bytes = Some(LIMIT);
        spec.limits.storage_exceeded = declared.storage;
        spec.stop_after_seconds = Some(60);
        spec.secrets.extend(declared.secret.clone().map(|target| SecretUse {
            credential: crate::name::Name::nearest("key"),
            key: None,
            version: None,
            target,
            resolved: None,
        }));
        spec.probes.extend(declared.probe.map(|role| ProbeSpec {
            retries: 1,
            start_period_seconds: 0,
            ..ProbeSpec::new(role, ProbeKind::Tcp { port: 80 })
        }));
        Self {
            now: 1,
            engine: Engine::default(),
            assignment: Some(assignment),
            disk: None,
            log: Vec::new(),
            memory: Self::remembered(None),
            stops_while_wanted: 0,
            ever_unwanted: false,
            started_since_request: true,
            outside_starts: 0,
            silent: false,
        }
    }

    fn remembered(disk: Option<&Record>) -> Memory {
        let record = disk.cloned().map_or_else(
            || Record::new(instance()),
            |r| {
                // As a ledger would: what is not stored is not there.
                serde_json::from_str(&serde_json::to_string(&r).unwrap()).unwrap()
            },
        );
        Memory {
            adopted: record.last_started,
            record,
            look: None,
            step: None,
            queued: Vec::new(),
            durable_first: false,
            forgotten: false,
            probes: None,
            at_hand: false,
        }
    }

    fn happen(&mut self, happening: Happening) {
        self.now += 1;
        match happening {
            Happening::Agent => drop(self.agent()),
            Happening::Flush => self.flush(),
            Happening::Crash => self.memory = Self::remembered(self.disk.as_ref()),
            Happening::Pass(millis) => self.now += i64::from(millis),
            Happening::Exit(code) => {
                self.engine.end(self.now, i32::from(code), None);
                self.memory.look = None;
            }
            Happening::KillOutside => {
                self.engine.end(self.now, 137, Some(9));
                self.memory.look = None;
            }
            Happening::StartOutside => {
                let started = self.engine.start(self.now);
                self.started_since_request |= started;
                self.outside_starts += u32::from(started);
                self.memory.look = None;
            }
            Happening::RemoveOutside => {
                self.engine.container = None;
                self.memory.look = None;
            }
            Happening::EngineRestart => {
                self.engine.end(self.now, 255, None);
                self.memory.look = None;
            }
            Happening::FailNext => self.engine.fail_next = true,
            Happening::Want(desired) => {
                if let Some(assignment) = self.assignment.as_mut().filter(|a| a.desired != Desired::Removed) {
                    assignment.desired = desired;
                    self.ever_unwanted |= desired != Desired::Running;
                }
            }
            Happening::AskRestart => {
                if let Some(assignment) = &mut self.assignment {
                    assignment.restart_generation += 1;
                    self.started_since_request = false;
                }
            }
            Happening::Unassign => {
                self.ever_unwanted = true;
                if self.assignment.as_ref().is_some_and(|a| a.desired == Desired::Removed) {
                    self.assignment = None;
                }
            }
            Happening::Probe(passes) => self.probe(passes),
            Happening::Measure(over) => self.measure(over),
            Happening::Silence(silent) => self.silent = silent,
        }
    }

    fn lease_age(&self) -> Duration {
        Duration::from_secs(if self.silent { 61 } else { 0 })
    }

    fn probe(&mut self, passes: bool) {
        let started = self.engine.alive().and_then(|container| container.started_at);
        let (verdict, now) = (if passes { Verdict::Passed } else { Verdict::Failed }, at(self.now));
        if let Some((_, probes)) = self.memory.probes.as_mut().filter(|(of, _)| *of == started) {
            let result = ProbeResult { at: now, took: Duration::ZERO, verdict, message: String::new() };
            *probes = std::mem::take(probes).observe(0, now, result);
        }
    }

    fn measure(&mut self, over: bool) {
        let assignment = self.assignment.clone();
        let Some(wish) = Wish::of(assignment.as_ref(), true) else { return };
        let wish = wish.under_lease(self.lease_age());
        let bytes = if over { LIMIT + 1 } else { LIMIT / 2 };
        let (record, told) = measured(&wish, &self.memory.record, bytes, at(self.now));
        assert_eq!(measured(&wish, &record, bytes, at(self.now)), (record.clone(), None), "once");
        self.note(record, told.into_iter().collect());
    }

    /// What the agent makes of the probes of the run that it sees.
    fn judge(&mut self, wish: &Wish<'_>, seen: &Seen) {
        let (Wish::Run(assignment), Some(container)) = (wish, seen.container()) else { return };
        if container.status != ContainerStatus::Running || assignment.spec.probes.is_empty() {
            return;
        }
        let (specs, started, now) = (&assignment.spec.probes, container.started_at, at(self.now));
        if self.memory.probes.as_ref().is_none_or(|(of, _)| *of != started) {
            let begun = started.unwrap_or(now);
            let probes = if self.memory.adopted == started {
                Probes::resumed(specs, begun, self.memory.record.status.health, now)
            } else {
                Probes::new(specs, begun, now)
            };
            self.memory.probes = Some((started, probes));
        }
        let Some((_, probes)) = &self.memory.probes else { return };
        let (record, told) = probed(wish, &self.memory.record, probes, now);
        assert_eq!(probed(wish, &record, probes, now), (record.clone(), None), "once");
        self.note(record, told.into_iter().collect());
    }

    fn flush(&mut self) {
        for (record, happened) in std::mem::take(&mut self.memory.queued) {
            for transition in happened {
                self.check_order(&transition);
                self.log.push(transition);
            }
            self.disk = Some(record);
        }
        self.memory.durable_first = false;
    }

    fn check_order(&self, next: &Transition) {
        let before = self.log.last().map_or(Progress::FIRST, |t| t.status.progress);
        assert!(next.status.progress >= before, "{before:?} then {next:?}");
    }

    fn note(&mut self, record: Record, happened: Vec<Transition>) {
        self.memory.record = record;
        if !happened.is_empty() {
            self.memory.queued.push((self.memory.record.clone(), happened));
        }
    }

    /// The agent's next thing: look, judge, or carry out. Says whether there was any.
    fn agent(&mut self) -> bool {
        let assignment = self.assignment.clone();
        let Some(wish) = Wish::of(assignment.as_ref(), true) else { return false };
        let wish = wish.under_lease(self.lease_age());
        if let Some((step, wanted)) = self.memory.step.take() {
            if self.memory.durable_first {
                self.flush();
            }
            self.carry_out(&wish, step, wanted);
            return true;
        }
        let Some((seen, looked)) = self.memory.look.clone() else {
            self.memory.look = Some((Seen::from(self.engine.container.clone()), self.now));
            return true;
        };
        let (record, happened) = observe(&wish, &self.memory.record, &seen, at(looked));
        let again = observe(&wish, &record, &seen, at(looked));
        assert_eq!(again, (record.clone(), vec![]), "seeing it again is no news");
        self.note(record, happened);
        self.judge(&wish, &seen);
        let heeded = heed(&wish, &self.memory.record, &seen, at(self.now));
        self.memory.durable_first |= heeded.durable_first;
        self.note(heeded.record, heeded.transition.into_iter().collect());
        match decide(&wish, &self.memory.record, &seen, at(self.now)) {
            Step::Nothing | Step::WaitUntil(_) => false,
            Step::Forget => {
                let news = !self.memory.forgotten;
                self.memory.forgotten = true;
                news
            }
            Step::Inspect => {
                self.memory.look = None;
                true
            }
            step => {
                let (record, transition) = begin(&wish, &self.memory.record, step, at(self.now));
                self.note(record, transition.into_iter().collect());
                let record = &self.memory.record;
                // A full container makes room for a new one: whoever starts it at that
                // moment starts what would be stopped at once.
                let makes_room = step == Step::Remove && record.status.storage_exceeded;
                let excused = record.doom.is_some() || record.stopping_for.is_some() || makes_room;
                self.memory.step = Some((step, matches!(wish, Wish::Run(_)) && !excused));
                true
            }
        }
    }

    /// Whether a step is taken without what it needs.
    fn lacks(&self, step: Step) -> bool {
        let Some(assignment) = &self.assignment else { return false };
        let needed = match step {
            Step::Create => !assignment.spec.secrets.is_empty(),
            Step::Start => assignment.spec.has_secret_files(),
            _ => false,
        };
        needed && !self.memory.at_hand
    }

    fn carry_out(&mut self, wish: &Wish<'_>, step: Step, wanted: bool) {
        assert!(!self.lacks(step), "{step:?} without its secrets");
        if step == Step::Prepare && self.silent {
            let (record, told) = held_up(&self.memory.record, "waiting".into(), at(self.now));
            assert!(held_up(&record, "waiting".into(), at(self.now)).1.is_none(), "told once");
            self.memory.at_hand = false;
            self.note(record, told.into_iter().collect());
            return;
        }
        if std::mem::take(&mut self.engine.fail_next) {
            let failure = Failure { reason: Some(FailureReason::StartFailed), message: "no".into() };
            let (record, transition) = failed(wish, &self.memory.record, step, failure, at(self.now));
            self.note(record, transition.into_iter().collect());
            return;
        }
        self.now += 1;
        self.memory.record = succeeded(&self.memory.record);
        self.memory.look = None;
        match step {
            Step::CheckImage => self.memory.record = image_checked(&self.memory.record, false),
            Step::Pull => self.memory.record = image_pulled(&self.memory.record),
            Step::Prepare => {
                self.memory.at_hand = true;
                self.memory.record = prepared(&self.memory.record);
            }
            Step::Create => {
                assert!(self.engine.container.is_none(), "a second container");
                self.engine.made += 1;
                self.engine.container = Some(container(ContainerStatus::Created, None));
            }
            Step::Start => self.started_since_request |= self.engine.start(self.now),
            Step::Stop { .. } => {
                self.stops_while_wanted += u32::from(wanted && self.engine.alive().is_some());
                self.engine.end(self.now, 143, None);
            }
            Step::Remove => {
                assert!(self.engine.alive().is_none() || !wanted, "removed while it ran");
                self.engine.container = None;
            }
            Step::Nothing | Step::WaitUntil(_) | Step::Inspect | Step::Forget => unreachable!(),
        }
    }

    /// Lets the agent finish, with time passing as it asks for.
    fn settle(&mut self) {
        (self.engine.fail_next, self.silent) = (false, false);
        for _ in 0..400 {
            self.now += 1;
            if self.agent() {
                continue;
            }
            self.flush();
            if self.is_to_be_mended() {
                self.probe(true);
                self.measure(false);
                continue;
            }
            let assignment = self.assignment.clone();
            let Some(wish) = Wish::of(assignment.as_ref(), true) else { return };
            let (seen, _) = self.memory.look.clone().unwrap();
            match decide(&wish, &self.memory.record, &seen, at(self.now)) {
                Step::WaitUntil(until) => self.now = until.timestamp_millis().max(self.now),
                _ => return,
            }
        }
        panic!("never at rest: {:?}", self.memory.record);
    }

    /// Whether it runs, and is not yet found to be well.
    fn is_to_be_mended(&self) -> bool {
        let status = &self.memory.record.status;
        let wanted = self.assignment.as_ref().is_some_and(|a| a.desired == Desired::Running);
        let unproved = self.memory.probes.is_some() && status.health != Health::Healthy;
        wanted && status.progress.phase == Phase::Running && (unproved || status.storage_exceeded)
    }

    fn check_at_rest(&self, policy: RestartPolicy) {
        let record = &self.memory.record;
        let status = &record.status;
        let alive = self.engine.container.as_ref().is_some_and(|c| c.status.is_alive());
        match &self.assignment {
            None => assert!(self.engine.container.is_none() && self.memory.forgotten),
            Some(assignment) => match assignment.desired {
                Desired::Running => {
                    assert_eq!(status.restart_generation, assignment.restart_generation);
                    let given_up = status.progress.phase == Phase::Ended && status.backoff_until.is_none();
                    if alive {
                        assert_eq!(status.started_at, self.engine.container.as_ref().unwrap().started_at);
                        assert_eq!((status.progress.phase, status.health), (Phase::Running, Health::Healthy));
                    } else {
                        let full = matches!(
                            status.outcome,
                            Some(Outcome::Failed { reason: FailureReason::StorageExceeded, .. })
                        );
                        assert!(given_up && (full || policy != RestartPolicy::Always), "{status:?}");
                    }
                    if alive || policy == RestartPolicy::Always {
                        assert!(self.started_since_request, "a restart that never happened");
                    }
                }
                Desired::Stopped => {
                    assert!(!alive && matches!(status.outcome, Some(Outcome::Stopped { .. })), "{status:?}");
                }
                Desired::Removed => assert!(self.engine.container.is_none() && status.progress.removed),
            },
        }
    }

    fn check_history(&self) {
        // One attempt for each run, and a later attempt for a later run.
        let mut runs = BTreeMap::new();
        for transition in &self.log {
            if let (Phase::Running, Some(started)) =
                (transition.status.progress.phase, transition.status.started_at)
            {
                let attempt = transition.status.progress.attempt;
                assert_eq!(*runs.entry(started).or_insert(attempt), attempt);
            }
        }
        assert!(runs.values().zip(runs.values().skip(1)).all(|(a, b)| a < b), "{runs:?}");
        // A request restarts at most once; nothing else stops what is wanted running.
        let requests = self.assignment.as_ref().map_or(u32::MAX, |a| a.restart_generation);
        let restarts = self.log.iter().filter(|t| {
            t.cause == Cause::RestartRequested
                && t.status.progress.phase == Phase::Running
                && t.status.health == Health::Starting
        });
        assert!(restarts.count() <= usize::try_from(requests).unwrap());
        if !self.ever_unwanted {
            // One that somebody starts in the middle of a restart is stopped once more.
            assert!(self.stops_while_wanted <= requests + self.outside_starts, "I10");
        }
        // Whatever of it arrives, twice and in any order, the last is what stands.
        let reports: Vec<_> = self.log.iter().enumerate().map(|(n, t)| report(n as u64 + 1, t)).collect();
        let standing = reports.iter().rev().chain(&reports).fold(Standing::FIRST, |s, r| s.merge(r));
        if let Some(last) = self.log.last() {
            assert_eq!(standing.status, last.status);
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        30 => Just(Happening::Agent),
        6 => Just(Happening::Flush),
        3 => Just(Happening::Crash),
        3 => (0u16..4000).prop_map(Happening::Pass),
        2 => (0u8..3).prop_map(Happening::Exit),
        1 => Just(Happening::KillOutside),
        1 => Just(Happening::StartOutside),
        1 => Just(Happening::RemoveOutside),
        1 => Just(Happening::EngineRestart),
        1 => Just(Happening::FailNext),
        1 => Just(Happening::Want(Desired::Running)),
        1 => Just(Happening::Want(Desired::Stopped)),
        2 => Just(Happening::AskRestart),
        3 => any::<bool>().prop_map(Happening::Probe),
        2 => any::<bool>().prop_map(Happening::Measure),
        1 => any::<bool>().prop_map(Happening::Silence),
    ]
}

fn leaving() -> impl Strategy<Value = Vec<Happening>> {
    prop::option::of(prop::collection::vec(happening(), 0..20)).prop_map(|after| {
        after.map_or_else(Vec::new, |after| {
            let mut all = vec![Happening::Want(Desired::Removed)];
            all.extend(after);
            all.push(Happening::Unassign);
            all
        })
    })
}

fn policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        3 => Just(RestartPolicy::Always),
        1 => Just(RestartPolicy::Never),
        1 => prop::option::of(0u32..3).prop_map(|max_retries| RestartPolicy::OnFailure { max_retries }),
    ]
}

fn declared() -> impl Strategy<Value = Declared> {
    let probe = prop_oneof![Just(None), Just(Some(ProbeRole::Liveness)), Just(Some(ProbeRole::Readiness))];
    let storage = prop_oneof![Just(StorageExceeded::Mark), Just(StorageExceeded::Stop)];
    let secret = prop_oneof![
        2 => Just(None),
        1 => Just(Some(SecretTarget::Env { name: "KEY".into() })),
        1 => Just(Some(SecretTarget::file("/run/key"))),
    ];
    (policy(), probe, storage, secret).prop_map(|(policy, probe, storage, secret)| Declared {
        policy,
        probe,
        storage,
        secret,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_wish_comes_true_and_the_story_stays_straight(
        declared in declared(),
        happenings in prop::collection::vec(happening(), 0..80),
        leaving in leaving(),
    ) {
        let mut world = World::new(&declared);
        for happening in happenings.into_iter().chain(leaving) {
            world.happen(happening);
        }
        world.settle();
        world.check_at_rest(declared.policy);
        world.check_history();
        let (log, container) = (world.log.len(), world.engine.container.clone());
        world.happen(Happening::Crash);
        world.settle();
        prop_assert_eq!(world.engine.container, container, "an agent that comes back touches nothing");
        prop_assert_eq!(world.log.len(), log, "and has nothing to say");
    }
}
