//! What a client takes from the world around it: connections and randomness. A simulation puts its own in place, so that
//! clients and nodes run in one process from one seed. Time is tokio's clock, which a simulation controls as well.

use std::{future::Future, io, pin::Pin};

use liminal_wire::address;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection that is coming about.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send + 'a>>;

/// Where a client's connections and its randomness come from.
pub trait Environment: Send + Sync + 'static {
    /// Connects to `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a>;

    /// Any number, such as nobody guesses: owners of claims and pauses between attempts are made from it.
    fn random(&self) -> u64;
}

/// The real world.
pub(crate) struct World;

impl Environment for World {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = address::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Io> = Box::new(stream);
            Ok(stream)
        })
    }

    fn random(&self) -> u64 {
        getrandom::u64().expect("the system's generator of random numbers answers")
    }
}
