//! Lies that one node is told about its clock and its disks, by `preload.c` in its process.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A disk's file, and a lie about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Log = 2,
    Store = 4,
}

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works = 0,
    FailsWrites = 1,
    IsFull = 2,
    Stalls = 3,
    FailsReads = 4,
}

/// What one node is told.
pub struct Lies {
    path: PathBuf,
    file: File,
}

impl Lies {
    /// None yet; `path` is the file that is shared with the node.
    pub fn new(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        file.set_len(4096)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The environment in which a node listens to them.
    pub fn environment(&self) -> Result<Vec<(String, String)>, String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let library = library()?;
        Ok(vec![("LD_PRELOAD".into(), path(&library)), ("FAULTS_CONTROL".into(), path(&self.path))])
    }

    pub fn clock_is_ahead_by(&self, ms: i64) {
        self.set(0, ms);
    }

    /// How often the node was told a wrong time.
    pub fn wrong_times(&self) -> i64 {
        self.get(1)
    }

    pub fn disk(&self, disk: Disk, mode: Mode) {
        self.set(disk as u64, mode as i64);
    }

    /// How many calls a disk's fault has met.
    pub fn met(&self, disk: Disk) -> i64 {
        self.get(disk as u64 + 1)
    }

    fn set(&self, word: u64, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), word * 8).expect("the shared file can be written");
    }

    fn get(&self, word: u64) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, word * 8).expect("the shared file can be read");
        i64::from_ne_bytes(bytes)
    }
}

/// Compiles `preload.c`, once in a process: where Rust links there is a C compiler.
fn library() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/preload.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("preload-{}.so", std::process::id()));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut command = Command::new(&compiler);
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-ldl");
        let output = command.output().map_err(|error| format!("cannot run {}: {error}", compiler.display()))?;
        if output.status.success() { Ok(library) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    };
    BUILT.get_or_init(build).clone()
}
