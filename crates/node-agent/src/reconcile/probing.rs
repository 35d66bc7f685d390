//! The probes of one run, as they are carried out: one at a time for an instance, so
//! that what it costs is bounded, and none that ends in time is started twice.

use std::sync::Arc;

use domain::{
    Timestamp,
    assignment::Assignment,
    dossier::DossierProbe,
    id::InstanceId,
    instance::Health,
    plan::Container,
    probe::{ProbeKind, ProbeSpec, Probes},
};
use futures_util::future::{AbortHandle, Abortable, BoxFuture, FutureExt as _};

use crate::{
    probe::{Probed, Target, probe},
    runtime::{ImageInfo, Runtime},
};

/// What is probed: a container's run, by when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    container_id: String,
    started_at: Option<Timestamp>,
}

impl Run {
    fn of(container: &Container) -> Self {
        Self { container_id: container.container_id.clone(), started_at: container.started_at }
    }
}

/// A probe that ended, or was given up.
pub(super) struct ProbeDone {
    pub instance_id: InstanceId,
    run: Run,
    index: usize,
    probed: Option<Probed>,
}

/// The probes of one run of a container.
#[derive(Debug)]
pub(super) struct Probing {
    run: Run,
    /// Those that can be carried out; never an image's own check, but what it comes to.
    specs: Vec<ProbeSpec>,
    /// Where each of them is in the declaration.
    places: Vec<u32>,
    probes: Probes,
    /// Commands that did not end in time, by probe.
    left_running: Vec<Option<String>>,
    under_way: Option<AbortHandle>,
    /// Whether what the one under way finds says nothing: the container was frozen
    /// meanwhile.
    void: bool,
    /// Whether none is begun any more.
    over: bool,
}

impl Probing {
    /// Of a run that is first seen, or goes on under a new agent, whose predecessor
    /// called it `known`. `None` while it takes to know the image and `image` is not
    /// known.
    pub(super) fn of(
        assignment: &Assignment,
        container: &Container,
        image: Option<&ImageInfo>,
        known: Option<Health>,
        now: Timestamp,
    ) -> Option<Self> {
        let (mut specs, mut places) = (Vec::new(), Vec::new());
        for (place, spec) in (0_u32..).zip(&assignment.spec.probes) {
            let kind = if spec.kind == ProbeKind::Image {
                let image = image?;
                spec.kind.resolved(&image.health_test, &image.shell)
            } else {
                Some(spec.kind.clone())
            };
            if let Some(kind) = kind {
                specs.push(ProbeSpec { kind, ..spec.clone() });
                places.push(place);
            }
        }
        let started = container.started_at.unwrap_or(now);
        let probes = match known {
            Some(health) => Probes::resumed(&specs, started, health, now),
            None => Probes::new(&specs, started, now),
        };
        let left_running = vec![None; specs.len()];
        let run = Run::of(container);
        Some(Self { run, specs, places, probes, left_running, under_way: None, void: false, over: false })
    }

    pub(super) fn is_of(&self, container: &Container) -> bool {
        self.run == Run::of(container)
    }

    pub(super) const fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Which one comes next, and when. `None` while one is under way, and where there
    /// is none to come.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<(usize, Timestamp)> {
        if self.over || self.under_way.is_some() { None } else { self.probes.next_due(now) }
    }

    /// Begins one. It goes on as long as the future is polled.
    pub(super) fn begin(
        &mut self,
        instance_id: InstanceId,
        index: usize,
        container: &Container,
        runtime: &Arc<dyn Runtime>,
        clock: fn() -> Timestamp,
    ) -> Option<BoxFuture<'static, ProbeDone>> {
        let spec = self.specs.get(index)?.clone();
        let left_running = self.left_running.get(index).cloned().flatten();
        let target = Target {
            container_id: container.container_id.clone(),
            address: container.addresses.first().copied(),
        };
        let (abort, registration) = AbortHandle::new_pair();
        (self.under_way, self.void) = (Some(abort), false);
        let (run, runtime) = (self.run.clone(), runtime.clone());
        let work = async move { probe(runtime.as_ref(), &target, &spec, left_running, clock).await };
        let work = Abortable::new(work, registration);
        Some(async move { ProbeDone { instance_id, run, index, probed: work.await.ok() } }.boxed())
    }

    /// Takes over what a probe found. Where nothing may be concluded now (`counts`), it
    /// is as if it had not been asked.
    pub(super) fn ended(&mut self, done: ProbeDone, counts: bool, now: Timestamp) {
        if done.run != self.run {
            return;
        }
        self.under_way = None;
        let counts = counts && !std::mem::take(&mut self.void) && !self.over;
        let Some(Probed { result, left_running }) = done.probed else { return };
        if let Some(place) = self.left_running.get_mut(done.index) {
            *place = left_running;
        }
        if counts {
            self.probes = std::mem::take(&mut self.probes).observe(done.index, now, result);
        }
    }

    /// The container is frozen: what is under way says nothing about it.
    pub(super) const fn freeze(&mut self) {
        self.void = true;
    }

    /// The run is over or about to be: nothing is begun any more, and what is under
    /// way is given up. The results stay.
    pub(super) fn halt(&mut self) {
        self.over = true;
        if let Some(abort) = self.under_way.take() {
            abort.abort();
        }
    }

    /// The latest results of all of them, the oldest first.
    pub(super) fn results(&self) -> Vec<DossierProbe> {
        let of_each = self.probes.states().iter().zip(&self.places);
        let mut all: Vec<_> = of_each
            .flat_map(|(state, &probe)| {
                state.results().cloned().map(move |result| DossierProbe { probe, result })
            })
            .collect();
        all.sort_by_key(|probe| probe.result.at);
        all
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.halt();
    }
}
