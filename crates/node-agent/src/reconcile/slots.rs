//! How much may go on at once.

use std::collections::VecDeque;

use domain::{id::InstanceId, plan::Step};

/// Kinds of actions that do not take each other's places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Look,
    Work,
    Pull,
    /// Waits for the controller, mostly.
    Prepare,
    Stop,
    Probe,
}

impl Class {
    pub(super) const ALL: [Self; 6] =
        [Self::Look, Self::Work, Self::Pull, Self::Prepare, Self::Stop, Self::Probe];

    pub(super) const fn of(step: Step) -> Self {
        match step {
            Step::Inspect | Step::Nothing | Step::WaitUntil(_) | Step::Forget => Self::Look,
            Step::CheckImage | Step::Create | Step::Start | Step::Remove => Self::Work,
            Step::Pull => Self::Pull,
            Step::Prepare => Self::Prepare,
            Step::Stop { .. } => Self::Stop,
        }
    }
}

/// The places of one class, and who waits for one.
#[derive(Debug)]
struct Places {
    free: usize,
    waiting: VecDeque<InstanceId>,
}

/// All places.
#[derive(Debug)]
pub(super) struct Slots {
    look: Places,
    work: Places,
    pull: Places,
    prepare: Places,
    stop: Places,
    probe: Places,
}

impl Slots {
    pub(super) fn new(max_parallel: usize) -> Self {
        let most = max_parallel.max(1);
        let places = |free| Places { free, waiting: VecDeque::new() };
        Self {
            look: places(most),
            work: places(most),
            pull: places((most / 2).max(1)),
            prepare: places(most),
            stop: places(most.saturating_mul(4)),
            probe: places(most.saturating_mul(4)),
        }
    }

    /// Takes a place if there is one; else the instance is called by
    /// [`Slots::next`] once there is.
    pub(super) fn take(&mut self, class: Class, instance: InstanceId) -> bool {
        let places = self.places(class);
        if places.free > 0 {
            places.free -= 1;
            return true;
        }
        if !places.waiting.contains(&instance) {
            places.waiting.push_back(instance);
        }
        false
    }

    pub(super) fn give_back(&mut self, class: Class) {
        self.places(class).free += 1;
    }

    /// Who may try again, because there is a place.
    pub(super) fn next(&mut self) -> Option<InstanceId> {
        Class::ALL.into_iter().find_map(|class| {
            let places = self.places(class);
            if places.free > 0 { places.waiting.pop_front() } else { None }
        })
    }

    const fn places(&mut self, class: Class) -> &mut Places {
        match class {
            Class::Look => &mut self.look,
            Class::Work => &mut self.work,
            Class::Pull => &mut self.pull,
            Class::Prepare => &mut self.prepare,
            Class::Stop => &mut self.stop,
            Class::Probe => &mut self.probe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(n: u128) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn who_finds_no_place_is_called_in_turn_and_once() {
        let mut slots = Slots::new(2);
        assert!(slots.take(Class::Pull, id(1)));
        for n in [2, 3, 2] {
            assert!(!slots.take(Class::Pull, id(n)), "half of two is one");
        }
        assert_eq!(slots.next(), None);
        slots.give_back(Class::Pull);
        assert_eq!((slots.next(), slots.next(), slots.next()), (Some(id(2)), Some(id(3)), None));
    }

    #[test]
    fn pulls_and_stops_never_keep_work_from_its_places() {
        let mut slots = Slots::new(1);
        assert!(slots.take(Class::Pull, id(1)));
        assert!((0..4).all(|n| slots.take(Class::Stop, id(n))));
        assert!(slots.take(Class::Work, id(9)) && slots.take(Class::Look, id(9)));
    }

    #[test]
    fn probes_take_nobodys_places_and_nobody_takes_theirs() {
        let mut slots = Slots::new(1);
        assert!(slots.take(Class::Look, id(1)) && slots.take(Class::Work, id(1)));
        assert!((0..4).all(|n| slots.take(Class::Probe, id(n))), "four times as many as actions");
        assert!(!slots.take(Class::Probe, id(4)));
        assert!(slots.take(Class::Stop, id(4)) && slots.take(Class::Pull, id(5)));
        slots.give_back(Class::Probe);
        assert_eq!((slots.next(), slots.next()), (Some(id(4)), None));
    }
}
