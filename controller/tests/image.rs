//! Images in a real registry, and in registries that ask for a token, lie or do not answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use spillway_clusters::registry::{IMAGE, LAYER, Registry, descriptor, digest, manifest};
use spillway_controller::image::{Images, Registries};
use tokio::net::TcpListener;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DEADLINE: Duration = Duration::from_secs(20);

fn images(registry: &str) -> Images {
    let registries = Registries {
        insecure: vec![registry.to_owned()],
        ..Registries::default()
    };
    Images::new(registries, DEADLINE)
}

async fn reason(images: &Images, image: &str) -> (&'static str, String) {
    match images.available(image).await {
        Ok(()) => ("", String::new()),
        Err(unavailable) => (unavailable.reason, unavailable.message),
    }
}

#[tokio::test]
async fn a_registry_is_asked_by_the_digest() -> Result<()> {
    let nowhere = images("127.0.0.1:9");
    let nothing = format!(
        "oci://127.0.0.1:9/spillway/filter@sha256:{}",
        "0".repeat(64)
    );
    assert_eq!(reason(&nowhere, &nothing).await.0, "RegistryUnreachable");
    let mut registry = Registry::start().await?;
    let image = registry.push_filter(b"layer").await?;
    let images = images(registry.address());
    assert_eq!(reason(&images, &image).await, ("", String::new()));

    let missing = format!(
        "oci://{}/spillway/filter@sha256:{}",
        registry.address(),
        "0".repeat(64)
    );
    let (why, words) = reason(&images, &missing).await;
    assert_eq!(why, "ImageNotFound");
    assert!(words.contains("is not in its registry: push it"), "{words}");
    let elsewhere = image.replace("spillway/filter", "another/filter");
    assert_eq!(reason(&images, &elsewhere).await.0, "ImageNotFound");

    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let unusable = registry.push(IMAGE, &manifest(zstd, b"layer"), &[]).await?;
    let (why, words) = reason(&images, &unusable).await;
    assert_eq!(why, "ImageUnusable");
    assert!(words.contains("as its last layer"), "{words}");

    let inner = serde_json::to_vec(&manifest(LAYER, b"layer"))?;
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, &inner)]});
    let index = registry.push(INDEX, &index, &[]).await?;
    let (why, words) = reason(&images, &index).await;
    assert_eq!(why, "ImageUnusable");
    assert!(words.contains("is an index"), "{words}");

    assert!(images.is_still_available(&image).await);
    assert!(!images.is_still_available(&missing).await);
    registry.kill();
    assert!(!images.is_still_available(&image).await);
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registry that answers as it is told.
#[derive(Clone, Default)]
struct Scripted {
    manifest: Arc<Mutex<Option<Vec<u8>>>>,
    /// Whether it wants a token, which is to be had by user and password.
    guarded: bool,
    without_layer: bool,
    status: Option<StatusCode>,
    silent: bool,
}

impl Scripted {
    async fn start(self) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state((self, address));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }
}

async fn answer(
    State((this, address)): State<(Scripted, SocketAddr)>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    if this.silent {
        std::future::pending::<()>().await;
    }
    if let Some(status) = this.status {
        return status.into_response();
    }
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if path == "/token" {
        // ours:secret
        return if shown == "Basic b3VyczpzZWNyZXQ=" {
            json!({"token": "a-token", "expires_in": 300})
                .to_string()
                .into_response()
        } else {
            (StatusCode::UNAUTHORIZED, "a secret of the token server").into_response()
        };
    }
    if this.guarded && shown != "Bearer a-token" {
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"registry\"");
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
        )
            .into_response();
    }
    if path.contains("/manifests/") {
        let manifest = locked(&this.manifest).clone().unwrap_or_default();
        return ([(header::CONTENT_TYPE, IMAGE)], manifest).into_response();
    }
    if path.contains("/blobs/") && this.without_layer {
        return StatusCode::NOT_FOUND.into_response();
    }
    StatusCode::OK.into_response()
}

