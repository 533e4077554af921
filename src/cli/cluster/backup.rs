//! `liminal cluster backup` and `restore`, and the file between them.
//!
//! The file: 8 bytes that name the format; then blocks, each a length (4 bytes, little endian), a BLAKE3 hash (32
//! bytes) and that many bytes: the encoded head first, then pages of the state; then a length of zero and the BLAKE3 hash
//! of everything before it. The head also says what the hash of the restored state must be.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost::Message as _;

use crate::{
    cli::{
        CliError, Global, OutputFormat, config,
        remote::{print_json, print_line, thousands},
    },
    client::{Client, ClientError},
    env::Env,
    node::Storage,
    proto::v1::BackupHead,
    raft::Restore,
    sequencer::NodeAddress,
    store::StateHash,
};

const MAGIC: &[u8; 8] = b"LMNLBK01";
/// No block is larger: a page has about a megabyte, and a value may have a few.
const MAX_BLOCK: u32 = 64 << 20;

/// Writes blocks, and remembers the hash of all.
struct Writer<W> {
    out: W,
    all: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    fn begin(out: W) -> io::Result<Self> {
        let mut writer = Self { out, all: blake3::Hasher::new(), bytes: 0 };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.all.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn block(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).ok().filter(|len| (1..=MAX_BLOCK).contains(len));
        let len = len.ok_or_else(|| io::Error::other(format!("a block of {} bytes", bytes.len())))?;
        self.put(&len.to_le_bytes())?;
        self.put(blake3::hash(bytes).as_bytes())?;
        self.put(bytes)
    }

