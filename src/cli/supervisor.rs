//! What `liminal serve` tells the process that looks after it, by the protocol of systemd (`Type=notify`): that the node is
//! ready, what it waits for, and that it stops. So `systemctl restart` ends when the node serves again, and the next one
//! may be restarted.
//!
//! Whether the node still works is not told (`WatchdogSec=`): it judges that by itself, and ends when it does not come back.

use std::{
    convert::Infallible,
    env,
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// The variable that names the supervisor's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How often the node is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Where to tell it; nowhere without a supervisor that wants to know.
pub(super) struct Supervisor(Option<(UnixDatagram, SocketAddr)>);

impl Supervisor {
    /// The one that the environment names. A node serves without one, so a socket that cannot be used is only logged.
    pub(super) fn of_environment() -> Self {
        Self(env::var_os(SOCKET).filter(|name| !name.is_empty()).and_then(|name| {
            let opened = open(&name);
            if let Err(error) = &opened {
                tracing::warn!(%error, socket = %name.display(), "NOTIFY_SOCKET cannot be used: nobody is told that the node is ready");
            }
            opened.ok()
        }))
    }

    /// Tells what the node lacks, each time that it changes, and that it is ready. Ends only with whoever waits for it.
    pub(super) async fn follow(&self, unmet: impl Fn() -> Vec<String>) -> Infallible {
        if self.0.is_none() {
            return std::future::pending().await;
        }
        let mut told = String::new();
        loop {
            let now = state(&unmet());
            if now != told && self.tell(&now) {
                told = now;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells that the node stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: leadership is handed over, and what is under way is finished");
    }

    /// Whether it was told. It is not waited for a supervisor that does not read.
    fn tell(&self, what: &str) -> bool {
        let Some((socket, supervisor)) = &self.0 else { return false };
        let sent = socket.send_to_addr(what.as_bytes(), supervisor);
        if let Err(error) = &sent {
            tracing::debug!(%error, what, "the supervisor cannot be told");
        }
        sent.is_ok()
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address(name)?))
}

/// A path, or, behind an `@`, a name that is in no file system.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', name @ ..] => without_a_file(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it begins with neither `/` nor `@`")),
    }
}

#[cfg(target_os = "linux")]
fn without_a_file(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;

    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn without_a_file(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has sockets without a file"))
}

/// What is told of a node that lacks this. Who was ready once stays so for systemd: only its status changes.
fn state(unmet: &[String]) -> String {
    match unmet {
        [] => "READY=1\nSTATUS=ready".to_owned(),
        // One assignment is one line.
        unmet => format!("STATUS=not ready: {}", unmet.join("; ").replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::linux::net::SocketAddrExt as _};

    use parking_lot::Mutex;

    use super::*;

    fn told(by: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        by.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = by.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn supervisor(name: &OsStr) -> Supervisor {
        Supervisor(Some(open(name).unwrap()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_change_is_told_once_and_the_end_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let supervisor = supervisor(path.as_os_str());
        let unmet = Mutex::new(vec!["there is\nno leader".to_owned(), "the node is 2 entries behind".to_owned()]);
        let node = async {
            let read = || async { tokio::task::block_in_place(|| told(&systemd)) };
            assert_eq!(read().await, "STATUS=not ready: there is no leader; the node is 2 entries behind");
            unmet.lock().clear();
            tokio::time::sleep(4 * LOOK).await;
            assert_eq!(read().await, "READY=1\nSTATUS=ready");
            systemd.set_nonblocking(true).unwrap();
            assert_eq!(systemd.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it was told once");
            systemd.set_nonblocking(false).unwrap();
        };
        tokio::select! {
            never = supervisor.follow(|| unmet.lock().clone()) => match never {},
            () = node => {}
        }
        supervisor.stopping();
        assert!(told(&systemd).starts_with("STOPPING=1\nSTATUS=stopping"));
    }

    #[test]
    fn a_name_without_a_file_is_reached() {
        let name = format!("liminal-test-{}", std::process::id());
        let systemd = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert!(supervisor(&OsString::from(format!("@{name}"))).tell(&state(&[])));
        assert_eq!(told(&systemd), "READY=1\nSTATUS=ready");
    }

    #[test]
    fn a_socket_that_nobody_reads_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _systemd = UnixDatagram::bind(&path).unwrap();
        let supervisor = supervisor(path.as_os_str());
        assert!((0..100_000).any(|_| !supervisor.tell(&state(&[]))), "it would have waited");
        assert!(open(OsStr::new("nowhere")).is_err());
        assert!(!Supervisor(None).tell("READY=1"));
    }
}
