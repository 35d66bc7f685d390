//! Which check comes next, and which ones say nothing because of a failed one.
//! Pure: the checks themselves are elsewhere.

/// What is looked at. The order of the variants is the order of the checks: each
/// comes after what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The controller's name has an address.
    Dns,
    /// Its port can be reached.
    Tcp,
    /// Who answers there is the controller.
    Tls,
    /// Nothing on the way breaks HTTP/2.
    Http2,
    /// This node's own certificate is good, and taken.
    Certificate,
    /// The two clocks agree.
    Clock,
    /// The engine answers in a version that will do.
    Engine,
    /// How the engine keeps containers' files.
    Storage,
    /// Containers can be limited and measured.
    Cgroups,
    /// There is room, and the agent may write.
    Disk,
    /// Files with secrets can be put into memory.
    Secrets,
}

impl Check {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Http2,
        Self::Certificate,
        Self::Clock,
        Self::Engine,
        Self::Storage,
        Self::Cgroups,
        Self::Disk,
        Self::Secrets,
    ];

    /// What it is called in the output. Stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Certificate => "certificate",
            Self::Clock => "clock",
            Self::Engine => "engine",
            Self::Storage => "storage",
            Self::Cgroups => "cgroups",
            Self::Disk => "disk",
            Self::Secrets => "secrets",
        }
    }

    /// The check without whose success this one could say nothing.
    #[must_use]
    pub const fn needs(self) -> Option<Self> {
        match self {
            Self::Tcp => Some(Self::Dns),
            Self::Tls => Some(Self::Tcp),
            Self::Http2 => Some(Self::Tls),
            Self::Clock => Some(Self::Http2),
            Self::Storage => Some(Self::Engine),
            // The certificate is on disk: what can be seen of it without the
            // controller is worth saying. The rest is of this host alone.
            Self::Dns | Self::Certificate | Self::Engine | Self::Cgroups | Self::Disk | Self::Secrets => None,
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be; with what was seen.
    Ok(String),
    /// It is not.
    Failed {
        /// What was seen.
        what: String,
        /// What to do about it.
        fix: String,
    },
    /// Nothing was looked at; with the reason.
    Skipped(String),
}

/// A check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub check: Check,
    /// What.
    pub verdict: Verdict,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make this check.
    Make(Check),
    /// Do not make it; what it needs is not there.
    Skip(Finding),
}

/// The next step after what was found so far; `None` when all is done.
#[must_use]
pub fn next(found: &[Finding]) -> Option<Step> {
    let check = *Check::ALL.get(found.len())?;
    let lacking = check.needs().and_then(|needed| {
        let finding = found.iter().find(|finding| finding.check == needed)?;
        (!matches!(finding.verdict, Verdict::Ok(_))).then_some(needed)
    });
    Some(match lacking {
        Some(needed) => {
            Step::Skip(Finding { check, verdict: Verdict::Skipped(format!("needs {}", needed.name())) })
        }
        None => Step::Make(check),
    })
}

/// The first failure: it is the one to mend, as later ones may follow from it.
#[must_use]
pub fn first_failure(found: &[Finding]) -> Option<(Check, &str, &str)> {
    found.iter().find_map(|finding| match &finding.verdict {
        Verdict::Failed { what, fix } => Some((finding.check, what.as_str(), fix.as_str())),
        Verdict::Ok(_) | Verdict::Skipped(_) => None,
    })
}

/// A finding in one line.
#[must_use]
pub fn line(finding: &Finding) -> String {
    let (word, detail) = match &finding.verdict {
        Verdict::Ok(what) => ("ok", what),
        Verdict::Failed { what, .. } => ("FAILED", what),
        Verdict::Skipped(why) => ("skipped", why),
    };
    format!("{word} {}: {}", finding.check.name(), detail.replace(['\n', '\r'], " "))
}

/// The last words: what to mend first, and how.
#[must_use]
pub fn summary(found: &[Finding]) -> String {
    match first_failure(found) {
        Some((check, what, fix)) => format!("first failure: {}: {what}\nfix: {fix}", check.name()),
        None => "nothing is wrong".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through all checks, of which those named fail.
    fn walk(failing: &[Check]) -> Vec<Finding> {
        let mut found = Vec::new();
        while let Some(step) = next(&found) {
            found.push(match step {
                Step::Skip(finding) => finding,
                Step::Make(check) if failing.contains(&check) => {
                    let (what, fix) =
                        (format!("{} is broken", check.name()), format!("mend {}", check.name()));
                    Finding { check, verdict: Verdict::Failed { what, fix } }
                }
                Step::Make(check) => Finding { check, verdict: Verdict::Ok("fine".into()) },
            });
        }
        found
    }

    fn skipped(found: &[Finding]) -> Vec<Check> {
        let skipped = |finding: &&Finding| matches!(finding.verdict, Verdict::Skipped(_));
        found.iter().filter(skipped).map(|finding| finding.check).collect()
    }

    #[test]
    fn each_check_is_made_once_in_order_and_after_what_it_needs() {
        let found = walk(&[]);
        assert_eq!(found.iter().map(|finding| finding.check).collect::<Vec<_>>(), Check::ALL);
        assert!(Check::ALL.is_sorted());
        for check in Check::ALL {
            assert!(check.needs().is_none_or(|needed| needed < check), "{check:?}");
        }
        assert_eq!(summary(&found), "nothing is wrong");
    }

    #[test]
    fn what_depends_on_a_failed_check_is_skipped_and_the_rest_is_made() {
        use Check::{Clock, Dns, Engine, Http2, Storage, Tcp, Tls};
        for (failing, expected) in [
            (Dns, vec![Tcp, Tls, Http2, Clock]),
            (Tcp, vec![Tls, Http2, Clock]),
            (Tls, vec![Http2, Clock]),
            (Http2, vec![Clock]),
            (Check::Certificate, vec![]),
            (Clock, vec![]),
            (Engine, vec![Storage]),
            (Storage, vec![]),
            (Check::Cgroups, vec![]),
            (Check::Disk, vec![]),
        ] {
            let found = walk(&[failing]);
            assert_eq!(skipped(&found), expected, "{failing:?}");
            assert_eq!(first_failure(&found).map(|(check, ..)| check), Some(failing));
        }
    }

    #[test]
    fn the_first_of_several_failures_is_named_with_its_fix() {
        let found = walk(&[Check::Disk, Check::Engine]);
        assert_eq!(summary(&found), "first failure: engine: engine is broken\nfix: mend engine");
    }

    #[test]
    fn what_was_skipped_is_no_failure_and_skips_what_needs_it() {
        let dns = Finding { check: Check::Dns, verdict: Verdict::Skipped("not enrolled".into()) };
        let Some(Step::Skip(tcp)) = next(std::slice::from_ref(&dns)) else { panic!("made") };
        assert_eq!(line(&tcp), "skipped tcp: needs dns");
        assert_eq!(first_failure(&[dns, tcp]), None);
    }

    #[test]
    fn a_finding_is_one_line() {
        let failed = Verdict::Failed { what: "a\nb".into(), fix: "c".into() };
        assert_eq!(line(&Finding { check: Check::Tls, verdict: failed }), "FAILED tls: a b");
        assert_eq!(line(&Finding { check: Check::Dns, verdict: Verdict::Ok("x".into()) }), "ok dns: x");
    }
}
