//! The way to the controller: name, port, TLS, HTTP/2, certificate, clock.

use std::{io, time::Duration};

use chrono::{TimeDelta, Utc};
use domain::Timestamp;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Scene, Verdict, failed};
use crate::{
    identity::Identity,
    link::{
        ConnectError,
        ask::{self, Line, Taken},
    },
};

/// How long a name may take to be looked up, and a port to be reached.
const LIMIT: Duration = Duration::from_secs(5);
/// How far two clocks may be apart before times that hosts report are worth
/// little. The controller's is read in whole seconds.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(5);

const NO_CONTROLLER: &str = "this host is not enrolled, so no controller is known; --controller names one";
const NO_IDENTITY: &str = "the node's identity cannot be read; see certificate";

pub(super) async fn dns(scene: &mut Scene) -> Verdict {
    let Some(controller) = &scene.controller else {
        let unreadable = scene.identity.is_err();
        return Verdict::Skipped(if unreadable { NO_IDENTITY } else { NO_CONTROLLER }.into());
    };
    let Some((host, port)) = ask::authority(controller) else {
        return failed(
            format!("{controller:?} is no controller's address"),
            "it must look like https://HOST:6701; the one in use is `controller` in node.json",
        );
    };
    let fix = format!(
        "mend this host's name resolution (/etc/resolv.conf, /etc/hosts), or use an address that resolves here; try: getent hosts {host}"
    );
    match timeout(LIMIT, lookup_host((host.as_str(), port))).await {
        Err(_) => failed(format!("looking up {host} took more than {} s", LIMIT.as_secs()), fix),
        Ok(Err(error)) => failed(format!("{host} has no address: {error}"), fix),
        Ok(Ok(addresses)) => {
            scene.addresses = addresses.collect();
            if scene.addresses.is_empty() {
                return failed(format!("{host} has no address"), fix);
            }
            let list: Vec<_> = scene.addresses.iter().map(|address| address.ip().to_string()).collect();
            Verdict::Ok(format!("{host} is {}", list.join(", ")))
        }
    }
}

pub(super) async fn tcp(scene: &mut Scene) -> Verdict {
    let mut last = None;
    for address in &scene.addresses {
        match timeout(LIMIT / 2, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Verdict::Ok(format!("{address} answers")),
            Ok(Err(error)) => last = Some((address, error)),
            Err(_) => last = Some((address, io::ErrorKind::TimedOut.into())),
        }
    }
    let Some((address, error)) = last else { return failed("there is no address to connect to", "see dns") };
    let fix = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: start the controller, or correct the port (agents use grpc_listen, 6701 by default)"
        }
        _ => {
            "nothing comes back: look at routes, and at firewalls on both hosts and between them, for this port"
        }
    };
    failed(format!("{address} cannot be reached: {error}"), fix)
}

pub(super) async fn tls(scene: &mut Scene) -> Verdict {
    let (Some(controller), Some(identity)) = (&scene.controller, scene.node()) else {
        let unreadable = scene.identity.is_err();
        let why = if unreadable { NO_IDENTITY } else { "not enrolled, so it is not known whom to trust" };
        return Verdict::Skipped(why.into());
    };
    let opened = Line::open(controller, identity).await;
    match opened {
        Ok(line) => {
            scene.line = Some(line);
            Verdict::Ok("the controller's certificate is of this fleet's CA".into())
        }
        // TLS succeeded: what comes after it is the next check's.
        Err(error) if ask::is_older_http(&error) => Verdict::Ok("somebody answers with TLS".into()),
        Err(error) => distrust(&error),
    }
}

fn distrust(error: &ConnectError) -> Verdict {
    let what = error.to_string();
    match error {
        ConnectError::NotTrusted { reason } if is_of_time(reason) => failed(
            what,
            "the controller's certificate is not good at this time: set this host's clock (timedatectl set-ntp true), or the controller's",
        ),
        ConnectError::NotTrusted { .. } => failed(
            what,
            "another server answers at that address, or a proxy that ends TLS: agents must reach the controller's own port. If the fleet was founded anew, enrol this host anew",
        ),
        ConnectError::Timeout | ConnectError::Unreachable { .. } => failed(
            what,
            "the port is open, but who answers does not speak TLS as the controller does: correct the port (grpc_listen, not http_listen), or look at what is between",
        ),
        ConnectError::Address | ConnectError::Tls(_) => {
            failed(what, "the files of this node cannot be used: enrol the host anew")
        }
    }
}

