//! The fault matrix: real `liminal serve` processes under a mixed load, one fault at a time, and a checker of all that was
//! promised over everything that clients did and saw.
//!
//! `cluster/faults.sh` runs all of it and prints the table of `docs/RELIABILITY.md`. A few rows run with the other tests.
//! A row is a line in `rows.rs`; how a fault is made to happen is in `fault.rs`, what is promised in `check.rs`.

#![allow(missing_docs)]

mod check;
mod fault;
mod files;
mod history;
mod load;
mod preload;
mod raw;
mod report;
mod rows;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use self::{
    check::{Evidence, Verdict, check},
    report::Line,
    rows::Row,
    scene::{STILL, Scene, patiently},
};

/// Rows whose name contains one of these, between commas.
const ONLY: &str = "LIMINAL_FAULTS";
const ROUNDS: &str = "LIMINAL_FAULTS_ROUNDS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_every_day_lose_nothing_and_stop_nothing() {
    let mut failed = Vec::new();
    for row in rows::short() {
        let line = run(&row, 1).await;
        println!("{}", report::line(&line));
        failed.extend(line.violations);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour: run cluster/faults.sh"]
async fn the_whole_matrix() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let rounds = std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    let scout = scout().await.expect("a cluster whose files can be looked at");
    let rows = rows::all(scout.path()).expect("the scout's files can be listed");
    let wanted = |row: &&Row| only.split(',').any(|part| row.name.contains(part.trim()));
    let (begun, mut failed, mut count) = (Instant::now(), Vec::new(), 0);
    println!("\n{}", report::HEAD);
    for row in rows.iter().filter(wanted) {
        let line = run(row, rounds).await;
        println!("{}", report::line(&line));
        count += 1;
        if line.failed() {
            failed.push(line.row);
        }
    }
    println!("\n{count} rows in {:.0} minutes, {} failed", begun.elapsed().as_secs_f64() / 60.0, failed.len());
    assert!(failed.is_empty(), "failed: {failed:#?}");
    assert!(count > 0, "no row is called like `{only}`");
}

/// The data of a follower that has seen the load, so that all kinds of files are there.
async fn scout() -> Result<tempfile::TempDir, String> {
    let mut scene = Scene::start(&[0, 1, 2], "").await?;
    let follower = scene.followers().await?[0];
    scene.flush(follower).await?;
    scene.acknowledged(100).await?;
    scene.flush(follower).await?;
    scene.kill(follower)?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    files::copy(&scene.nodes.data(follower), dir.path()).map_err(|error| error.to_string())?;
    Ok(dir)
}

/// A row, some times; its evidence is kept when it fails.
async fn run(row: &Row, rounds: usize) -> Line {
    let mut line = Line::new(&row.name);
    for round in 0..rounds {
        let (outcome, verdict) = one(row, round).await;
        line.add(outcome, verdict);
    }
    line
}

async fn one(row: &Row, round: usize) -> (String, Verdict) {
    let failed = |problem: String| Verdict { violations: vec![problem], ..Verdict::default() };
    let mut scene = match Scene::start(&row.order, row.config).await {
        Ok(scene) => scene,
        Err(problem) => return (String::new(), failed(format!("it did not begin: {problem}"))),
    };
    match scene.hit(&row.fault, round).await {
        Ok(()) => {}
        // What never changes has no older copy to come back.
        Err(problem) if problem.ends_with(" has changed") => {
            return ("its older copy is the same".into(), Verdict::default());
        }
        Err(problem) => scene.violations.push(format!("the fault did not happen: {problem}")),
    }
    let over = scene.history.now();
    let history = scene.history.clone();
    let goes_on = async || (history.acknowledged_since(over) > 0).then_some(());
    if let Err(problem) = patiently("publishing goes on after the fault", STILL, goes_on).await {
        scene.violations.push(problem);
    }
    if let Err(problem) = scene.settle().await {
        scene.violations.push(problem);
    } else if let Err(problem) = scene.acknowledged(30).await {
        scene.violations.push(problem);
    }
    let evidence = scene.finish().await;
    let mut verdict = check(&evidence);
    verdict.violations.append(&mut scene.violations);
    if scene.proofs.is_empty() {
        verdict.violations.push("nothing proves that the fault happened".into());
    }
    if row.majority && verdict.longest_gap > STILL {
        verdict.violations.push(format!("no publish was acknowledged for {:.1} s", verdict.longest_gap.as_secs_f64()));
    }
    if !verdict.violations.is_empty() {
        match keep(row, round, &scene, &evidence, &verdict) {
            Ok(kept) => eprintln!("{} failed; its evidence is in {}", row.name, kept.display()),
            Err(error) => eprintln!("{} failed, and its evidence cannot be kept: {error}", row.name),
        }
    }
    let outcome = if scene.outcomes.is_empty() { "held".into() } else { scene.outcomes.join(", ") };
    (outcome, verdict)
}

/// Keeps what one needs to find out why a row failed: the history, what the nodes said and held, and the verdict.
fn keep(row: &Row, round: usize, scene: &Scene, evidence: &Evidence, verdict: &Verdict) -> std::io::Result<PathBuf> {
    let name: String =
        row.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(format!("{name}-{round}"));
    fs::create_dir_all(&dir)?;
    scene.history.write(&dir.join("history.ndjson"))?;
    for number in 0..scene.size {
        fs::copy(scene.nodes.log_path(number), dir.join(format!("n{number}.log")))?;
        fs::copy(scene.nodes.config(number), dir.join(format!("n{number}.toml")))?;
    }
    fs::write(dir.join("stored.txt"), format!("{:#?}", evidence.stored))?;
    let told = [&scene.proofs, &scene.outcomes, &verdict.violations].map(|lines| lines.join("\n")).join("\n\n");
    fs::write(dir.join("verdict.txt"), format!("{row:?}\n\n{told}\n"))?;
    Ok(dir)
}
