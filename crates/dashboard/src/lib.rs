//! The web UI, embedded: the files that `cargo xtask ui` made of `web/`, compressed
//! ahead, and the one page that loads them.
//!
//! It knows nothing of HTTP; who serves it decides about headers. Where the UI was
//! not built, there are no files, and the page says how to build it.

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Stands in the page wherever the nonce of its content security policy belongs.
const NONCE: &str = "__CSP_NONCE__";

/// A file of the UI.
#[derive(Clone, Copy)]
pub struct File {
    name: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// How a file's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli, RFC 7932.
    Brotli,
    /// Gzip, RFC 1952.
    Gzip,
    /// Not at all.
    Plain,
}

impl File {
    /// Its path below the top, without a slash in front.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The media type by which browsers know what to do with it.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "woff2" => "font/woff2",
            "webmanifest" => "application/manifest+json",
            _ => "application/octet-stream",
        }
    }

    /// Whether its name has a hash of its content, so that it never changes.
    #[must_use]
    pub fn is_immutable(&self) -> bool {
        self.name.starts_with("assets/")
    }

    /// Its bytes in the smallest of the codings that `accepts` takes.
    #[must_use]
    pub fn bytes(&self, accepts: impl Fn(Coding) -> bool) -> (Coding, &'static [u8]) {
        match (self.brotli, self.gzip) {
            (Some(bytes), _) if accepts(Coding::Brotli) => (Coding::Brotli, bytes),
            (_, Some(bytes)) if accepts(Coding::Gzip) => (Coding::Gzip, bytes),
            _ => (Coding::Plain, self.plain),
        }
    }
}

/// The file under a path such as `assets/index-3fa9.js`, without a slash in front.
#[must_use]
pub fn file(path: &str) -> Option<File> {
    FILES.iter().find(|file| file.name == path).copied()
}

/// All files.
#[must_use]
pub const fn files() -> &'static [File] {
    FILES
}

/// The page, good for all paths of the UI, with a nonce for the styles that it makes.
#[must_use]
pub fn page(nonce: &str) -> String {
    PAGE.replace(NONCE, nonce)
}

/// Whether the UI was built. Where not, [`page`] says so.
#[must_use]
pub const fn is_built() -> bool {
    BUILT
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
mod tests {
    use super::*;

    const SAMPLE: File =
        File { name: "assets/a-1.js", plain: b"plain", brotli: Some(b"br"), gzip: Some(b"gzip") };

    #[test]
    fn a_file_comes_in_the_best_coding_that_is_taken() {
        assert_eq!(SAMPLE.bytes(|_| true), (Coding::Brotli, b"br".as_slice()));
        assert_eq!(SAMPLE.bytes(|coding| coding == Coding::Gzip), (Coding::Gzip, b"gzip".as_slice()));
        assert_eq!(SAMPLE.bytes(|_| false), (Coding::Plain, b"plain".as_slice()));
        let bare = File { brotli: None, gzip: None, ..SAMPLE };
        assert_eq!(bare.bytes(|_| true), (Coding::Plain, b"plain".as_slice()));
    }

    #[test]
    fn only_what_is_named_by_its_content_never_changes() {
        assert!(SAMPLE.is_immutable());
        assert!(!File { name: "favicon.svg", ..SAMPLE }.is_immutable());
        assert_eq!(SAMPLE.media_type(), "text/javascript; charset=utf-8");
        assert_eq!(File { name: "x", ..SAMPLE }.media_type(), "application/octet-stream");
    }

    #[test]
    fn there_is_a_page_with_or_without_a_build() {
        let page = page("n0nce");
        assert!(page.contains("Automator67") && !page.contains(NONCE));
        assert_eq!(is_built(), !files().is_empty());
        assert!(file("../Cargo.toml").is_none() && file("").is_none());
    }
}
