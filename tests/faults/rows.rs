//! The rows of the matrix.

use std::path::Path;

use super::{
    fault::{Fault, Who},
    files::{self, Damage},
    preload::{Disk, Mode},
};

/// One fault, on a fresh cluster under the mixed load.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    /// The order in which the nodes start for the first time; so many there are.
    pub order: Vec<usize>,
    /// More lines of the configuration.
    pub config: &'static str,
    pub fault: Fault,
    /// Whether a majority is well all the while, so that publishing never stands still for long.
    pub majority: bool,
}

const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;
/// The load fills so small a memtable within seconds, so that the store has to write while its disk is bad.
const SMALL_MEMTABLE: &str = "[store]\nmemtable_bytes = 65536\n";
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn row(name: impl Into<String>, fault: Fault) -> Row {
    Row { name: name.into(), order: vec![0, 1, 2], config: "", fault, majority: true }
}

impl Row {
    fn of_five(self) -> Self {
        Self { order: vec![0, 1, 2, 3, 4], ..self }
    }

    fn without_majority(self) -> Self {
        Self { majority: false, ..self }
    }
}

/// Those that also run in the tests of every day: quick ones, of different kinds.
pub fn short() -> Vec<Row> {
    vec![
        row("SIGKILL of the leader", Fault::Kill(Who::Leader)),
        row("the leader's clock is an hour ahead for 4 s", Fault::Clock(Who::Leader, HOUR)),
        row("state/CURRENT flipped", Fault::File("state/CURRENT".into(), Damage::Flipped)),
    ]
}

/// Every row, for the files that a node has in this directory.
pub fn all(node: &Path) -> std::io::Result<Vec<Row>> {
    let mut rows = vec![
        row("SIGKILL of the leader", Fault::Kill(Who::Leader)),
        row("SIGKILL of a follower", Fault::Kill(Who::Follower)),
        row("SIGKILL of leader and follower", Fault::Kill(Who::LeaderAndFollower)).without_majority(),
        row("SIGKILL of leader and follower, of five", Fault::Kill(Who::LeaderAndFollower)).of_five(),
        row("SIGKILL of all", Fault::Kill(Who::All)).without_majority(),
        row("SIGSTOP of the leader", Fault::Freeze(Who::Leader)),
        row("SIGSTOP of a follower", Fault::Freeze(Who::Follower)),
        row("SIGSTOP of leader and follower", Fault::Freeze(Who::LeaderAndFollower)).without_majority(),
        row("SIGSTOP of all", Fault::Freeze(Who::All)).without_majority(),
    ];
    let modes = [
        (Disk::Log, Mode::FailsWrites, "the log fails with EIO"),
        (Disk::Log, Mode::IsFull, "the log's disk is full"),
        (Disk::Log, Mode::Stalls, "the log stalls"),
        (Disk::Store, Mode::FailsWrites, "the store fails with EIO"),
        (Disk::Store, Mode::IsFull, "the store's disk is full"),
        (Disk::Store, Mode::Stalls, "the store stalls"),
        (Disk::Store, Mode::FailsReads, "the store cannot be read (EIO)"),
    ];
    for (disk, mode, what) in modes {
        for (who, whose) in [(Who::Leader, "of the leader"), (Who::Follower, "of a follower")] {
            let one = row(format!("{what}, {whose}"), Fault::Disk(who, disk, mode));
            rows.push(Row { config: SMALL_MEMTABLE, ..one });
        }
    }
    for (ms, leap) in [(HOUR, "an hour ahead"), (-HOUR, "an hour behind"), (10 * YEAR, "ten years ahead")] {
        for (who, whose) in
            [(Who::Leader, "the leader's clock"), (Who::Follower, "a follower's clock"), (Who::All, "every clock")]
        {
            rows.push(row(format!("{whose} is {leap} for 4 s"), Fault::Clock(who, ms)));
        }
    }
    rows.push(row("two followers swap their addresses", Fault::SwapAddresses(Who::Followers)).without_majority());
    rows.push(
        row("leader and follower swap their addresses", Fault::SwapAddresses(Who::LeaderAndFollower))
            .without_majority(),
    );
    let snapshot = row("a frozen follower gets a snapshot", Fault::Snapshot);
    rows.push(Row { config: "[raft]\nlog_keep_entries = 20\n", ..snapshot });
    for order in ORDERS {
        rows.push(Row { order: order.into(), ..row(format!("fresh nodes start in the order {order:?}"), Fault::None) });
    }
    let names = ["the one that was down", "the one that lost", "the old leader"];
    for lost in [["raft/"].as_slice(), &["raft/", "state/"]] {
        for order in ORDERS {
            let order_told = order.map(|role| names[role]).join(", ");
            let name = format!("{} lost, then start: {order_told}", lost.join(" and "));
            rows.push(row(name, Fault::LostThenStart(lost, order)).without_majority());
        }
    }
    for (kind, paths) in files::kinds(node)? {
        for damage in Damage::ALL.into_iter().filter(|damage| damage.fits(&kind)) {
            let empty = paths.iter().all(|path| node.join(path).metadata().is_ok_and(|meta| meta.len() == 0));
            if !(empty && matches!(damage, Damage::Cut | Damage::Flipped)) {
                let name = format!("`{kind}` {}", format!("{damage:?}").to_lowercase());
                rows.push(row(name, Fault::File(kind.clone(), damage)));
            }
        }
    }
    Ok(rows)
}
