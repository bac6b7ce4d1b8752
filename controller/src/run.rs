//! What the program does: control a fleet, or render a folder once.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use spillway_plan::Mesh;
use spillway_plan::settings::Tokens;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clusters::count::Calls;
use crate::clusters::{client, identity};
use crate::discover::Discovery;
use crate::engine::backoff::Backoff;
use crate::engine::publish::Statuses;
use crate::engine::{Engine, Inputs, Options};
use crate::image::{self, Images};
use crate::lead::{self, Candidate, Terms};
use crate::metrics::{Metrics, Peer};
use crate::serve::{Health, LogLevel, Served, Server};
use crate::settings::Settings;
use crate::target::{directory, source};
use crate::tokens::secret::Found;
use crate::tokens::{self, Rotation};

/// The filter's image is looked for again after this time.
const IMAGE: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(180));
/// Within this time after the signal it has ended, whatever hangs: less than a pod is given.
const GRACE: Duration = Duration::from_secs(25);
/// The last answers are given within this time.
const CLOSING: Duration = Duration::from_secs(2);
const CREDENTIALS: &str = "the hub's credentials";

/// Renders a folder once, with the tokens of a file.
///
/// # Errors
/// When the tokens or the source cannot be read, or the target not be written.
pub fn render(settings: &Settings, tokens: &Path, from: &Path, to: &Path) -> Result<()> {
    let place = || format!("--tokens {}", tokens.display());
    let text = fs::read_to_string(tokens).with_context(place)?;
    let tokens: Tokens = text.parse().with_context(place)?;
    let input = source::read([from], settings.mesh.with(tokens))?;
    let plan = spillway_plan::plan(&input);
    for (policy, report) in &plan.policies {
        for condition in &report.conditions {
            tracing::info!(
                policy,
                condition = condition.kind.as_str(),
                status = condition.status.as_str(),
                reason = condition.reason,
                message = condition.message,
                "a policy was judged"
            );
        }
    }
    let done = directory::write(to, &plan)?;
    tracing::info!(
        written = done.written,
        removed = done.removed,
        "the folder is rendered"
    );
    Ok(())
}

/// Controls a fleet until SIGTERM or SIGINT. Then it is not ready any more, ends what it is
/// writing, and puts down its Lease last; at the second signal it ends at once.
///
/// # Errors
/// When it cannot start, or does not end in order. In between nothing is an error that may pass.
pub async fn control(settings: &Settings, level: LogLevel) -> Result<()> {
    let (end, at_once) = signals()?;
    tokio::select! {
        done = serve(settings, level, &end) => done,
        () = at_once.cancelled() => bail!("a second signal ended it at once"),
    }
}

async fn serve(settings: &Settings, level: LogLevel, end: &CancellationToken) -> Result<()> {
    let metrics = Arc::<Metrics>::default();
    let config = hub(settings).await?;
    let calls = Calls::new(&metrics, Peer::Hub);
    let hub = client::shared(&config, calls).context(CREDENTIALS)?;
    let lease = client::apart(&config).context(CREDENTIALS)?;
    let health = Health::default();
    let instance = lead::identity(&settings.pod_name);
    let terms = Terms::new(&settings.namespace, "spillway-controller", &instance);
    let (candidate, election) = lead::stand(lease, terms);
    let served = Served {
        health: health.clone(),
        metrics: metrics.clone(),
        candidate: Some(candidate.clone()),
        level,
    };
    let server = Server::bind(settings.listen, settings.admin).await;
    let server = server.context("the addresses to listen on")?;
    // It tells how it ends until it has.
    let closed = CancellationToken::new();
    let serving = tokio::spawn(server.run(served, closed.clone()));

    let done = CancellationToken::new();
    let pulse = health.pulse("the election", stuck(settings), Instant::now());
    let elected = tokio::spawn(election.run(pulse, done.clone().cancelled_owned()));
    let (health, end_of) = (&health, end.clone());
    let working = async {
        work(settings, hub, &instance, candidate, health, metrics, end).await;
        // Nothing writes any more: another replica may take over at once.
        done.cancel();
        elected.await
    };
    let late = async {
        end_of.cancelled().await;
        health.end();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        elected = working => elected?,
        () = late => tracing::warn!("something hangs: what it was writing is left as it is"),
    }
    closed.cancel();
    match tokio::time::timeout(CLOSING, serving).await {
        Ok(served) => Ok(served??),
        Err(_) => Ok(()),
    }
}

