//! A `velox serve` of our own: a child process on a free loopback port, with a data directory that goes with it.
//!
//! Never here: what is asked of it, beyond stores and devices.

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::http::{self, Connection};
use crate::measure;

/// A first start makes a PostgreSQL cluster.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A node drains for 20 s at most; its PostgreSQL gets the rest.
const STOP_LIMIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);
/// Lines of the node's log that an error shows.
const LOG_TAIL: usize = 20;

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    address: SocketAddr,
    admin_key: String,
    dir: TempDir,
}

/// Bytes of memory of the node's process, without its PostgreSQL.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

impl Node {
    /// Starts `velox serve` and waits until it is ready. Without a URL it runs its embedded PostgreSQL.
    pub(crate) async fn start(velox: &Path, admin_key: String, database_url: Option<&str>) -> Result<Self> {
        // Started by root, PostgreSQL runs as somebody else, who has to pass through here.
        let dir = tempfile::Builder::new()
            .prefix("velox-chaos.")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()?;
        let address = free_address()?;
        let log = File::create(dir.path().join("node.log"))?;
        let mut command = Command::new(velox);
        command.arg("serve").current_dir(dir.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // What the caller's shell configures is another node's: its database, its peers.
        for key in
            ["VELOX_DATABASE_URL", "VELOX_REDIS_URL", "VELOX_PEERS", "VELOX_NODE_ID", "VELOX_JWT_SECRET"]
        {
            command.env_remove(key);
        }
        command.env("VELOX_LISTEN", address.to_string());
        command.env("VELOX_DATA_DIR", dir.path().join("data"));
        command.env("VELOX_ADMIN_KEY", &admin_key);
        command.env("VELOX_RATE_LIMIT_RPS", "1000000").env("VELOX_RATE_LIMIT_BURST", "1000000");
        command.env("VELOX_LOG", "warn");
        if let Some(url) = database_url {
            command.env("VELOX_DATABASE_URL", url);
        }
        let child = command.spawn().with_context(|| velox.display().to_string())?;
        let mut node = Node { child, address, admin_key, dir };
        if let Err(error) = node.wait_until_ready().await {
            // Not by drop: a killed node leaves its PostgreSQL behind.
            return match node.stop().await {
                Ok(()) => Err(error),
                Err(stopping) => Err(error.context(stopping)),
            };
        }
        Ok(node)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let started = measure::now();
        let request = http::request("GET", "/readyz", &self.admin_key, "");
        let mut last = String::new();
        while started.elapsed() < READY_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!("the node ended with {status}\n{}", self.log_tail());
            }
            match Connection::open(self.address).await {
                Ok(mut connection) => match connection.send(&request).await {
                    Ok(answer) if answer.status == 200 => return Ok(()),
                    Ok(answer) => last = format!("{}: {}", answer.status, answer.text()),
                    Err(error) => last = error.to_string(),
                },
                Err(error) => last = error.to_string(),
            }
            sleep(POLL).await;
        }
        bail!("the node is not ready after {} s ({last})\n{}", READY_LIMIT.as_secs(), self.log_tail())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The end of what the node wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read(self.dir.path().join("node.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    pub(crate) async fn add_store(&self, store_id: Uuid, name: &str) -> Result<()> {
        let body = serde_json::json!({ "store_id": store_id, "name": name });
        self.admin("/admin/stores", &body).await.map(|_: serde_json::Value| ())
    }

    /// Registers a device and returns its token.
    pub(crate) async fn add_device(&self, store_id: Uuid, device_id: Uuid) -> Result<String> {
        #[derive(Deserialize)]
        struct Device {
            token: String,
        }
        let body = serde_json::json!({ "store_id": store_id, "device_id": device_id });
        self.admin("/admin/devices", &body).await.map(|device: Device| device.token)
    }

    async fn admin<T: serde::de::DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T> {
        let mut connection = Connection::open(self.address).await?;
        let request = http::request("POST", path, &self.admin_key, &body.to_string());
        connection.send(&request).await?.json().with_context(|| format!("POST {path}"))
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let pid = self.child.id().context("the node has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Memory::read(&status).context("no memory figures in the process's status")
    }

    /// SIGTERM, as an operator stops it; what does not end in time is killed, and that is an error.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().context("the node had ended before")?;
        let told = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        ensure!(told.success(), "the node's process is gone");
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure!(status.success(), "the node ended with {status}\n{}", self.log_tail());
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                bail!("the node did not stop in {} s\n{}", STOP_LIMIT.as_secs(), self.log_tail())
            }
        }
    }
}

impl Memory {
    /// From `/proc/PID/status`.
    fn read(status: &str) -> Option<Self> {
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        };
        Some(Memory { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// The `velox` beside this program.
pub(crate) fn velox_beside_us() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("velox");
    ensure!(path.is_file(), "there is no {}: build it, or name one with --velox", path.display());
    Ok(path)
}

/// Free a moment ago; the node is the next to ask for a port.
fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let memory =
            Memory::read("Name:\tvelox\nVmHWM:\t   81920 kB\nVmRSS:\t   40960 kB\n").expect("figures");
        assert_eq!((memory.now, memory.peak), (40 << 20, 80 << 20));
        assert!(Memory::read("Name:\tvelox\n").is_none());
    }
}
