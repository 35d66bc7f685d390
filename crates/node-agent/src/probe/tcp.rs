//! Whether a port takes connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{net::TcpStream, time::timeout};

use super::{Answer, Fault, seconds};

/// Opens a connection, and closes it.
pub(super) async fn ask(address: IpAddr, port: u16, limit: Duration) -> Answer {
    connect(SocketAddr::new(address, port), limit).await?;
    Ok(format!("port {port} takes connections"))
}

/// Opens a connection within `limit`.
pub(super) async fn connect(to: SocketAddr, limit: Duration) -> Result<TcpStream, Fault> {
    match timeout(limit, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_ours(&error) => {
            Err(Fault::Unasked(format!("this host cannot open a connection: {error}")))
        }
        Ok(Err(error)) => Err(Fault::Failed(format!("cannot connect to {to}: {error}"))),
        Err(_) => Err(Fault::Failed(format!("cannot connect to {to} {}", seconds(limit)))),
    }
}

/// Whether the host lacks something, which says nothing about the container.
fn is_ours(error: &io::Error) -> bool {
    let lacking = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::ACCESS,
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}
