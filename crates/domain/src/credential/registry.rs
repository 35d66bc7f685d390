//! Which login is for which image.
//!
//! A login is chosen by the registry that the image's name begins with. Docker's own
//! registry is known by several names, and by none.

use crate::{id::CredentialId, name::Labels};

/// What Docker's own registry is called here.
pub const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_NAMES: &[&str] =
    &[DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"];
const HOST_MAX_BYTES: usize = 255;

/// The registry that an image comes from: what stands before the first `/`, if it has a
/// dot or a colon or is `localhost`; Docker's own otherwise.
#[must_use]
pub fn host_of_image(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => canonical(host),
        _ => DOCKER_HUB.to_owned(),
    }
}

/// The registry of a login, as people and other programs write it: with or without a
/// scheme, and with a path, which is left out (`https://index.docker.io/v1/`).
///
/// # Errors
/// With what is allowed.
pub fn host_of_server(server: &str) -> Result<String, &'static str> {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = rest.split_once('/').map_or(rest, |(host, _)| host);
    let fine = (1..=HOST_MAX_BYTES).contains(&host.len())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'));
    if !fine {
        return Err(
            "must be a registry's host, with or without a port, such as ghcr.io or registry.example.org:5000",
        );
    }
    Ok(canonical(host))
}

fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let bare = host.strip_suffix(":443").unwrap_or(&host);
    if DOCKER_HUB_NAMES.contains(&bare) { DOCKER_HUB.to_owned() } else { host }
}

/// A login of a project, as it is chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Which.
    pub id: CredentialId,
    /// Whose images it is for.
    pub host: String,
    /// Labels that a node must carry to be given it.
    pub node_labels: Labels,
}

/// Whether a node carries all of these labels.
#[must_use]
pub fn carries(node: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| node.get(key) == Some(value))
}

/// The login for an image on a node: of those that fit, the one that is meant for the
/// fewest nodes, by its labels; among equals the oldest.
#[must_use]
pub fn choose(logins: &[Login], host: &str, node: &Labels) -> Option<CredentialId> {
    let fitting = logins.iter().filter(|login| login.host == host && carries(node, &login.node_labels));
    fitting.max_by_key(|login| (login.node_labels.len(), std::cmp::Reverse(login.id))).map(|login| login.id)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_registry_is_what_an_images_name_begins_with() {
        for (image, host) in [
            ("nginx", "docker.io"),
            ("nginx:1.27", "docker.io"),
            ("library/nginx", "docker.io"),
            ("team/app@sha256:0", "docker.io"),
            ("docker.io/library/nginx", "docker.io"),
            ("index.docker.io/team/app", "docker.io"),
            ("registry-1.docker.io/team/app:1", "docker.io"),
            ("localhost/app", "localhost"),
            ("localhost:5000/app", "localhost:5000"),
            ("GHCR.io/team/app:1", "ghcr.io"),
            ("registry.example.org:5000/a/b", "registry.example.org:5000"),
        ] {
            assert_eq!(host_of_image(image), host, "{image}");
        }
    }

    #[test]
    fn a_server_is_read_however_it_is_written() {
        for (server, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://registry-1.docker.io", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("http://Registry.Example.org:5000/v2", "registry.example.org:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(host_of_server(server).as_deref(), Ok(host), "{server}");
        }
        for bad in ["", "https://", "/v1", "user@host", "a b", "ghcr.io?x", "ä.example"] {
            host_of_server(bad).unwrap_err();
        }
    }

    #[test]
    fn the_login_for_the_fewest_nodes_is_chosen_and_none_that_does_not_fit() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let login = |id: u128, host: &str, pairs: &[(&str, &str)]| Login {
            id: CredentialId::from_uuid(Uuid::from_u128(id)),
            host: host.to_owned(),
            node_labels: labels(pairs),
        };
        let logins = [
            login(1, "ghcr.io", &[]),
            login(2, "ghcr.io", &[("zone", "east")]),
            login(3, "docker.io", &[]),
            login(4, "ghcr.io", &[("zone", "west")]),
        ];
        let chosen = |host: &str, node: &[(&str, &str)]| {
            choose(&logins, host, &labels(node)).map(|id| id.uuid().as_u128())
        };
        assert_eq!(chosen("ghcr.io", &[]), Some(1));
        assert_eq!(chosen("ghcr.io", &[("zone", "east")]), Some(2));
        assert_eq!(chosen("docker.io", &[("zone", "east")]), Some(3));
        assert_eq!(chosen("quay.io", &[]), None);
    }
}
