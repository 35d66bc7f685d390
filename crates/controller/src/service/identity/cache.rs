//! What was found out about callers, for the next requests of a moment.
//!
//! Who shows a token is asked of the database, and a busy client shows the same one
//! hundreds of times a second. So the answer is kept, under the SHA-256 of the token's
//! text: a hit costs one hash, no signature and no query. It must never outlive what it
//! says, so an entry is used only
//!
//! - **while nothing was revoked since.** The store counts what ends access
//!   ([`store::wake::Revocations`]): its own transactions before their call returns, so
//!   that the controller that carried a sign-out out never honours the token again, and
//!   those of others when the listener hears of them. An entry carries the count from
//!   *before* its query, and is worth nothing under another one. So an answer that was
//!   read before a revocation committed, and arrives after it, is never used: the count
//!   was read earlier still. Nothing needs to be checked or locked at insertion.
//! - **while wake-ups are heard.** A controller that does not listen learns nothing of
//!   the others, so it asks every time. When it begins to listen again, all that it knew
//!   is forgotten, for it cannot know what it missed.
//! - **for two seconds.** A connection that broke without a word is not heard to break;
//!   this bounds what that can cost.
//! - **until the token or its session ends by itself.**

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use domain::Timestamp;
use moka::sync::Cache;
use store::wake::Revocations;

use crate::auth::caller::Caller;

/// Longest use of an entry.
const AGE_MAX: Duration = Duration::from_secs(2);
/// Most entries: tokens that are in use within two seconds. An entry has some 500 bytes.
const ENTRIES_MAX: u64 = 20_000;

/// SHA-256 of a token's text.
type Key = [u8; 32];

#[derive(Clone)]
struct Entry {
    caller: Caller,
    ticket: Ticket,
    good_until: Option<Timestamp>,
}

/// Taken before a question is asked, and given back with the answer.
#[derive(Clone, Copy)]
pub struct Ticket {
    revocations: u64,
    taken_at: Instant,
}

/// Callers by the tokens that they show.
pub struct Callers {
    entries: Cache<Key, Entry>,
    revocations: Revocations,
    listening: AtomicBool,
}

impl Callers {
    /// Knows nobody, and remembers nobody until [`Callers::heard`].
    #[must_use]
    pub fn new(revocations: Revocations) -> Self {
        let entries = Cache::builder().max_capacity(ENTRIES_MAX).time_to_live(AGE_MAX).build();
        Self { entries, revocations, listening: AtomicBool::new(false) }
    }

    /// To be taken before the database is asked.
    #[must_use]
    pub fn ticket(&self, now: Instant) -> Ticket {
        Ticket { revocations: self.revocations.count(), taken_at: now }
    }

    /// Who shows this token, if that is known for certain.
    #[must_use]
    pub fn get(&self, key: &Key, now: (Instant, Timestamp)) -> Option<Caller> {
        if !self.listening.load(Ordering::SeqCst) {
            return None;
        }
        let entry = self.entries.get(key)?;
        let good = entry.ticket.revocations == self.revocations.count()
            && now.0.saturating_duration_since(entry.ticket.taken_at) < AGE_MAX
            && entry.good_until.is_none_or(|until| now.1 < until);
        good.then_some(entry.caller)
    }

    /// Remembers an answer; `good_until` is when the token or its session ends by itself.
    pub fn insert(&self, key: Key, caller: &Caller, ticket: Ticket, good_until: Option<Timestamp>) {
        if self.listening.load(Ordering::SeqCst) {
            self.entries.insert(key, Entry { caller: caller.clone(), ticket, good_until });
        }
    }

    /// Forgets everybody. Answers that are on their way are not remembered.
    pub fn forget(&self) {
        // What is there now is of no use any more, and goes with its age.
        self.revocations.add();
    }

    /// Wake-ups are heard from now on.
    pub fn heard(&self) {
        self.forget();
        self.listening.store(true, Ordering::SeqCst);
    }

