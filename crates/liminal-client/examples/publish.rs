//! Publishes one message and waits for its ack, then a thousand over one stream.

use liminal_client::{ChannelConfig, Client, Confirm, Message, PublisherOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]).await?;
    client.create_channel("orders", ChannelConfig::new()).await?;

    let message = Message::new(r#"{"id":7}"#).with_key("order-7");
    let published = client.publish("orders", message).confirm(Confirm::Commit).await?;
    println!("orders@{}{}", published.seq, if published.duplicate { "  duplicate" } else { "" });

    let publisher = client.publisher("orders", PublisherOptions::default());
    let mut acks = Vec::new();
    for id in 8..1_008 {
        let message = Message::new(format!(r#"{{"id":{id}}}"#)).with_key(format!("order-{id}"));
        acks.push(publisher.enqueue(message).await?);
    }
    for ack in acks {
        ack.await?;
    }
    println!("{} more", 1_000);
    Ok(())
}
