//! The secret that a cluster's nodes share: how long it has to be, and the file that may hold it.

use std::{
    fs, io,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

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
        let failed = |error: io::Error| format!("cluster.cookie_file: {}: {error}", path.display());
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, random).map_err(failed)?;
                fs::read_to_string(path).map_err(failed)?
            }
            text => text.map_err(failed)?,
        };
        let cookie = text.trim();
        match self.too_weak(cookie) {
            Some(reason) => Err(format!("cluster.cookie_file: {}: {reason}", path.display())),
            None => Ok(cookie.to_owned()),
        }
    }
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
    use std::os::unix::fs::PermissionsExt as _;

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