    fn finish(mut self) -> io::Result<W> {
        self.put(&[0; 4])?;
        let hash = self.all.finalize();
        self.out.write_all(hash.as_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads blocks, and refuses what was not written.
struct Reader<R> {
    input: R,
    all: blake3::Hasher,
    at: u64,
}

impl<R: Read> Reader<R> {
    fn begin(input: R) -> io::Result<Self> {
        let mut reader = Self { input, all: blake3::Hasher::new(), at: 0 };
        let magic: [u8; 8] = reader.take()?;
        if &magic != MAGIC {
            return Err(bad(format!("it begins with `{}`: it is no backup of this format", magic.escape_ascii())));
        }
        Ok(reader)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad(format!("it ends early, after byte {}", self.at)),
            _ => error,
        })?;
        self.all.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The next block; none at the end, once the hash of everything is right.
    fn block(&mut self) -> io::Result<Option<Bytes>> {
        let begin = self.at;
        let len = u32::from_le_bytes(self.take()?);
        if len == 0 {
            let expected = self.all.finalize();
            let found: [u8; 32] = self.take()?;
            if found != *expected.as_bytes() {
                return Err(bad("the checksum of the whole file is wrong".into()));
            }
            return Ok(None);
        }
        if len > MAX_BLOCK {
            return Err(bad(format!("the block at byte {begin} claims {len} bytes; the most is {MAX_BLOCK}")));
        }
        let hash: [u8; 32] = self.take()?;
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes)?;
        if blake3::hash(&bytes) != blake3::Hash::from(hash) {
            return Err(bad(format!("the checksum of the block at byte {begin} is wrong")));
        }
        Ok(Some(bytes.into()))
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Shows on a terminal how far it is; how much there is to do may not be known.
fn progress(what: &'static str, bytes: u64) -> ProgressBar {
    let (bar, template) = match bytes {
        0 => (ProgressBar::new_spinner(), "{msg} {bytes}, {bytes_per_sec}"),
        bytes => (ProgressBar::new(bytes), "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}"),
    };
    // Hidden by itself where standard error is no terminal.
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

/// Writes a backup.
pub async fn backup(client: &Client, file: &Path, global: &Global) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::failed(format!("cannot write {}: {error}", file.display()));
    if file.exists() {
        return Err(CliError::usage(format!("{} is there already; name another file", file.display())));
    }
    let partial = PathBuf::from(format!("{}.partial", file.display()));
    let mut chunks = client.backup().await?;
    let broken = |error: ClientError| CliError::failed(format!("the backup broke off: {}", error.message()));
    let head = chunks.part().await.map_err(broken)?.and_then(|chunk| chunk.head).map(BackupHead::from);
    let head = head.ok_or_else(|| CliError::failed("the server sent no head".into()))?;
    let mut writer = Writer::begin(BufWriter::new(File::create(&partial).map_err(failed)?)).map_err(failed)?;
    writer.block(&head.encode_to_vec()).map_err(failed)?;
    let progress = progress("backing up", head.bytes);
    while let Some(chunk) = chunks.part().await.map_err(broken)? {
        writer.block(&chunk.page).map_err(failed)?;
        progress.set_position(writer.bytes);
    }
    progress.finish_and_clear();
    let bytes = writer.bytes;
    let out = writer.finish().map_err(failed)?.into_inner().map_err(|error| failed(error.into_error()))?;
    out.sync_all().map_err(failed)?;
    fs::rename(&partial, file).map_err(failed)?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    let (index, mib) = (head.log_index, bytes >> 20);
    match global.output {
        OutputFormat::Json => {
            let hash = hex(&head.state_hash);
            print_json(
                &serde_json::json!({ "log_index": index, "state_hash": hash, "bytes": bytes, "epoch": head.epoch }),
            )
        }
        OutputFormat::Raw => print_line(&index.to_string()),
        OutputFormat::Table => {
            print_line(&format!("{mib} MiB, the state after log entry {}; try it: `restore`", thousands(index)))
        }
    }
}

/// Begins a new cluster with a backup's state.
pub async fn restore(file: &Path, config_file: &Path, global: &Global) -> Result<(), CliError> {
    let unreadable = |error: io::Error| CliError::failed(format!("cannot use {}: {error}", file.display()));
    let config = config::load(Some(config_file), Vec::new())?.config;
    let Some(dir) = config.persistence_path.clone() else {
        let message = format!("{} has no `persistence_path`: the state needs a directory", config_file.display());
        return Err(CliError::usage(message));
    };
    if dir.exists() && fs::read_dir(&dir).map_err(unreadable)?.next().is_some() {
        let message = format!("{} is not empty; a restored state begins in a new directory", dir.display());
        return Err(CliError::usage(message));
    }
    // All of it is checked before anything is written.
    let total = fs::metadata(file).map_err(unreadable)?.len();
    let checking = progress("checking", total);
    let mut check = Reader::begin(BufReader::new(File::open(file).map_err(unreadable)?)).map_err(unreadable)?;
    while check.block().map_err(unreadable)?.is_some() {
        checking.set_position(check.at);
    }
    checking.finish_and_clear();
    let mut reader = Reader::begin(BufReader::new(File::open(file).map_err(unreadable)?)).map_err(unreadable)?;
    let head = reader.block().map_err(unreadable)?.ok_or_else(|| unreadable(bad("it holds no head".into())))?;
    let head = BackupHead::decode(head).map_err(|error| unreadable(bad(error.to_string())))?;
    let hash = <[u8; 32]>::try_from(head.state_hash.as_ref());
    let hash = hash.map_err(|_| unreadable(bad("its head names no hash of 32 bytes".into())))?;

    let storage = {
        let config = config.clone();
        let opened = tokio::task::spawn_blocking(move || Storage::open(&config, &Env::real())).await;
        let opened = opened.map_err(|error| CliError::failed(error.to_string()))?;
        opened.map_err(|error| CliError::failed(error.to_string()))?
    };
    let machine = crate::env::hostname();
    let cluster = config.cluster.as_ref();
    let peer = cluster.map_or("127.0.0.1:0", |cluster| cluster.listen_address.as_str());
    let node = NodeAddress {
        id: 0,
        name: storage.identity.node_name(),
        peer: config.advertised(cluster.and_then(|cluster| cluster.advertise_address.as_ref()), peer, &machine),
        client: config.advertised(config.advertise_address.as_ref(), &config.listen_address, &machine),
        http: config.advertised(config.advertise_http_address.as_ref(), &config.health_listen_address, &machine),
    };
    let epoch = head.epoch.max(1) + 1;
    let store = Arc::clone(&storage.store);
    let restore = Restore { store: storage.store, log: storage.log, identity: storage.identity, node, epoch };
    let restoring = progress("restoring", total);
    let restored = restore
        .run(StateHash(hash), async || {
            let block = reader.block();
            restoring.set_position(reader.at);
            block
        })
        .await;
    restoring.finish_and_clear();
    if let Err(error) = restored {
        let _ = store.close().await; // whatever it holds goes
        let _ = fs::remove_dir_all(&dir); // else the next try names it
        return Err(CliError::failed(format!("cannot restore {}: {error}", file.display())));
    }
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "log_index": head.log_index, "epoch": epoch })),
        OutputFormat::Raw => print_line(&epoch.to_string()),
        OutputFormat::Table => print_line(&format!(
            "restored into {}: epoch {epoch}, a cluster of one node. Start it with `liminal serve --config {}`; nodes \
             with empty directories that have it among their seeds join by themselves",
            dir.display(),
            config_file.display()
        )),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(blocks: &[&[u8]]) -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new()).unwrap();
        blocks.iter().for_each(|block| writer.block(block).unwrap());
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Bytes>> {
        let mut reader = Reader::begin(bytes)?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.block()? {
            blocks.push(block);
        }
        Ok(blocks)
    }

    #[test]
    fn a_file_gives_back_its_blocks_and_any_damage_is_refused() {
        let whole = file(&[b"head", b"page one", b"page two"]);
        assert_eq!(read(&whole).unwrap(), ["head", "page one", "page two"].map(Bytes::from));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).is_err(), "a flipped bit in byte {at}");
            assert!(read(&whole[..at]).is_err(), "cut at byte {at}");
        }
    }
}
