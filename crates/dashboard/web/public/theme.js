// Before anything is painted: the scheme that was chosen here, or the system's.
(function () {
  var kept = null;
  try {
    kept = localStorage.getItem("a67.scheme");
  } catch (_) {
    // Storage that is not allowed keeps nothing.
  }
  var dark = kept === "dark" || (kept !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
