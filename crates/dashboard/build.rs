//! Lists the files of `web/dist`, so that the library has them inside.
//!
//! Never runs npm: where the UI was not built (`cargo xtask ui`), one page says so.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let dist = root.join("web/dist");
    // It is always there: git keeps it for the sake of one empty file.
    println!("cargo::rerun-if-changed={}", dist.display());
    let built = dist.join("index.html").is_file();
    let mut code = String::from("const FILES: &[File] = &[\n");
    if built {
        for path in files(&dist)? {
            line(&mut code, &dist, &path);
        }
    }
    code.push_str("];\n");
    let page = if built { dist.join("index.html") } else { root.join("placeholder.html") };
    let _ = writeln!(
        code,
        "const PAGE: &str = include_str!({:?});\nconst BUILT: bool = {built};",
        page.display().to_string()
    );
    fs::write(out.join("files.rs"), code)
}

/// What is to be served as it is: not the page, and not what is compressed beside its file.
fn files(dist: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![dist.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                directories.push(path);
            } else if !name.starts_with('.')
                && name != "index.html"
                && !matches!(extension, Some("br" | "gz"))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn line(code: &mut String, dist: &Path, path: &Path) {
    let name = path.strip_prefix(dist).unwrap_or(path).display().to_string();
    let text = path.display().to_string();
    let compressed = |extension: &str| {
        let beside = format!("{text}.{extension}");
        if Path::new(&beside).is_file() {
            format!("Some(include_bytes!({beside:?}))")
        } else {
            "None".to_owned()
        }
    };
    let (brotli, gzip) = (compressed("br"), compressed("gz"));
    let _ = writeln!(
        code,
        "    File {{ name: {name:?}, plain: include_bytes!({text:?}), brotli: {brotli}, gzip: {gzip} }},"
    );
}
