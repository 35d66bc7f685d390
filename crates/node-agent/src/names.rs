//! How names are looked up by a program that has its C library linked in.

/// Keeps glibc to `/etc/hosts` and DNS, both of which are linked in.
///
/// Any other service of `/etc/nsswitch.conf` is a library of the host, made for the
/// host's own glibc: to load it into a program that brings another one ends, with
/// luck, in a failed lookup, and else in a crash. Call it before the first lookup.
/// A program that uses the host's glibc is left as it is.
pub(crate) fn keep_to_what_is_linked_in() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    linked_in::configure();
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "glibc's own switch for this has no safe binding")]
mod linked_in {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// `<nss.h>`: replaces what `/etc/nsswitch.conf` says of one database, for
        /// this process. Both are texts that end with a zero, and are copied.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    pub(super) fn configure() {
        // SAFETY: both point to constants that end with a zero. It is called while
        // the process has one thread.
        let refused = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
        debug_assert_eq!(refused, 0, "glibc knows these names");
    }
}