fn is_of_time(reason: &str) -> bool {
    ["expired", "not valid yet", "NotValidYet", "Expired"].iter().any(|word| reason.contains(word))
}

pub(super) async fn http2(scene: &mut Scene) -> Verdict {
    const FIX: &str = "a proxy on the way does not pass HTTP/2 through: let it pass TCP unread (it cannot end TLS, as both sides show certificates)";
    let Some(line) = &mut scene.line else {
        return failed("who answers chose an older HTTP", FIX);
    };
    match line.clock().await {
        Ok(theirs) => {
            scene.clocks = Some((theirs, Utc::now()));
            Verdict::Ok("the controller answers a call".into())
        }
        Err(reason) => failed(format!("a call failed: {reason}"), FIX),
    }
}

pub(super) async fn certificate(scene: &mut Scene) -> Verdict {
    let identity = match &scene.identity {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            return failed(
                format!("{} holds no identity", scene.data_dir.display()),
                "run automator67-agent enrol --controller https://HOST:6701 --token TOKEN (as root)",
            );
        }
        Err(error) => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            return failed(
                format!("failed to {error}{cause}"),
                "run this as the agent's user (root); if the files are damaged, move the data directory away and enrol anew",
            );
        }
    };
    let theirs = scene.clocks.and_then(|(theirs, _)| theirs);
    if let Some(trouble) = validity(identity, Utc::now(), theirs) {
        return trouble;
    }
    let ends = identity.certificate().not_after().format("%Y-%m-%d");
    let who = format!("node {} ({}), good until {ends}", identity.node_name(), identity.node_id());
    if scene.clocks.is_none() {
        return Verdict::Ok(format!("{who}; not shown to the controller"));
    }
    match ask::node_taken(scene.controller.as_deref().unwrap_or(identity.controller()), identity).await {
        Taken::Yes => Verdict::Ok(format!("{who}; the controller takes it")),
        Taken::Refused { message } => failed(
            format!("the controller refuses it: {message}"),
            "the node was removed or revoked: an operator has to look; to come back, enrol the host anew",
        ),
        Taken::Unknown { reason } => failed(
            format!("the controller could not say whether it takes it: {reason}"),
            "look at the controller's log and at its /readyz",
        ),
    }
}

/// What is wrong with the certificate's time, if anything is. By the controller's
/// clock, where that is known, it is told whose time is wrong.
fn validity(identity: &Identity, now: Timestamp, theirs: Option<Timestamp>) -> Option<Verdict> {
    let certificate = identity.certificate();
    if now < certificate.not_before() {
        return Some(failed(
            format!("it is good only from {} on", certificate.not_before()),
            "this host's clock is behind: timedatectl set-ntp true",
        ));
    }
    identity.is_expired(now).then(|| {
        if theirs.is_some_and(|theirs| !identity.is_expired(theirs)) {
            return failed(
                format!("by this host's clock it ended at {}, by the controller's it is good", certificate.not_after()),
                "this host's clock is ahead: timedatectl set-ntp true",
            );
        }
        failed(
            format!("it ended at {}", certificate.not_after()),
            "a running agent renews it by itself for 30 days beyond its end: start it. After that: move the data directory away and enrol anew",
        )
    })
}

pub(super) fn clock(scene: &mut Scene) -> Verdict {
    match scene.clocks {
        Some((Some(theirs), ours)) => skew(theirs, ours),
        _ => Verdict::Skipped("the controller's answer does not say its time".into()),
    }
}

/// Compares our clock with one that is read in whole seconds.
pub(super) fn skew(theirs: Timestamp, ours: Timestamp) -> Verdict {
    // On average half a second has gone by since the second began.
    let ahead = ours - theirs - TimeDelta::milliseconds(500);
    let seconds = match ahead.abs().num_seconds() {
        0..3600 => {
            format!("{}.{} s", ahead.abs().num_seconds(), ahead.abs().num_milliseconds() % 1000 / 100)
        }
        3600..172_800 => format!("{} h", ahead.abs().num_hours()),
        _ => format!("{} days", ahead.abs().num_days()),
    };
    if ahead.abs() <= SKEW_MAX {
        return Verdict::Ok(format!("{seconds} from the controller's, about"));
    }
    let side = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
    failed(
        format!("this host's clock is {seconds} {side} the controller's"),
        "keep both hosts' clocks by NTP: timedatectl set-ntp true",
    )
}