    /// Whether wake-ups are heard.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::SeqCst)
    }

    /// Wake-ups are no longer heard.
    pub fn deaf(&self) {
        self.listening.store(false, Ordering::SeqCst);
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::id::{SessionId, UserId};
    use store::audit::ActorKind;
    use uuid::Uuid;

    use super::*;
    use crate::auth::caller::Credential;

    const KEY: Key = [7; 32];

    fn caller() -> Caller {
        Caller {
            account_id: UserId::from_uuid(Uuid::from_u128(1)),
            name: "anna".to_owned(),
            kind: ActorKind::User,
            role: None,
            memberships: BTreeMap::new(),
            credential: Credential::Session(SessionId::from_uuid(Uuid::from_u128(2))),
        }
    }

    fn utc() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    /// Callers that hear, with one entry from `at`.
    fn filled(at: Instant, good_until: Option<Timestamp>) -> Callers {
        let callers = Callers::new(Revocations::default());
        callers.heard();
        callers.insert(KEY, &caller(), callers.ticket(at), good_until);
        callers
    }

    #[test]
    fn an_answer_is_remembered_for_two_seconds() {
        let at = Instant::now();
        let callers = filled(at, None);
        assert_eq!(callers.get(&KEY, (at, utc())), Some(caller()));
        assert_eq!(callers.get(&KEY, (at + Duration::from_millis(1_999), utc())), Some(caller()));
        assert_eq!(callers.get(&KEY, (at + AGE_MAX, utc())), None);
        assert_eq!(callers.get(&[8; 32], (at, utc())), None);
    }

    #[test]
    fn an_answer_is_not_used_once_its_session_has_ended_by_itself() {
        let at = Instant::now();
        let callers = filled(at, Some(utc() + Duration::from_millis(500)));
        assert!(callers.get(&KEY, (at, utc())).is_some());
        assert_eq!(callers.get(&KEY, (at, utc() + Duration::from_millis(500))), None);
    }

    #[test]
    fn an_answer_from_before_a_revocation_is_not_used_even_if_it_comes_after() {
        let at = Instant::now();
        let callers = filled(at, None);
        let asked = callers.ticket(at);
        callers.forget();
        assert_eq!(callers.get(&KEY, (at, utc())), None);
        callers.insert(KEY, &caller(), asked, None);
        assert_eq!(callers.get(&KEY, (at, utc())), None);
        callers.insert(KEY, &caller(), callers.ticket(at), None);
        assert_eq!(callers.get(&KEY, (at, utc())), Some(caller()));
    }

    #[test]
    fn what_the_store_itself_revoked_is_forgotten_without_being_told() {
        let (at, revocations) = (Instant::now(), Revocations::default());
        let callers = Callers::new(revocations.clone());
        callers.heard();
        callers.insert(KEY, &caller(), callers.ticket(at), None);
        assert!(callers.get(&KEY, (at, utc())).is_some());
        revocations.add();
        assert_eq!(callers.get(&KEY, (at, utc())), None);
    }

    #[test]
    fn nothing_is_remembered_or_used_while_nothing_is_heard() {
        let at = Instant::now();
        let callers = Callers::new(Revocations::default());
        callers.insert(KEY, &caller(), callers.ticket(at), None);
        assert_eq!(callers.get(&KEY, (at, utc())), None);
        // What was asked while deaf is not believed later either.
        let asked = callers.ticket(at);
        callers.heard();
        callers.insert(KEY, &caller(), asked, None);
        assert_eq!(callers.get(&KEY, (at, utc())), None);
        callers.insert(KEY, &caller(), callers.ticket(at), None);
        callers.deaf();
        assert_eq!(callers.get(&KEY, (at, utc())), None);
        callers.heard();
        assert_eq!(callers.get(&KEY, (at, utc())), None);
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let at = Instant::now();
        let callers = filled(at, None);
        for n in 0..ENTRIES_MAX * 2 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            callers.insert(key, &caller(), callers.ticket(at), None);
        }
        callers.entries.run_pending_tasks();
        assert!(callers.entries.entry_count() <= ENTRIES_MAX);
    }
}
