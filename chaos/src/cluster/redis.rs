//! A Redis server of our own, without persistence: what it knew is gone with its process.
//!
//! Never here: what a node keeps in it.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::pod::free_address;
use super::{process, wait_until};

/// Longest time for one command.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// Ports that are tried at the start.
const PORT_TRIES: usize = 5;
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// A server on a loopback port that it keeps.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    address: SocketAddr,
    dir: TempDir,
}

impl Redis {
    /// Starts `redis-server` from the search path and waits until it answers.
    ///
    /// # Errors
    /// Where it is not installed or does not answer.
    pub async fn start() -> Result<Self> {
        let mut redis = Redis { child: None, address: free_address()?, dir: tempfile::tempdir()? };
        for _ in 1..PORT_TRIES {
            if redis.restart().await.is_ok() {
                return Ok(redis);
            }
            // Somebody else may have drawn the same port at the same moment.
            redis.address = free_address()?;
        }
        redis.restart().await?;
        Ok(redis)
    }

    /// Where it listens, also after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `VELOX_REDIS_URL`; through a link: `redis://` and the link's address.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Sends a command of plain words and returns the answer as it comes, such as `+OK`.
    ///
    /// # Errors
    /// Where no answer comes, or an error is the answer.
    pub async fn command(&self, words: &str) -> Result<String> {
        let told = async {
            let mut stream = TcpStream::connect(self.address).await?;
            // The last of two answers ends what the server sends.
            stream.write_all(format!("{words}\r\nQUIT\r\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(MAX_ANSWER as u64).read_to_end(&mut answer).await?;
            anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = timeout(COMMAND_LIMIT, told).await.with_context(|| format!("redis: {words}"))??;
        let answer = answer.strip_suffix("+OK\r\n").unwrap_or(&answer).trim_end().to_owned();
        ensure!(!answer.is_empty() && !answer.starts_with('-'), "redis: {words}: {answer}");
        Ok(answer)
    }

    /// Makes it forget everything.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn flush(&self) -> Result<()> {
        self.command("FLUSHALL").await.map(|_| ())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Where it does not run, as the next ones.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.take().context("redis does not run")?.kill().await.context("the process of redis")
    }

    /// SIGSTOP: it takes connections and answers nothing, until [`Redis::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&self) -> Result<()> {
        process::pause(self.running()?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn resume(&self) -> Result<()> {
        process::signal(self.running()?, Signal::CONT)
    }

    /// Starts it again, empty, at its old address.
    ///
    /// # Errors
    /// Where it runs, is not installed, or does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "redis runs already");
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.current_dir(self.dir.path()).kill_on_drop(true);
        let log = self.dir.path().join("redis.log");
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::null());
        let mut child = command.spawn().context("redis-server (apt-get install redis-server)")?;
        let answering = wait_until("redis", async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Ok(Err(status));
            }
            self.command("PING").await.map(Ok).map_err(|error| format!("{error:#}"))
        });
        match answering.await? {
            Ok(_) => self.child = Some(child),
            Err(status) => {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                bail!("redis-server ended with {status}: {}", log.lines().last().unwrap_or_default())
            }
        }
        Ok(())
    }

    fn running(&self) -> Result<u32> {
        self.child.as_ref().and_then(Child::id).context("redis does not run")
    }
}
