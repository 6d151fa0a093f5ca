//! Whether what was written has arrived: the kernel keeps it until the other side's has acknowledged it.

use std::collections::HashSet;
use std::net::IpAddr;

use procfs::ProcResult;
use procfs::process::{FDTarget, Process};

/// Whether this process's connections to one of these addresses hold bytes that did not arrive; also
/// if that can't be found out.
pub(super) fn is_any(port: u16, addresses: &[IpAddr]) -> bool {
    look(port, addresses).unwrap_or(true)
}

fn look(port: u16, addresses: &[IpAddr]) -> ProcResult<bool> {
    let process = Process::myself()?;
    let mut sockets = HashSet::new();
    for fd in process.fd()? {
        // One that was closed meanwhile is none of them.
        if let Ok(FDTarget::Socket(inode)) = fd.map(|fd| fd.target) {
            sockets.insert(inode);
        }
    }
    let mut connections = process.tcp()?;
    // Missing where IPv6 is switched off.
    connections.extend(process.tcp6().unwrap_or_default());
    Ok(connections.iter().any(|connection| {
        let remote = connection.remote_address;
        connection.tx_queue > 0
            && remote.port() == port
            && addresses.contains(&remote.ip().to_canonical())
            && sockets.contains(&connection.inode)
    }))
}
