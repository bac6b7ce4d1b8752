//! What the controller tells about itself, over real connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use spillway_controller::serve::{Format, Health, Served, Server, log_to};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Status and body of one answer.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: controller\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    let body = answer.split_once("\r\n\r\n").context("no body")?.1;
    Ok((status, body.to_owned()))
}

#[tokio::test]
async fn it_tells_how_it_is_until_it_ends() -> Result<()> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(loopback, loopback).await?;
    let (public, admin) = server.addresses()?;
    let (_log, level) = log_to(std::io::sink, Format::Json, "info")?;
    let health = Health::default();
    let served = Served {
        health: health.clone(),
        metrics: Default::default(),
        candidate: None,
        level,
    };
    let end = CancellationToken::new();
    let running = tokio::spawn(server.run(served, end.clone()));

    let need = health.need("the hub's resources");
    assert_eq!(
        ask(public, "GET", "/healthz", "").await?,
        (200, "ok\n".to_owned())
    );
    let waits = (503, "waits for the hub's resources\n".to_owned());
    assert_eq!(ask(public, "GET", "/readyz", "").await?, waits);
    need.met();
    assert_eq!(ask(public, "GET", "/readyz", "").await?.0, 200);
    let long_ago = Instant::now()
        .checked_sub(Duration::from_secs(60))
        .context("booted just now")?;
    let pulse = health.pulse("the planner", Duration::from_secs(30), long_ago);
    let (status, stuck) = ask(public, "GET", "/healthz", "").await?;
    assert_eq!(status, 503);
    assert!(stuck.starts_with("the planner is stuck"), "{stuck}");
    pulse.beat(Instant::now());
    assert_eq!(ask(public, "GET", "/healthz", "").await?.0, 200);

    let (status, metrics) = ask(public, "GET", "/metrics", "").await?;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("spillway_controller_leader 1\n"),
        "{metrics}"
    );

    // What changes something is not to be had by the cluster.
    assert_eq!(ask(public, "PUT", "/loglevel", "debug").await?.0, 404);
    assert_eq!(
        ask(admin, "PUT", "/loglevel", "debug\n").await?,
        (200, "debug\n".to_owned())
    );
    let (status, error) = ask(admin, "PUT", "/loglevel", "loud").await?;
    assert_eq!(status, 400);
    assert!(
        error.starts_with("`loud` is no log level: write"),
        "{error}"
    );
    assert_eq!(
        ask(admin, "GET", "/loglevel", "").await?,
        (200, "debug\n".to_owned())
    );

    end.cancel();
    running.await??;
    assert!(TcpStream::connect(public).await.is_err());
    Ok(())
}
