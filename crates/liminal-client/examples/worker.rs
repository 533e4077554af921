//! Shares the work of a channel with everybody who runs this program: each order is billed once, by its claim, and its
//! invoice is stored exactly once, because the transaction that publishes it acknowledges the order too.

use std::time::Duration;

use futures::StreamExt as _;
use liminal_client::{ChannelConfig, Client, Code, ConsumerConfig, Message, Once, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]).await?;
    client.create_channel("invoices", ChannelConfig::new()).await?;
    let config = ConsumerConfig::new().ack_timeout(Duration::from_secs(30)).max_attempts(5);
    client.create_consumer("orders", "billing", config, Start::Earliest).await?;

    let payments = client.claims("payments");
    let mut orders = client.consumer("orders", "billing").open().await?;
    while let Some(delivery) = orders.next().await {
        let delivery = delivery?;
        let order = format!("order-{}", delivery.received.seq);
        let charge = async |token: u64| Ok::<_, std::io::Error>(format!("charged under {token}"));
        let receipt = match payments.once(&order, Duration::from_secs(30), charge).await? {
            Once::Ran(receipt) | Once::DoneBefore(receipt) => receipt,
            // Somebody else is at it: the order comes again if that one fails.
            Once::InFlight(_) => continue,
        };
        let invoice = Message::new(receipt).with_header("order", order);
        match client.transaction().publish("invoices", invoice).ack(&delivery).commit().await {
            Ok(_) => println!("billed order {}", delivery.received.seq),
            Err(error) if *error.code() == Code::StaleDelivery => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
