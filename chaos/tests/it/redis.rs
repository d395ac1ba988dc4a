//! A Redis server of our own, directly and behind a link.

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use velox_chaos::cluster::Redis;
use velox_chaos::faulty_network::Link;

#[tokio::test]
async fn a_redis_forgets_dies_stands_still_and_comes_back() {
    let mut redis = Redis::start().await.expect("a redis");
    assert_eq!(redis.command("SET lease me").await.expect("an answer"), "+OK");
    assert_eq!(redis.command("GET lease").await.expect("an answer"), "$2\r\nme");
    redis.flush().await.expect("an answer");
    assert_eq!(redis.command("GET lease").await.expect("an answer"), "$-1");
    redis.pause().expect("a process");
    let paused = tokio::time::timeout(Duration::from_millis(200), redis.command("PING")).await;
    assert!(paused.is_err(), "{paused:?}");
    redis.resume().expect("a process");
    assert_eq!(redis.command("PING").await.expect("an answer"), "+PONG");
    redis.kill().await.expect("a process");
    assert!(redis.command("PING").await.is_err());
    redis.restart().await.expect("a redis");
    assert_eq!(redis.command("PING").await.expect("an answer"), "+PONG");
}

#[tokio::test]
async fn a_link_before_redis_is_cut_and_healed() {
    let redis = Redis::start().await.expect("a redis");
    let link = Link::to(redis.address()).expect("a link");
    let ping = async || {
        let mut stream = TcpStream::connect(link.address()).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    assert_eq!(&ping().await.expect("an answer"), b"+PONG\r\n");
    link.cut();
    assert!(ping().await.is_err());
    link.heal();
    assert_eq!(&ping().await.expect("an answer"), b"+PONG\r\n");
}
