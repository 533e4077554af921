//! Clocks that leap: whatever one of three shows, what lasts for a while lasts for just that.

use std::time::{Duration, Instant, SystemTime};

use liminal::{
    broker::{Broker, Claim, Envelope, Start},
    env::Env,
    model::{ChannelUpdate, ConsumerConfig, Retention},
    raft::Change,
};

use super::support::{
    eventually,
    in_process::{Cluster, envelope, payloads},
};

const YEARS: i64 = 10 * 365 * 86_400_000;
const HOUR: i64 = 3_600_000;
/// How long claims, deliveries and delays last here.
const LASTING: Duration = Duration::from_secs(2);
/// The log's time may pass by a twentieth faster.
const AT_LEAST: Duration = Duration::from_millis(1_880);

fn now_ms() -> u64 {
    Env::real().clock.now_ms()
}

/// `orders` keeps an hour's messages and has one with a key; `work` has a consumer; messages of `later` wait.
async fn prepare(cluster: &Cluster) {
    for name in ["orders", "work", "later"] {
        cluster.create(name).await;
    }
    let broker = cluster.broker(0);
    let retention = Retention { max_age_ms: Some(HOUR as u64), ..Retention::default() };
    let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
    broker.update_channel("orders", update).await.unwrap();
    broker.publish("orders", envelope("kept"), Some("k")).await.unwrap();
    let config = ConsumerConfig { ack_timeout_ms: LASTING.as_millis() as u64, ..ConsumerConfig::default() };
    broker.create_consumer("work", "w", config, Start::Earliest).await.unwrap();
}

/// What is old is not forgotten; a lease, a delivery and a delay that begin now end when they should.
async fn time_passes_as_it_should(broker: &Broker, round: &str) {
    let again = broker.publish("orders", envelope("kept"), Some("k")).await.unwrap();
    assert!(again.duplicate, "{round}: the key was forgotten");
    assert_eq!(payloads(broker, "orders").await, ["kept"], "{round}: the channel was emptied");
    tokio::join!(a_lease_ends(broker, round), a_delivery_comes_again(broker, round), a_delay_ends(broker, round));
}

