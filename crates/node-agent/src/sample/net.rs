//! What the kernel counts of a network namespace. Pure: text in, numbers out.

/// Bytes received and sent over all interfaces but loopback, from
/// `/proc/<pid>/net/dev`. `None` where the text is not that.
pub(super) fn totals(text: &str) -> Option<(u64, u64)> {
    totals_of(text, |name| name != "lo")
}

/// The same, over the interfaces that `counts` wants.
pub(super) fn totals_of(text: &str, mut counts: impl FnMut(&str) -> bool) -> Option<(u64, u64)> {
    let mut lines = text.lines();
    let header = lines.next().zip(lines.next())?;
    if !header.1.contains("bytes") {
        return None;
    }
    lines.try_fold((0u64, 0u64), |(rx, tx), line| {
        let (name, counters) = line.split_once(':')?;
        if !counts(name.trim()) {
            return Some((rx, tx));
        }
        let mut counters = counters.split_ascii_whitespace().map(str::parse::<u64>);
        // Eight columns of what came in, then eight of what went out.
        let (received, sent) = (counters.next()?.ok()?, counters.nth(7)?.ok()?);
        Some((rx.wrapping_add(received), tx.wrapping_add(sent)))
    })
}

/// The interfaces that a default route goes over, from `/proc/<pid>/net/route`.
pub(super) fn default_routes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (name, destination) = (columns.next()?, columns.next()?);
        // Gateway, flags, counters and metric lie in between.
        let mask = columns.nth(5)?;
        (destination == "00000000" && mask == "00000000").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

    #[test]
    fn interfaces_are_summed_without_loopback() {
        let text = format!(
            "{HEADER}    lo:     999      10    0    0    0     0          0         0      999      10    0    0    0     0       0          0\n  eth0:    1256      13    0    0    0     0          0         0      446       5    0    0    0     0       0          0\n  eth1:44  1 0 0 0 0 0 0 4 1 0 0 0 0 0 0\n"
        );
        assert_eq!(totals(&text), Some((1300, 450)));
    }

    #[test]
    fn a_namespace_with_loopback_only_has_no_traffic() {
        let text = format!("{HEADER}    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n");
        assert_eq!(totals(&text), Some((0, 0)));
    }

    #[test]
    fn the_way_out_is_where_the_default_route_goes() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n";
        assert_eq!(default_routes(text).collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn other_text_gives_nothing() {
        assert_eq!(totals(""), None);
        assert_eq!(totals("a\nb\nc"), None);
        assert_eq!(totals(&format!("{HEADER}  eth0: 1 2 3\n")), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n){0,200}") {
            let _ = (totals(&text), default_routes(&text).count());
            let _ = totals(&format!("{HEADER}{text}"));
        }
    }
}
