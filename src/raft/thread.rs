//! A thread for Raft alone. Its core, replication, the other nodes' requests and the batcher run on it one after
//! another, so handing work from one to the next wakes no other thread, and however busy clients keep the rest of the
//! process, votes and heartbeats wait for none of it.

use std::{io, thread::JoinHandle};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// A running thread with a runtime. When it is dropped, what still runs on it is cancelled.
pub struct RaftThread {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RaftThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses a thread or the runtime's descriptors.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("liminal-raft".into()).spawn(move || {
            // The sender sends nothing: it goes when the thread is to end.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    /// What runs on the thread is spawned here.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for RaftThread {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("Raft's thread panicked");
        }
    }
}
