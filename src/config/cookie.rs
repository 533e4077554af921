//! The secret that a cluster's nodes share: how long it has to be, and the file that may hold it.

use std::{
    fmt, fs, io,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroize as _;

use super::ClusterConfig;
use crate::env::Random;

impl ClusterConfig {
    /// Fewer characters can be guessed.
    pub const SHORTEST_COOKIE: usize = 16;

    /// Why a secret will not do; none when it will. Where other nodes can only be on this machine, a short one will do:
    /// whoever may connect there may mostly read the file too.
    pub(super) fn too_weak(&self, cookie: &str) -> Option<String> {
        let length = cookie.chars().count();
        if length == 0 {
            return Some("it is empty; choose a secret that all nodes share".into());
        }
        (length < Self::SHORTEST_COOKIE && !self.is_local()).then(|| {
            format!(
                "{length} characters can be guessed; take at least {}, such as those of `openssl rand -hex 16`",
                Self::SHORTEST_COOKIE
            )
        })
    }

    fn is_local(&self) -> bool {
        let host = self.listen_address.rsplit_once(':').map_or(&*self.listen_address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The secret, from its file where one is named. A file that is not there is made, with a random secret, readable by its
    /// owner only. Processes that start together end up with one file.
    ///
    /// # Errors
    /// When the file cannot be read or made, or what it holds will not do. The text names the file.
    pub fn secret(&self, random: &dyn Random) -> Result<String, String> {
        let Some(path) = &self.cookie_file else { return Ok(self.cookie.clone()) };
        match self.read(path)? {
            Some(cookie) => Ok(cookie),
            None => {
                make(path, random).map_err(|error| named(path, &error))?;
                self.read(path)?.ok_or_else(|| named(path, &"it was made, and is gone again"))
            }
        }
    }

    /// Overwrites the secret, which nothing needs once the keys are made of it.
    pub fn forget_secret(&mut self) {
        self.cookie.zeroize();
    }

    /// Looks at the secret's file as a start would, without making it. Gives what a person should know of a file that will
    /// do.
    ///
    /// # Errors
    /// As [`ClusterConfig::secret`].
    pub fn check_file(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.cookie_file else { return Ok(None) };
        if self.read(path)?.is_none() {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return match fs::metadata(dir) {
                Ok(found) if found.is_dir() => Ok(None),
                Ok(_) => Err(named(path, &format!("{} is no directory", dir.display()))),
                Err(error) => Err(named(path, &format!("it cannot be made in {}: {error}", dir.display()))),
            };
        }
        let mode = fs::metadata(path).map_err(|error| named(path, &error))?.permissions().mode() & 0o777;
        let others = mode & 0o077;
        Ok((others != 0).then(|| {
            named(path, &format!("its mode is {mode:04o}: whoever reads it can join the cluster; `chmod 600` it"))
        }))
    }

    /// None when the file is not there.
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| named(path, &error))?,
        };
        let cookie = text.trim();
        match self.too_weak(cookie) {
            Some(reason) => Err(named(path, &reason)),
            None => Ok(Some(cookie.to_owned())),
        }
    }
}

fn named(path: &Path, what: &dyn fmt::Display) -> String {
    format!("cluster.cookie_file: {}: {what}", path.display())
}

/// Makes the file whole, under another name first: whoever reads it meanwhile finds all of it or nothing. Where another
/// process is faster, its file stays.
fn make(path: &Path, random: &dyn Random) -> io::Result<()> {
    let secret = random.secret();
    let draft = PathBuf::from(format!("{}.{:016x}", path.display(), random.next_u64()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = writeln!(file, "{secret}").and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
        Ok(()) => tracing::info!(file = %path.display(), "made a random cookie: nodes elsewhere need this very file"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    fn at(listen_address: &str) -> ClusterConfig {
        ClusterConfig { listen_address: listen_address.into(), ..ClusterConfig::default() }
    }

    #[test]
    fn a_short_secret_will_do_on_loopback_only() {
        let short = at("0.0.0.0:7301").too_weak("fifteen letters").unwrap();
        assert!(short.contains("15 characters") && short.contains("at least 16"), "{short}");
        assert_eq!(at("0.0.0.0:7301").too_weak("sixteen letters!"), None);
        for local in ["127.0.0.1:7301", "[::1]:7301", "localhost:7301"] {
            assert_eq!(at(local).too_weak("short"), None);
            assert!(at(local).too_weak("").is_some());
        }
        assert!(at("box:7301").too_weak("short").is_some());
    }

    #[test]
    fn a_file_that_is_not_there_is_made_once_for_all_that_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookie");
        let config = ClusterConfig { cookie_file: Some(path.clone()), ..at("0.0.0.0:7301") };
        let env = Env::real();
        let secrets: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| config.secret(&*env.random).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(secrets[0].len(), 64);
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_is_looked_at_without_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookie");
        let config = ClusterConfig { cookie_file: Some(path.clone()), ..at("0.0.0.0:7301") };
        assert_eq!(config.check_file(), Ok(None), "a start would make it");
        assert!(!path.exists());
        fs::write(&path, "sixteen letters!\n").unwrap();
        let mode = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(config.check_file(), Ok(None));
        mode(0o640);
        let warning = config.check_file().unwrap().unwrap();
        assert!(warning.contains("cookie: its mode is 0640") && warning.contains("chmod 600"), "{warning}");
        fs::write(&path, "short\n").unwrap();
        assert!(config.check_file().unwrap_err().contains("5 characters"));
        fs::write(&path, b"\xff\xfe and many letters more").unwrap();
        assert!(config.check_file().unwrap_err().contains("UTF-8"));
        let nowhere = ClusterConfig { cookie_file: Some(dir.path().join("no/cookie")), ..at("0.0.0.0:7301") };
        assert!(nowhere.check_file().unwrap_err().contains("No such file"));
        let directory = ClusterConfig { cookie_file: Some(dir.path().to_owned()), ..at("0.0.0.0:7301") };
        assert!(directory.check_file().is_err());
    }

    #[test]
    fn a_file_that_will_not_do_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookie");
        let config = ClusterConfig { cookie_file: Some(path.clone()), ..at("0.0.0.0:7301") };
        fs::write(&path, "short\n").unwrap();
        let error = config.secret(&*Env::real().random).unwrap_err();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("5 characters"), "{error}");
        let nowhere = ClusterConfig { cookie_file: Some(dir.path().join("no/cookie")), ..at("0.0.0.0:7301") };
        let error = nowhere.secret(&*Env::real().random).unwrap_err();
        assert!(error.contains("no/cookie") && error.contains("No such file"), "{error}");
    }
}
