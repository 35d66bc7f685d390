//! A registry that wants a login, with an image that somebody put there.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::ensure;

use crate::{
    process::{Process, clean_command},
    testbed::{IMAGE, Testbed},
    wait::{seconds, until},
};

/// Name and password that it takes.
pub const LOGIN: (&str, &str) = ("u", "a???>>>~~~b");
/// The same in its file, by crypt(3).
const LOGIN_LINE: &str = "u:$2y$05$abcdefghijklmnopqrstuuodgD49B7ru/wprLP3pGbWMzTxlikIlm";
/// Ports on the bridge: one to put images in, and one that wants the login.
const PORTS: (u16, u16) = (5101, 5102);

/// A registry beside the testbed's own; ends with this value.
pub struct ClosedRegistry {
    /// `host:port`.
    pub server: String,
    /// [`IMAGE`] by its name there.
    pub image: String,
    _doors: [Process; 2],
}

impl ClosedRegistry {
    /// Starts it, with [`IMAGE`] in it and on no host under its name there.
    ///
    /// # Panics
    /// When it cannot be started, or takes no image.
    pub async fn start(bed: &Testbed, dir: &Path) -> Self {
        let dir = dir.join("closed-registry");
        fs::create_dir_all(&dir).expect("a directory can be made");
        let passwords = dir.join("passwords");
        fs::write(&passwords, format!("{LOGIN_LINE}\n")).expect("a file can be written");
        let auth = format!("auth:\n  htpasswd:\n    realm: a67\n    path: {}\n", passwords.display());
        let open = format!("{}:{}", bed.gateway, PORTS.0);
        let server = format!("{}:{}", bed.gateway, PORTS.1);
        let doors = [serve(&dir, &open, ""), serve(&dir, &server, &auth)];
        let host = bed.host(1);
        let pushed = format!("{open}/{IMAGE}");
        until("the registry takes an image", seconds(60), async || {
            host.docker(&["tag", IMAGE, &pushed])?;
            host.docker(&["push", "-q", &pushed])?;
            ensure!(answers(&server), "it does not answer at its other door");
            Ok(())
        })
        .await;
        host.docker(&["rmi", &pushed]).expect("the name can be removed");
        Self { image: format!("{server}/{IMAGE}"), server, _doors: doors }
    }
}

fn serve(dir: &Path, address: &str, auth: &str) -> Process {
    let store = dir.join("store");
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
        store.display()
    );
    let path = dir.join(format!("{address}.yml"));
    fs::write(&path, config).expect("a file can be written");
    let path = path.display().to_string();
    let command: Command = clean_command(Path::new("docker-registry"), &["serve", &path]);
    Process::start("registry", &command, &dir.join("log"))
}

fn answers(address: &str) -> bool {
    let Ok(address) = address.parse() else { return false };
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
