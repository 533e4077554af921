//! The faults, and how each is made to happen, seen to happen, and ended.

use std::time::Duration;

use rustix::process::Signal;

use super::{
    files::{self, Damage},
    preload::{Disk, Mode},
    scene::{PATIENCE, Scene, patiently},
    support::wire,
};

/// How long a process is away, or a clock wrong.
const SHORT: Duration = Duration::from_secs(4);
/// How long a disk fails: longer than a node may take to step aside.
const LONG: Duration = Duration::from_secs(12);
/// How long the first of the nodes that come back are among themselves.
const AMONG_THEMSELVES: Duration = Duration::from_secs(6);

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Leader,
    Follower,
    LeaderAndFollower,
    Followers,
    All,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing but the start.
    None,
    Kill(Who),
    Freeze(Who),
    Disk(Who, Disk, Mode),
    /// The clock is ahead by so many milliseconds for a while.
    Clock(Who, i64),
    /// Damage to a kind of file of a follower that was killed.
    File(String, Damage),
    /// A follower is killed; later the leader and another follower, which loses these files. They come back in an
    /// order: 0 is the one that was killed first, 1 the one that lost something, 2 the old leader.
    LostThenStart(&'static [&'static str], [usize; 3]),
    /// Two nodes stop and come back at each other's addresses.
    SwapAddresses(Who),
    /// A follower is frozen until it can only be helped by a snapshot.
    Snapshot,
}

impl Scene {
    async fn who(&self, who: Who) -> Result<Vec<usize>, String> {
        let (leader, followers) = (self.leader().await?, self.followers().await?);
        Ok(match who {
            Who::Leader => vec![leader],
            Who::Follower => vec![followers[0]],
            Who::LeaderAndFollower => vec![leader, followers[0]],
            Who::Followers => followers[..2].to_vec(),
            Who::All => (0..self.size).collect(),
        })
    }

    /// Lets a fault happen and end. An error says why it did not happen.
    pub async fn hit(&mut self, fault: &Fault, round: usize) -> Result<(), String> {
        match fault {
            Fault::None => {
                self.proofs.push("the nodes were started in this order".into());
                self.meanwhile();
                Ok(())
            }
            Fault::Kill(who) => self.hit_kill(*who).await,
            Fault::Freeze(who) => self.hit_freeze(*who).await,
            Fault::Disk(who, disk, mode) => self.hit_disk(*who, *disk, *mode).await,
            Fault::Clock(who, ms) => self.hit_clock(*who, *ms).await,
            Fault::File(kind, damage) => self.hit_file(kind, *damage, round).await,
            Fault::LostThenStart(lost, order) => self.hit_lost(lost, *order).await,
            Fault::SwapAddresses(who) => self.hit_addresses(*who).await,
            Fault::Snapshot => self.hit_snapshot().await,
        }
    }

    async fn hit_kill(&mut self, who: Who) -> Result<(), String> {
        let who = self.who(who).await?;
        for number in &who {
            self.kill(*number)?;
        }
        self.meanwhile();
        tokio::time::sleep(SHORT).await;
        for number in who {
            self.run(number);
        }
        Ok(())
    }

    async fn hit_freeze(&mut self, who: Who) -> Result<(), String> {
        let who = self.who(who).await?;
        for number in &who {
            self.nodes.signal(*number, Signal::STOP);
        }
        self.meanwhile();
        tokio::time::sleep(SHORT).await;
        for number in who {
            match self.state(number) {
                Some('T') => self.proofs.push(format!("n{number} was stopped all the while")),
                other => return Err(format!("n{number} was not frozen: {other:?}")),
            }
            self.nodes.signal(number, Signal::CONT);
        }
        Ok(())
    }

    async fn hit_disk(&mut self, who: Who, disk: Disk, mode: Mode) -> Result<(), String> {
        let number = self.who(who).await?[0];
        self.lies[number].disk(disk, mode);
        self.meanwhile();
        // The store writes when it flushes: let it.
        let flush = tokio::time::timeout(LONG, self.flush(number));
        let (_, ()) = tokio::join!(flush, tokio::time::sleep(LONG));
        let met = self.lies[number].met(disk);
        self.lies[number].disk(disk, Mode::Works);
        if met == 0 {
            return Err(format!("no call of n{number} met the fault of its {disk:?}"));
        }
        self.proofs.push(format!("{met} calls of n{number} met the fault"));
        // It may have stopped for good, as it should when it cannot tell any more what is on its disk.
        let ready = format!("n{number} is ready");
        let address = self.nodes.http[number].clone();
        let well =
            patiently(&ready, SHORT, async || (wire::http_status(&address, "/ready").await == Some(200)).then_some(()));
        if well.await.is_ok() {
            self.outcomes.push("went on".into());
        } else if self.nodes.ended(number).is_some() {
            self.nodes.wait(number).await;
            self.outcomes.push("ended, and came back when it was started".into());
            self.run(number);
        } else {
            self.kill(number)?;
            self.outcomes.push("was not ready, and came back when it was started anew".into());
            self.run(number);
        }
        Ok(())
    }

