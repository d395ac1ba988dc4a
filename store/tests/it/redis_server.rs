//! A Redis of a test's own, on a socket in a directory of its own: to be flushed, killed, paused.

use crate::shop::until;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) struct RedisServer {
    dir: TempDir,
    child: Child,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("velox-redis.").tempdir().expect("a directory");
        let server = RedisServer { child: spawn(&dir), dir };
        server.answers().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}/socket", self.dir.path().display())
    }

    pub(crate) async fn answers(&self) {
        until("an answer of Redis", async || self.ask::<String>(&["PING"]).await.is_ok()).await;
    }

    /// Asks it as an operator.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }

    /// The value of a key.
    pub(crate) async fn value(&self, key: &str) -> Option<String> {
        self.ask(&["GET", key]).await.expect("a value")
    }

    /// Forgets everything, as a restart without a dump does.
    pub(crate) async fn flush(&self) {
        self.ask::<String>(&["FLUSHALL"]).await.expect("a flush");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }

    /// Comes back empty after [`RedisServer::kill`].
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.dir);
        self.answers().await;
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &TempDir) -> Child {
    Command::new("redis-server")
        .current_dir(dir.path())
        .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server: `./dev setup test` installs it")
}
