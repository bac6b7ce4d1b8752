//! What the program does: control a fleet, or render a folder once.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use spillway_plan::Mesh;
use spillway_plan::settings::Tokens;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clusters::{client, identity};
use crate::discover::Discovery;
use crate::engine::publish::Statuses;
use crate::engine::{Engine, Options};
use crate::image::Images;
use crate::lead::{self, Terms};
use crate::serve::{Health, LogLevel, Served, Server};
use crate::settings::Settings;
use crate::target::{directory, source};
use crate::tokens::secret::Found;
use crate::tokens::{self, Rotation};

/// The filter's image is looked for again after this time.
const IMAGE: Duration = Duration::from_secs(10);
const CREDENTIALS: &str = "the hub's credentials";

/// Renders a folder once, with the tokens of a file.
///
/// # Errors
/// When the tokens or the source cannot be read, or the target not be written.
pub fn render(settings: &Settings, tokens: &Path, from: &Path, to: &Path) -> Result<()> {
    let place = || format!("--tokens {}", tokens.display());
    let text = fs::read_to_string(tokens).with_context(place)?;
    let tokens: Tokens = text.parse().with_context(place)?;
    let input = source::read(from, settings.mesh(tokens))?;
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

/// Controls a fleet until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start. Afterwards nothing is an error that may pass.
pub async fn control(settings: &Settings, level: LogLevel) -> Result<()> {
    let end = ended()?;
    let config = hub(settings).await?;
    let hub = client::shared(&config).context(CREDENTIALS)?;
    let lease = client::apart(&config).context(CREDENTIALS)?;
    let options = Options {
        system_namespace: settings.namespace.clone(),
        allow_exec: settings.allow_exec,
        deadline: settings.call_timeout,
        push_interval: settings.push_interval,
        abandon_after: settings.abandon_after,
        ..Options::default()
    };
    let health = Health::default();
    let known = health.need("the hub and the mesh's settings");
    let instance = lead::identity(&settings.pod_name);
    let terms = Terms::new(&settings.namespace, "spillway-controller", &instance);
    let (candidate, election) = lead::stand(lease, terms);
    let served = Served {
        health: health.clone(),
        metrics: std::sync::Arc::default(),
        candidate: Some(candidate.clone()),
        level,
    };
    let server = Server::bind(settings.listen, settings.admin).await;
    let server = server.context("the addresses to listen on")?;
    let serving = tokio::spawn(server.run(served, end.clone()));

    let Some(uid) = hub_uid(&hub, &options, &end).await else {
        return Ok(());
    };
    let (mesh, settled) = watch::channel(None);
    let engine = Engine::new(hub.clone(), &uid, options.clone(), settled);
    let statuses = Statuses::new(
        hub.clone(),
        &instance,
        options.deadline,
        engine.reports(),
        engine.snapshot(),
    );
    let mut planned = engine.snapshot();
    let _ready = AbortOnDropHandle::new(tokio::spawn(async move {
        if planned.changed().await.is_ok() {
            known.met();
        }
    }));
    let discovery = (!settings.discover.is_empty()).then(|| {
        let known = engine.snapshot();
        Discovery::new(&hub, &instance, &options, &settings.discover, known)
    });
    let _discovery = discovery.map(|it| AbortOnDropHandle::new(tokio::spawn(it.run())));
    let (told, found) = watch::channel(None);
    let rotation = Rotation::new(
        &hub,
        &instance,
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
        told,
    );
    let _follow = AbortOnDropHandle::new(tokio::spawn(follow));
    let settle = settle(settings.clone(), options.deadline, found, mesh);
    let _mesh = AbortOnDropHandle::new(tokio::spawn(settle));
    let done = CancellationToken::new();
    let elected = tokio::spawn(election.run(done.clone().cancelled_owned()));
    tokio::join!(engine.run(Some(candidate), end.clone()), statuses.run(end));
    health.end();
    // Nothing writes any more: another replica may take over at once.
    done.cancel();
    elected.await?;
    serving.await??;
    Ok(())
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

/// Tells the mesh's settings once there are tokens and the image can be had: a plugin whose image
/// is missing replaces a running filter by nothing.
async fn settle(
    settings: Settings,
    deadline: Duration,
    mut tokens: watch::Receiver<Option<Found>>,
    mesh: watch::Sender<Option<Mesh>>,
) {
    let images = Images::new(settings.registries(), deadline);
    while let Err(missing) = images.available(settings.image.url(), Instant::now()).await {
        tracing::error!(reason = missing.reason, error = %missing, "the filter's image cannot be had, so nothing is written");
        tokio::time::sleep(IMAGE).await;
    }
    loop {
        if let Some(found) = tokens.borrow_and_update().clone() {
            mesh.send_replace(Some(settings.mesh(found.kept.tokens)));
        }
        if tokens.changed().await.is_err() {
            return;
        }
    }
}

/// Cancelled by SIGTERM and SIGINT.
fn ended() -> Result<CancellationToken> {
    let end = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, end) = (signal(kind)?, end.clone());
        tokio::spawn(async move {
            signals.recv().await;
            end.cancel();
        });
    }
    Ok(end)
}