/// Plans, writes and reports until `end`.
async fn work(
    settings: &Settings,
    hub: Client,
    instance: &str,
    candidate: Candidate,
    health: &Health,
    metrics: Arc<Metrics>,
    end: &CancellationToken,
) {
    let known = health.need("the hub and the mesh's settings");
    let options = Options {
        system_namespace: settings.namespace.clone(),
        allow_exec: settings.allow_exec,
        deadline: settings.call_timeout,
        push_interval: settings.push_interval,
        abandon_after: settings.abandon_after,
        ..Options::default()
    };
    let Some(uid) = hub_uid(&hub, &options, end).await else {
        return;
    };
    let (mesh, settled) = watch::channel(None);
    let (told, image) = watch::channel(image::unknown());
    let inputs = Inputs {
        mesh: settled,
        image,
        metrics: metrics.clone(),
    };
    let engine = Engine::new(hub.clone(), &uid, options.clone(), inputs);
    let statuses = Statuses::new(
        hub.clone(),
        instance,
        options.deadline,
        engine.reports(),
        engine.snapshot(),
        metrics.clone(),
    );
    let mut planned = engine.snapshot();
    let _ready = AbortOnDropHandle::new(tokio::spawn(async move {
        if planned.changed().await.is_ok() {
            known.met();
        }
    }));
    let discovery = (!settings.discover.is_empty()).then(|| {
        let known = engine.snapshot();
        Discovery::new(&hub, instance, &options, &settings.discover, known)
    });
    let _discovery = discovery.map(|it| AbortOnDropHandle::new(tokio::spawn(it.run())));
    let (tell, found) = watch::channel(None);
    let rotation = Rotation::new(
        &hub,
        instance,
        &options,
        found.clone(),
        engine.snapshot(),
        engine.reports(),
    );
    let _rotation = AbortOnDropHandle::new(tokio::spawn(rotation.run()));
    let follow = tokens::follow(
        hub,
        settings.namespace.clone(),
        options.deadline,
        options.backoff,
        tell,
    );
    let _follow = AbortOnDropHandle::new(tokio::spawn(follow));
    let settle = settle(settings.clone(), found, mesh);
    let _mesh = AbortOnDropHandle::new(tokio::spawn(settle));
    let images = Images::new(settings.registries(), settings.call_timeout);
    let url = settings.mesh.image.url().to_owned();
    let _image = AbortOnDropHandle::new(tokio::spawn(async move {
        image::follow(images, &url, IMAGE, &metrics, told).await;
    }));
    let pulse = |name| health.pulse(name, stuck(settings), Instant::now());
    tokio::join!(
        engine.run(Some(candidate), pulse("the planner"), end.clone()),
        statuses.run(pulse("the writer of statuses"), end.clone()),
    );
}

/// A loop that says nothing for so long is stuck: it may wait for two calls, one after the other.
fn stuck(settings: &Settings) -> Duration {
    settings.call_timeout * 2 + Duration::from_secs(60)
}

async fn hub(settings: &Settings) -> Result<Config> {
    match &settings.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).context("the hub's kubeconfig")?;
            let options = KubeConfigOptions::default();
            Ok(Config::from_custom_kubeconfig(read, &options).await?)
        }
        None => Config::incluster().context("outside a cluster, name the hub by --kubeconfig"),
    }
}

/// Asks until the hub answers; nothing at the end.
async fn hub_uid(hub: &Client, options: &Options, end: &CancellationToken) -> Option<String> {
    let mut backoff = options.backoff.clone();
    let ask = async {
        loop {
            match identity::identity(hub, options.deadline).await {
                Ok(identity) => return identity.uid,
                Err(failure) => {
                    tracing::warn!(error = %failure, "the hub does not say who it is");
                    tokio::time::sleep(backoff.after_failure()).await;
                }
            }
        }
    };
    tokio::select! {
        uid = ask => Some(uid),
        () = end.cancelled() => None,
    }
}

/// Tells the mesh's settings once there are tokens, and whenever these change.
async fn settle(
    settings: Settings,
    mut tokens: watch::Receiver<Option<Found>>,
    mesh: watch::Sender<Option<Mesh>>,
) {
    loop {
        if let Some(found) = tokens.borrow_and_update().clone() {
            mesh.send_replace(Some(settings.mesh.with(found.kept.tokens)));
        }
        if tokens.changed().await.is_err() {
            return;
        }
    }
}

/// Cancelled by the first SIGTERM or SIGINT, and by the second.
fn signals() -> Result<(CancellationToken, CancellationToken)> {
    let (end, at_once) = (CancellationToken::new(), CancellationToken::new());
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let (end, at_once) = (end.clone(), at_once.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if end.is_cancelled() {
                    at_once.cancel();
                }
                end.cancel();
            }
        });
    }
    Ok((end, at_once))
}