async fn a_lease_ends(broker: &Broker, round: &str) {
    let begun = Instant::now();
    let first = broker.claim("jobs", round, LASTING, Some("w1")).await.unwrap();
    assert!(matches!(first, Claim::Claimed { .. }), "{round}: {first:?}");
    eventually("the lease ends", async || {
        let taken = broker.claim("jobs", round, Duration::from_secs(600), Some("w2")).await.unwrap();
        matches!(taken, Claim::Claimed { .. }).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= AT_LEAST, "{round}: a claim was given out twice after {:?}", begun.elapsed());
}

async fn a_delivery_comes_again(broker: &Broker, round: &str) {
    let mut member = broker.join_consumer("work", "w", 1).await.unwrap();
    broker.publish("work", envelope(round), None).await.unwrap();
    let (mut begun, mut attempt) = (Instant::now(), 0);
    while attempt < 2 {
        let deliveries = tokio::time::timeout(super::support::PATIENCE, member.next()).await;
        for delivery in deliveries.unwrap_or_else(|_| panic!("{round}: attempt {attempt} is the last")).unwrap() {
            attempt = delivery.token.attempt;
            if attempt == 1 {
                begun = Instant::now();
                continue;
            }
            // When it was handed out is a little earlier than when it came.
            assert!(begun.elapsed() >= AT_LEAST / 2, "{round}: it came again after {:?}", begun.elapsed());
            let ack = liminal::model::Settlement { token: delivery.token, verdict: liminal::model::Verdict::Ack };
            broker.settle("work", "w", vec![ack]).await.unwrap();
        }
    }
}

async fn a_delay_ends(broker: &Broker, round: &str) {
    let due_ms = now_ms() + LASTING.as_millis() as u64;
    let message = Envelope { deliver_at_ms: due_ms, ..envelope(round) };
    let outcome = broker.publish("later", message, None).await.unwrap();
    assert_eq!(outcome.scheduled_ms, Some(due_ms), "{round}");
    eventually("the message is due", async || {
        payloads(broker, "later").await.contains(&round.to_owned()).then_some(())
    })
    .await;
    assert!(now_ms() + 500 >= due_ms, "{round}: it came {} ms early", due_ms - now_ms());
}

/// Until the node asked sees that another's clock is wrong, or right.
async fn notices(cluster: &Cluster, asked: usize, of: usize, wrong: bool) {
    let group = |number: usize| cluster.nodes[number].as_ref().unwrap().group();
    let id = group(of).state().address.id;
    eventually("the clocks are compared", async || {
        let found = group(asked).clocks().into_iter().find(|clock| clock.id == id)?;
        (found.is_wrong() == wrong).then_some(())
    })
    .await;
}

async fn transfer(cluster: &Cluster, to: usize) {
    let group = cluster.nodes[to].as_ref().unwrap().group();
    eventually("it leads", async || {
        let _ = group.change(Change::Transfer { name: format!("n{to}") }).await; // tried again
        cluster.leads(to).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_of_the_leaders_clock_ends_nothing_early_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    prepare(&cluster).await;
    for (round, ahead_ms) in [("forward", YEARS), ("back", -HOUR)] {
        let leader = cluster.leader().await;
        cluster.clocks[leader].set(ahead_ms);
        notices(&cluster, (leader + 1) % 3, leader, true).await;
        time_passes_as_it_should(cluster.broker((leader + 1) % 3), round).await;
        cluster.clocks[leader].set(0);
        notices(&cluster, (leader + 1) % 3, leader, false).await;
        time_passes_as_it_should(cluster.broker(leader), &format!("healed after {round}")).await;
    }
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_wrong_may_lead() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    prepare(&cluster).await;
    for (round, ahead_ms) in [("forward", YEARS), ("back", -HOUR)] {
        let node = (cluster.leader().await + 1) % 3;
        cluster.clocks[node].set(ahead_ms);
        transfer(&cluster, node).await;
        time_passes_as_it_should(cluster.broker(node), round).await;
        cluster.clocks[node].set(0);
        time_passes_as_it_should(cluster.broker((node + 1) % 3), &format!("healed after {round}")).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_all_nodes_were_down_time_is_what_most_clocks_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    prepare(&cluster).await;
    let lease = Duration::from_secs(600);
    assert!(matches!(cluster.broker(0).claim("jobs", "long", lease, Some("w1")).await, Ok(Claim::Claimed { .. })));
    restart(&mut cluster, [YEARS, 0, 0]).await;
    transfer(&cluster, 0).await;
    let held = cluster.broker(0).claim("jobs", "long", lease, Some("w2")).await.unwrap();
    assert!(matches!(held, Claim::InFlight(_)), "{held:?}");
    time_passes_as_it_should(cluster.broker(0), "one is wrong").await;
    // Half an hour later.
    restart(&mut cluster, [YEARS, HOUR / 2, HOUR / 2]).await;
    transfer(&cluster, 0).await;
    let free = cluster.broker(0).claim("jobs", "long", lease, Some("w2")).await.unwrap();
    assert!(matches!(free, Claim::Claimed { .. }), "{free:?}");
    assert_eq!(payloads(cluster.broker(1), "orders").await, ["kept"]);
    cluster.stop().await;
}

async fn restart(cluster: &mut Cluster, clocks: [i64; 3]) {
    for number in cluster.running().collect::<Vec<_>>() {
        cluster.stop_node(number).await;
    }
    for (clock, ahead_ms) in cluster.clocks.iter().zip(clocks) {
        clock.set(ahead_ms);
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    let broker = cluster.broker(0);
    eventually("the log's time is known", async || {
        (broker.view().clock().is_certain() && cluster.broker(cluster.leader().await).view().clock().is_certain())
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_time_is_ten_years_ahead_goes_on_where_it_is_restored_and_its_calendar_is_set_right() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["wrong", "restored"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let wrong = Cluster::start_with_clocks(&dir.path().join("wrong"), YEARS).await;
    prepare(&wrong).await;
    let lease = Duration::from_secs(600);
    assert!(matches!(wrong.broker(0).claim("jobs", "long", lease, Some("w1")).await, Ok(Claim::Claimed { .. })));
    let server = format!("http://{}", wrong.nodes[0].as_ref().unwrap().client_address());
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_liminal"));
        let output = command.args(["--server", &server]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let backup = dir.path().join("backup");
    command(&["cluster", "backup", backup.to_str().unwrap()]);
    wrong.stop().await;

    let mut restored = Cluster::prepare(&dir.path().join("restored"));
    let config = &mut restored.configs[0];
    let peers = config.cluster.as_mut().unwrap();
    (peers.seed_nodes, peers.expect) = (Vec::new(), liminal::config::ClusterConfig::default().expect);
    let text = format!(
        "listen_address = {:?}\nhealth_listen_address = {:?}\npersistence_path = {:?}\n\
         [cluster]\nnode_name = {:?}\nlisten_address = {:?}\nseed_nodes = []\ncookie = {:?}\n",
        config.listen_address,
        config.health_listen_address,
        config.persistence_path.as_ref().unwrap(),
        peers.node_name,
        peers.listen_address,
        "test",
    );
    let file = dir.path().join("restored.toml");
    std::fs::write(&file, text).unwrap();
    command(&["cluster", "restore", backup.to_str().unwrap(), "--config", file.to_str().unwrap()]);
    restored.start_node(0).await;
    let broker = restored.broker(0);
    eventually("it serves", async || broker.channel("orders").await.ok()).await;
    eventually("the calendar is right", async || (broker.now_ms().abs_diff(now_ms()) < 1_000).then_some(())).await;
    time_passes_as_it_should(broker, "after").await;
    let held = broker.claim("jobs", "long", lease, Some("w2")).await.unwrap();
    let Claim::InFlight(holder) = held else { panic!("{held:?}") };
    assert!(holder.expires_ms.abs_diff(now_ms()) < 600_000, "{holder:?}");
    restored.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_time_is_ten_years_ahead_goes_on_and_its_calendar_is_set_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_with_clocks(dir.path(), YEARS).await;
    prepare(&cluster).await;
    let lease = Duration::from_secs(600);
    assert!(matches!(cluster.broker(0).claim("jobs", "long", lease, Some("w1")).await, Ok(Claim::Claimed { .. })));
    restart(&mut cluster, [0; 3]).await;
    let broker = cluster.broker(1);
    assert!(broker.now_ms() > now_ms() + YEARS as u64 / 2, "as before");
    a_lease_ends(broker, "before").await;
    let right = async |broker: &Broker| (broker.now_ms().abs_diff(now_ms()) < 1_000).then_some(());
    eventually("the calendar is right", async || right(broker).await).await;
    time_passes_as_it_should(broker, "after").await;
    let held = broker.claim("jobs", "long", lease, Some("w2")).await.unwrap();
    let Claim::InFlight(holder) = held else { panic!("{held:?}") };
    assert!(holder.expires_ms.abs_diff(now_ms()) < 600_000, "{holder:?}");
    let page = broker.read("later", Start::Earliest, 0, Default::default(), None).await.unwrap();
    let shown = page.batches.last().map(|batch| batch.time_ms.abs_diff(now_ms()));
    assert!(shown.is_some_and(|off| off < 60_000), "{page:?}");
    let found = broker
        .read("later", Start::Time(SystemTime::now() - Duration::from_secs(60)), 0, Default::default(), None)
        .await
        .unwrap();
    assert_eq!(found.batches.len(), page.batches.len());
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    restart(&mut cluster, [0; 3]).await;
    assert!(cluster.broker(2).now_ms().abs_diff(now_ms()) < HOUR as u64, "it is kept");
    cluster.stop().await;
}
