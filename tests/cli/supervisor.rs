//! What `liminal serve` tells systemd, from a process that ran to its end.

use std::{
    os::unix::net::UnixDatagram,
    process::{Command as Process, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{file, liminal, ports::free_addresses, run};

/// How long the node may take for each step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads what is told until it begins like this.
fn told(supervisor: &UnixDatagram, begins: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut buffer = [0; 4096];
        let length = supervisor.recv(&mut buffer).unwrap_or_else(|error| panic!("nobody says {begins}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.starts_with(begins) {
            return;
        }
        assert!(text.starts_with("STATUS=") && Instant::now() < until, "not {begins}, but {text}");
    }
}

#[test]
fn a_supervisor_is_told_when_the_node_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let [client, http] = free_addresses(2).try_into().unwrap();
    let data = dir.path().join("data");
    let text = format!("listen_address = {client:?}\nhealth_listen_address = {http:?}\npersistence_path = {data:?}\n");
    let mut serve = Process::new(env!("CARGO_BIN_EXE_liminal"));
    serve.args(["serve", "--config"]).arg(file(&dir, &text)).env("NOTIFY_SOCKET", &socket).stderr(Stdio::null());
    let mut node = serve.spawn().unwrap();

    told(&supervisor, "READY=1\n");
    let (code, out, err) = run(&mut liminal(&["health", "--http", &http]));
    assert_eq!(code, 0, "it is ready when it says so: {out}{err}");
    kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
    told(&supervisor, "STOPPING=1\n");
    assert_eq!(node.wait().unwrap().code(), Some(0));
}
