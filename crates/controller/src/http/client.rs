//! Where a request really comes from.
//!
//! The peer of the connection is true; what headers say is true only as far as
//! proxies of ours wrote it. So `X-Forwarded-For` and `X-Forwarded-Proto` count only
//! when the peer is one of `trusted_proxies`, and are read from the right, where the
//! nearest proxy writes: the first address that is no proxy of ours is the client.
//! What stands to the left of it, anybody may have sent.

use std::net::{IpAddr, SocketAddr};

use actix_web::{HttpRequest, web::Data};
use ipnet::IpNet;

use crate::service::Services;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The client's address; `None` only where the connection has none.
pub(super) fn address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let services = request.app_data::<Data<Services>>();
    let trusted = services.map_or(&[][..], |services| &services.settings.edge.trusted_proxies);
    Some(client_address(trusted, peer, &header_lines(request, FORWARDED_FOR)))
}

/// Whether the client came by HTTPS: as a proxy of ours says, else as `public_url`
/// tells that clients come.
pub(super) fn is_https(request: &HttpRequest) -> bool {
    let Some(services) = request.app_data::<Data<Services>>() else { return false };
    let settings = &services.settings;
    let peer = request.peer_addr().map(|peer| peer.ip());
    let trusted = peer.is_some_and(|peer| is_trusted(&settings.edge.trusted_proxies, peer.to_canonical()));
    let lines = if trusted { header_lines(request, FORWARDED_PROTO) } else { Vec::new() };
    let said = lines.last().and_then(|line| line.rsplit(',').next()).map(str::trim);
    said.map_or(settings.public_url.starts_with("https://"), |proto| proto.eq_ignore_ascii_case("https"))
}

/// Lines in their order; one that is not ASCII reads as nothing that is good.
fn header_lines<'a>(request: &'a HttpRequest, name: &str) -> Vec<&'a str> {
    request.headers().get_all(name).map(|value| value.to_str().unwrap_or("?")).collect()
}

/// The address nearest to us that is no proxy of ours. Where all are, the farthest;
/// where one cannot be read, nothing behind it can be believed: the peer's.
fn client_address(trusted: &[IpNet], peer: IpAddr, lines: &[&str]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(trusted, peer) {
        return peer;
    }
    let mut farthest = peer;
    for text in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        match read_address(text) {
            None => return peer,
            Some(address) if is_trusted(trusted, address) => farthest = address,
            Some(address) => return address,
        }
    }
    farthest
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn read_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

/// Whether a URL's authority is this host itself, whatever the port.
pub(super) fn is_loopback_authority(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if port.is_empty() || port.starts_with(':') => host,
        Some(_) => return false,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn found(peer: &str, lines: &[&str]) -> String {
        let trusted = nets(&["10.0.0.0/8", "fd00::/8"]);
        client_address(&trusted, ip(peer), lines).to_string()
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        assert_eq!(found("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(found("10.1.1.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(found("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(client_address(&[], ip("127.0.0.1"), &["198.51.100.1"]), ip("127.0.0.1"));
    }

    #[test]
    fn the_walk_goes_from_the_right_over_our_proxies_and_over_header_lines() {
        assert_eq!(found("10.1.1.1", &["1.1.1.1, 198.51.100.1, 10.2.2.2"]), "198.51.100.1");
        assert_eq!(found("10.1.1.1", &["1.1.1.1", "198.51.100.1 ,10.3.3.3", "10.2.2.2"]), "198.51.100.1");
        assert_eq!(found("10.1.1.1", &["10.9.9.9,10.2.2.2"]), "10.9.9.9", "all are ours");
    }

    #[test]
    fn garbage_before_the_client_is_found_means_the_peer() {
        for line in
            ["garbage", "1.1.1.1,", "1.1.1.1, unknown", "1.1.1.1, _hidden, 10.2.2.2", "", "1.1.1.1;", "1.1.1"]
        {
            assert_eq!(found("10.1.1.1", &[line]), "10.1.1.1", "{line:?}");
        }
        assert_eq!(found("10.1.1.1", &["garbage, 198.51.100.1"]), "198.51.100.1", "behind the client");
    }

    #[test]
    fn mapped_ipv6_is_ipv4_and_ports_and_brackets_are_read() {
        assert_eq!(found("::ffff:10.1.1.1", &["::ffff:198.51.100.1"]), "198.51.100.1");
        assert_eq!(found("::ffff:203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(found("fd00::1", &["2001:db8::7"]), "2001:db8::7");
        for line in ["198.51.100.1:4711", "[::ffff:198.51.100.1]:80", "[::ffff:198.51.100.1]"] {
            assert_eq!(found("10.1.1.1", &[line]), "198.51.100.1", "{line}");
        }
    }

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for authority in ["localhost", "localhost:1", "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:80"] {
            assert!(is_loopback_authority(authority), "{authority}");
        }
        for authority in
            ["", "localhost.x", "127.0.0.1.x", "127.0.0.1@x", "[::1]x", "[::1", "10.0.0.1", "::1"]
        {
            assert!(!is_loopback_authority(authority), "{authority}");
        }
    }

    fn address_of_ours() -> impl Strategy<Value = IpAddr> {
        any::<[u8; 3]>().prop_map(|[b, c, d]| IpAddr::from([10, b, c, d]))
    }

    fn address_of_others() -> impl Strategy<Value = IpAddr> {
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
            .prop_map(|address| address.to_canonical())
            .prop_filter("not ours", |address| !is_trusted(&nets(&["10.0.0.0/8"]), *address))
    }

    proptest! {
        #[test]
        fn nothing_that_an_untrusted_peer_sends_changes_its_address(peer in address_of_others(), lines in prop::collection::vec(".{0,40}", 0..4)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(client_address(&nets(&["10.0.0.0/8"]), peer, &lines), peer);
        }

        #[test]
        fn nothing_that_a_client_sends_through_our_proxies_changes_its_address(
            spoofed in prop::collection::vec(".{0,20}", 0..4),
            client in address_of_others(),
            proxies in prop::collection::vec(address_of_ours(), 1..4),
        ) {
            // Each proxy appends its own peer; the last one is ours.
            let (peer, between) = proxies.split_last().unwrap();
            let appended: Vec<String> = [&client].into_iter().chain(between).map(ToString::to_string).collect();
            let mut lines: Vec<&str> = spoofed.iter().map(String::as_str).collect();
            let appended = appended.join(", ");
            lines.push(&appended);
            prop_assert_eq!(client_address(&nets(&["10.0.0.0/8"]), *peer, &lines), client);
            let one_line = lines.join(",");
            prop_assert_eq!(client_address(&nets(&["10.0.0.0/8"]), *peer, &[&one_line]), client);
        }
    }
}
