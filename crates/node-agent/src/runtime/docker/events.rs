//! What happens to our containers.

use std::collections::HashMap;

use bollard::{Docker, models::EventMessage, query_parameters::EventsOptionsBuilder};
use domain::Timestamp;
use futures_util::{Stream, StreamExt as _};

use super::{container::Owner, failure::Failure};
use crate::runtime::{ContainerEvent, EventKind, LABEL_INSTANCE, RuntimeError};

/// Follows the events of `owner`'s containers from `from` on. Ends, or fails, only
/// with the connection.
pub(super) fn follow(
    docker: Docker,
    owner: &Owner,
    from: Timestamp,
) -> impl Stream<Item = Result<ContainerEvent, RuntimeError>> + Send + use<> {
    let filters = HashMap::from([("type", vec!["container".to_owned()]), ("label", owner.filters())]);
    let since = format!("{}.{:09}", from.timestamp(), from.timestamp_subsec_nanos());
    let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
    // The stream owns what it needs of the client.
    docker.events(Some(options)).boxed().filter_map(|item| async move {
        match item {
            Ok(message) => event(message).map(Ok),
            Err(error) => Some(Err(Failure::of(&error).unexpected())),
        }
    })
}

/// What an event says; `None` for those that change nothing (such as `exec_start`).
fn event(message: EventMessage) -> Option<ContainerEvent> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let kind = match message.action?.as_str() {
        "start" => EventKind::Started,
        "die" => EventKind::Died,
        // Podman does not say which signal it was.
        "kill" => attributes
            .get("signal")
            .and_then(|text| signal(text))
            .map_or(EventKind::Other, |signal| EventKind::Killed { signal }),
        // The latter is Podman's word.
        "destroy" | "remove" => EventKind::Destroyed,
        "pause" => EventKind::Paused,
        "unpause" => EventKind::Unpaused,
        "create" | "stop" | "oom" | "rename" | "restart" | "update" => EventKind::Other,
        _ => return None,
    };
    let at = match (message.time_nano, message.time) {
        (Some(nanos), _) => Timestamp::from_timestamp_nanos(nanos),
        (None, Some(seconds)) => Timestamp::from_timestamp(seconds, 0)?,
        (None, None) => chrono::Utc::now(),
    };
    let instance_id = attributes.get(LABEL_INSTANCE)?.parse().ok()?;
    Some(ContainerEvent { instance_id, container_id: actor.id?, kind, at })
}

/// A signal as engines write it: its number, or its name.
fn signal(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 9] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("TERM", 15),
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    text.parse().ok().or_else(|| NAMES.into_iter().find(|(n, _)| *n == name).map(|(_, number)| number))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn read(action: &str, attributes: serde_json::Value) -> Option<ContainerEvent> {
        let message = serde_json::json!({
            "Type": "container", "Action": action, "time": 1_700_000_000, "timeNano": 1_700_000_000_000_000_001_i64,
            "Actor": { "ID": "0a1b", "Attributes": attributes },
        });
        event(serde_json::from_value(message).unwrap())
    }

    fn ours() -> serde_json::Value {
        serde_json::json!({ LABEL_INSTANCE: Uuid::nil().to_string(), "signal": "15" })
    }

    #[test]
    fn events_are_read_with_their_time_and_signal() {
        let kill = read("kill", ours()).unwrap();
        assert_eq!(kill.kind, EventKind::Killed { signal: 15 });
        assert_eq!(kill.at.timestamp_subsec_nanos(), 1);
        assert_eq!(kill.container_id, "0a1b");
        for (action, kind) in [
            ("start", EventKind::Started),
            ("die", EventKind::Died),
            ("destroy", EventKind::Destroyed),
            ("remove", EventKind::Destroyed),
            ("pause", EventKind::Paused),
        ] {
            assert_eq!(read(action, ours()).map(|e| e.kind), Some(kind));
        }
    }

    #[test]
    fn a_kill_by_an_unnamed_signal_is_still_something_that_happened() {
        let podmans = serde_json::json!({ LABEL_INSTANCE: Uuid::nil().to_string() });
        assert_eq!(read("kill", podmans).map(|e| e.kind), Some(EventKind::Other));
    }

    #[test]
    fn events_that_change_nothing_or_are_of_nobody_are_left_out() {
        assert_eq!(read("exec_start: sh -c true", ours()), None);
        assert_eq!(read("health_status: healthy", ours()), None);
        assert_eq!(read("die", serde_json::json!({})), None);
    }

    #[test]
    fn signals_are_numbers_or_names() {
        assert_eq!(signal("9"), Some(9));
        assert_eq!(signal("SIGKILL"), Some(9));
        assert_eq!(signal("TERM"), Some(15));
        assert_eq!(signal("nonsense"), None);
    }
}
