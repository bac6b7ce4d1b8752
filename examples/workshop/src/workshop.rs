//! The workshop as a whole: a Redis server, workers, the mesh, the load and the board, started
//! together and ended together.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::board::{self, Board, InForce};
use crate::channel::RedisServer;
use crate::fleet::{self, Fleet};
use crate::load::{self, Caller};
use crate::settings::{Change, Settings};
use crate::tally::Tally;
use crate::worker;

/// A running workshop; all of it ends when this is dropped.
pub(crate) struct Workshop {
    /// What happens now.
    pub(crate) board: Arc<Board>,
    control: Mutex<Control>,
    frequency: watch::Sender<u32>,
    _tasks: JoinSet<()>,
    _redis: RedisServer,
}

/// What a change of settings needs, one change at a time.
struct Control {
    fleet: Fleet,
    in_force: InForce,
}

/// Why a change of settings was not made.
pub(crate) enum Refused {
    /// It asks for something wrong: every reason.
    Wrong(Vec<String>),
    /// The mesh did not take it.
    Failed(anyhow::Error),
}

impl Workshop {
    /// Starts everything, with nothing offered yet, and waits until requests can pass.
    ///
    /// # Errors
    /// When a part does not start; what has been started is ended.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        let settings = Settings {
            frequency: 0,
            ..Settings::default()
        };
        let mut fleet = Fleet::start(settings)
            .await
            .context("the mesh does not start")?;
        let publisher = redis.client.get_multiplexed_async_connection().await?;
        for (endpoint, address) in fleet.places().await? {
            worker::start(endpoint.name, address, publisher.clone()).await?;
        }
        let in_force = InForce {
            settings,
            generation: fleet.generation(),
            applied_ms: 0,
        };

        let names = fleet::ENDPOINTS
            .iter()
            .map(|endpoint| (endpoint.name.to_owned(), endpoint.burst));
        let board = Arc::new(Board::new(
            Tally::new(names, fleet::OVERFLOW_PREFIX),
            in_force,
        ));
        let (frequency, changes) = watch::channel(0);
        let caller = Caller::new(&fleet.target()?);
        let subscription = board::subscribe(&redis.client).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&board).listen(subscription));
        tasks.spawn(Arc::clone(&board).run());
        tasks.spawn(load::run(Arc::clone(&board), caller, changes));
        let control = Mutex::new(Control { fleet, in_force });
        Ok(Self {
            board,
            control,
            frequency,
            _tasks: tasks,
            _redis: redis,
        })
    }

    /// Brings a change of settings into force: the frequency at once, the policy as a new plugin
    /// configuration of every sidecar.
    ///
    /// # Errors
    /// When the change is wrong, or the mesh does not take it: then nothing is changed.
    pub(crate) async fn change(&self, change: &Change) -> Result<InForce, Refused> {
        let mut control = self.control.lock().await;
        let old = control.in_force;
        let settings = old
            .settings
            .with(change, SystemTime::now())
            .map_err(Refused::Wrong)?;
        let mut next = InForce { settings, ..old };
        if settings.policy_differs(old.settings) {
            let begun = Instant::now();
            control
                .fleet
                .apply(settings)
                .await
                .map_err(Refused::Failed)?;
            next.generation = control.fleet.generation();
            next.applied_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        control.in_force = next;
        self.board.in_force(next);
        self.frequency.send_replace(settings.frequency);
        Ok(next)
    }

    /// Sets the frequency.
    ///
    /// # Errors
    /// When it is out of bounds.
    pub(crate) async fn set_frequency(&self, frequency: u32) -> anyhow::Result<()> {
        match self.change(&Change::of_frequency(frequency)).await {
            Ok(_) => Ok(()),
            Err(Refused::Wrong(reasons)) => Err(anyhow::anyhow!(reasons.join(" "))),
            Err(Refused::Failed(error)) => Err(error),
        }
    }
}