/// A scripted registry with an image in it.
async fn scripted(this: Scripted) -> Result<(String, String)> {
    let manifest = serde_json::to_vec(&manifest(LAYER, b"layer"))?;
    let digest = digest(&manifest);
    *locked(&this.manifest) = Some(manifest);
    let registry = this.start().await?.to_string();
    let image = format!("oci://{registry}/spillway/filter@{digest}");
    Ok((registry, image))
}

#[tokio::test]
async fn a_token_is_fetched_where_one_is_asked_for() -> Result<()> {
    let this = Scripted {
        guarded: true,
        ..Scripted::default()
    };
    let (registry, image) = scripted(this).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(".dockerconfigjson");
    let known = json!({"auths": {registry.as_str(): {"auth": "b3VyczpzZWNyZXQ="}}});
    std::fs::write(&file, known.to_string())?;
    let registries = Registries {
        credentials: Some(file.clone()),
        insecure: vec![registry.clone()],
        ..Registries::default()
    };
    let images = Images::new(registries, DEADLINE);
    assert_eq!(reason(&images, &image).await, ("", String::new()));
    assert!(images.is_still_available(&image).await);

    // Credentials are read anew each time, and appear nowhere.
    let wrong =
        json!({"auths": {registry.as_str(): {"username": "ours", "password": "old-secret"}}});
    std::fs::write(&file, wrong.to_string())?;
    let refused = images.available(&image).await;
    let refused = refused.err().context("not refused")?;
    assert_eq!(refused.reason, "ImageForbidden");
    assert!(!refused.message.contains("secret"), "{}", refused.message);
    assert!(!images.is_still_available(&image).await);
    assert_eq!(
        reason(&self::images(&registry), &image).await.0,
        "ImageForbidden"
    );
    std::fs::write(&file, "no json, but a-secret")?;
    let refused = images.available(&image).await;
    let refused = refused.err().context("not refused")?;
    assert!(!refused.message.contains("a-secret"), "{}", refused.message);
    Ok(())
}

#[tokio::test]
async fn something_else_than_the_digest_says_is_not_taken() -> Result<()> {
    let this = Scripted::default();
    let (registry, image) = scripted(this.clone()).await?;
    let other = serde_json::to_vec(&manifest(LAYER, b"another layer"))?;
    *locked(&this.manifest) = Some(other);
    let (why, words) = reason(&images(&registry), &image).await;
    assert_eq!(why, "ImageUnusable");
    assert!(words.contains("gives something else"), "{words}");
    Ok(())
}

#[tokio::test]
async fn a_manifest_without_its_layer_is_no_image() -> Result<()> {
    let this = Scripted {
        without_layer: true,
        ..Scripted::default()
    };
    let (registry, image) = scripted(this).await?;
    let (why, words) = reason(&images(&registry), &image).await;
    assert_eq!(why, "ImageNotFound");
    assert!(words.contains("and not its layer sha256:"), "{words}");
    Ok(())
}

#[tokio::test]
async fn a_registry_in_trouble_is_told_from_a_missing_image() -> Result<()> {
    let this = Scripted {
        status: Some(StatusCode::SERVICE_UNAVAILABLE),
        ..Scripted::default()
    };
    let (registry, image) = scripted(this).await?;
    let (why, words) = reason(&images(&registry), &image).await;
    assert_eq!(why, "RegistryUnreachable", "{words}");

    let this = Scripted {
        silent: true,
        ..Scripted::default()
    };
    let (registry, image) = scripted(this).await?;
    let registries = Registries {
        insecure: vec![registry],
        ..Registries::default()
    };
    let images = Images::new(registries, Duration::from_millis(300));
    let (why, words) = reason(&images, &image).await;
    assert_eq!(why, "RegistryUnreachable");
    assert!(words.contains("within 0.3 s"), "{words}");

    let nobody = TcpListener::bind("127.0.0.1:0")
        .await?
        .local_addr()?
        .to_string();
    let image = image.replace(image.split('/').nth(2).context("no host")?, &nobody);
    let (why, words) = reason(&self::images(&nobody), &image).await;
    assert_eq!(why, "RegistryUnreachable");
    assert!(words.contains("refused"), "{words}");
    Ok(())
}
