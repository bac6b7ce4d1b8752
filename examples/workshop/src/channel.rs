//! The Redis channel on which workers publish and the frontend listens, and the private server
//! behind it.
//!
//! The server keeps nothing on disk, listens at a loopback address of its own (so that its port is
//! nobody else's) and ends with the workshop.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redis::Client;
use spillway_e2e::address::Block;
use spillway_e2e::process::Process;
use tokio::time::{Instant, sleep};

/// Name of the channel.
pub(crate) const CHANNEL: &str = "calculation";

/// Redis' own port.
const PORT: u16 = 6379;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(10);

/// A running redis-server, which is killed when this is dropped or the workshop ends in any way.
pub(crate) struct RedisServer {
    /// A client of it.
    pub(crate) client: Client,
    // The process first: it ends before its address is given up.
    _process: Process,
    _block: Block,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When there is no redis-server, or it does not answer in time.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut block = Block::take()?;
        let address = block.next_address()?.to_string();
        let port = PORT.to_string();
        let arguments = [
            "--bind",
            &address,
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
        ];
        let arguments = arguments.map(ToOwned::to_owned);
        let mut process = Process::start(
            Path::new("redis-server"),
            &arguments,
            Path::new("/dev/null"),
        )?;
        let client = Client::open(format!("redis://{address}:{PORT}"))?;
        let deadline = Instant::now() + START;
        while let Err(error) = client.get_multiplexed_async_connection().await {
            if !process.is_running() {
                bail!("redis-server does not run; is Debian's package redis-server installed?");
            }
            if Instant::now() > deadline {
                return Err(error).context("redis-server does not answer");
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            client,
            _process: process,
            _block: block,
        })
    }
}
