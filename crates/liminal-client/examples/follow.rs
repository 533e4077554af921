//! Follows a channel from its first message on, whichever nodes fail on the way.

use futures::StreamExt as _;
use liminal_client::{Client, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]).await?;
    let mut messages = client.subscribe("orders", Start::Earliest).await?;
    while let Some(received) = messages.next().await {
        match received {
            Ok(received) => println!("{} {:?}", received.seq, received.message.payload),
            // Messages are gone, or a backup was restored: the stream says where it goes on, and does.
            Err(error) if error.notice().is_some() => eprintln!("notice: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