    async fn hit_clock(&mut self, who: Who, ms: i64) -> Result<(), String> {
        let who = self.who(who).await?;
        for number in &who {
            self.lies[*number].clock_is_ahead_by(ms);
        }
        self.meanwhile();
        tokio::time::sleep(SHORT).await;
        for number in who {
            self.lies[number].clock_is_ahead_by(0);
            match self.lies[number].wrong_times() {
                0 => return Err(format!("n{number} did not look at its clock")),
                times => self.proofs.push(format!("n{number} was told a wrong time {times} times")),
            }
        }
        Ok(())
    }

    async fn hit_file(&mut self, kind: &str, damage: Damage, round: usize) -> Result<(), String> {
        let number = self.who(Who::Follower).await?[0];
        self.flush(number).await?;
        let data = self.nodes.data(number);
        if damage == Damage::Older {
            self.kill(number)?;
            files::copy(&data, &self.older()).map_err(|error| error.to_string())?;
            self.run(number);
            self.up(number).await?;
            self.wait_until_ready().await?;
        }
        self.acknowledged(100).await?;
        self.flush(number).await?;
        self.acknowledged(30).await?;
        self.kill(number)?;
        let (path, done) = files::damage(&data, Some(&self.older()), kind, damage, round)?;
        self.proofs.push(done);
        // A file that is called after its content may be named by that alone.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut names = vec![name];
        if kind.ends_with('/') || damage == Damage::Lost {
            // What is not there may be missed as a part of its directory, which is named.
            names.extend(path.parent().and_then(|parent| Some(parent.file_name()?.to_string_lossy().into_owned())));
        }
        if kind.starts_with("raft/") {
            // That a log ends too early the other nodes know, and they know of no files.
            names.push(format!("n{number}/raft"));
        }
        self.damaged.insert(number, names);
        self.meanwhile();
        self.run(number);
        self.up(number).await
    }

    async fn hit_lost(&mut self, lost: &[&str], order: [usize; 3]) -> Result<(), String> {
        let (old, followers) = (self.leader().await?, self.followers().await?);
        let who = [followers[0], followers[1], old];
        self.kill(who[0])?;
        self.acknowledged(200).await?;
        self.kill(who[2])?;
        self.kill(who[1])?;
        for name in lost {
            let (_, done) = files::damage(&self.nodes.data(who[1]), None, name, Damage::Lost, 0)?;
            self.proofs.push(done);
        }
        // A node looks at one after the other, and names the first that it misses: by its path, as these words are in
        // every log.
        let paths = lost.iter().map(|name| format!("n{}/{}", who[1], name.trim_end_matches('/'))).collect();
        self.damaged.insert(who[1], paths);
        self.meanwhile();
        for (at, role) in order.into_iter().enumerate() {
            self.run(who[role]);
            self.up(who[role]).await?;
            if at == 1 {
                tokio::time::sleep(AMONG_THEMSELVES).await;
            }
        }
        Ok(())
    }

    async fn hit_addresses(&mut self, who: Who) -> Result<(), String> {
        let [one, other] = self.who(who).await?[..] else { return Err("two nodes swap their addresses".into()) };
        for number in [one, other] {
            self.stop(number).await?;
        }
        self.nodes.exchange(one, other);
        self.meanwhile();
        for number in [one, other] {
            self.run(number);
        }
        let (name, address) = (format!("n{one}"), self.nodes.peers[one].clone());
        patiently(&format!("{name} is known at {address}"), PATIENCE, async || {
            let status = wire::status(&self.nodes.clients[other]).await?;
            status.nodes.iter().any(|node| node.name == name && node.peer_address == address).then_some(())
        })
        .await?;
        self.proofs.push(format!("{name} is at {address}, where n{other} was"));
        Ok(())
    }

    async fn hit_snapshot(&mut self) -> Result<(), String> {
        let (leader, number) = (self.leader().await?, self.who(Who::Follower).await?[0]);
        self.nodes.signal(number, Signal::STOP);
        self.meanwhile();
        let frozen = async {
            self.acknowledged(300).await?;
            for other in (0..self.size).filter(|other| *other != number) {
                self.flush(other).await?;
            }
            self.acknowledged(100).await
        };
        let frozen = frozen.await;
        self.nodes.signal(number, Signal::CONT);
        frozen?;
        let sent = patiently("a snapshot is sent", PATIENCE, async || {
            (0..self.size).any(|other| self.says(other).contains("sending a snapshot")).then_some(())
        });
        sent.await?;
        self.proofs.push(format!("n{number} was sent a snapshot, first by n{leader} if it still led"));
        Ok(())
    }
}
