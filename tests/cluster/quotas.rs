//! Quotas of tokens on three nodes: what one of them is told holds on all, and what is counted in the log is counted once.

use std::time::{Duration, Instant};

use liminal::client::{ChannelConfig, Client, Grant, Message, Role, RoleQuota};

use super::support::{eventually, in_process::Cluster};

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_on_every_node_within_a_second_and_channels_are_counted_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cluster, admin) = Cluster::start_closed(dir.path()).await;
    let grant = Grant::new().scope("channel:*").actions(vec!["publish".into(), "manage".into()]);
    admin.create_role(Role::new().name("shop").grants(vec![grant])).await.unwrap();
    let shop = admin.create_token("shop", vec!["shop".into()], None).await.unwrap();
    let mut holders = Vec::new();
    for number in [1, 2] {
        let holder = cluster.holder(number, &shop.text).retry_for(Duration::from_millis(1)).connect().await.unwrap();
        eventually("the node knows the token", async || holder.channel("orders").await.ok()).await;
        holders.push(holder);
    }

    let begun = Instant::now();
    admin.set_role_quota("shop", RoleQuota::new().messages_per_second(1)).await.unwrap();
    let said = Instant::now();
    for holder in &holders {
        let refused = eventually("the quota holds", async || {
            let published =
                holder.publish("orders", Message::new("1").with_key(format!("{:?}", begun.elapsed()))).await;
            published.err().filter(|error| *error.code() == "QUOTA_EXCEEDED")
        });
        let refused = refused.await;
        assert!(refused.message().contains("role `shop` allows 1"), "{refused:?}");
    }
    assert!(said.elapsed() < Duration::from_secs(1), "{:?}", said.elapsed());

    admin.set_role_quota("shop", RoleQuota::new().channels(2)).await.unwrap();
    for holder in &holders {
        // As long as a node knows the old quota only, three in a row are too many for it.
        let all_go = async || {
            for number in 0..3 {
                let key = format!("{number}{:?}", begun.elapsed());
                holder.publish("orders", Message::new("1").with_key(key)).await.ok()?;
            }
            Some(())
        };
        eventually("the new quota is known", all_go).await;
    }
    let create = async |holder: &Client, name: &str| holder.create_channel(name, ChannelConfig::default()).await;
    create(&holders[0], "a").await.unwrap();
    create(&holders[1], "b").await.unwrap();
    for holder in &holders {
        let refused = create(holder, "c").await.unwrap_err();
        assert_eq!(refused.code(), "QUOTA_EXCEEDED", "{refused:?}");
    }
    cluster.stop_node(2).await;
    cluster.start_node(2).await;
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}
