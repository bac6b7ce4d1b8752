//! The controller's image, run as its Deployment says: pulled by its digest from a registry, on
//! nothing but its own files, as a user without rights, with the account that the chart gives it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Container;
use kube::Api;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;
use spillway_charts::Helm;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Clusters, Identity, User};
use spillway_e2e::address::Block;
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::process::Process;
use spillway_image::{Access, Image, Provenance, push};
use tempfile::TempDir;

const NAMESPACE: &str = "spillway-system";
const POD: &str = "spillway-controller-0";
/// Where a pod finds its account.
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";
const WITHIN: Duration = Duration::from_secs(60);

/// What `make images` built.
fn built() -> Result<Image> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let usual = || here.join("../../target/images/controller");
    let folder = std::env::var_os("SPILLWAY_CONTROLLER_IMAGE").map_or_else(usual, PathBuf::from);
    Image::read(&folder).context("make images builds it")
}

/// Unpacks an image, and returns its configuration.
async fn pull(name: &str, root: &Path) -> Result<Value> {
    let client = Client::try_from(ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    })?;
    let reference: Reference = name.parse()?;
    let (manifest, _, config) = client
        .pull_manifest_and_config(&reference, &RegistryAuth::Anonymous)
        .await?;
    for layer in &manifest.layers {
        let mut packed = Vec::new();
        client.pull_blob(&reference, layer, &mut packed).await?;
        tar::Archive::new(GzDecoder::new(packed.as_slice())).unpack(root)?;
    }
    Ok(serde_json::from_str(&config)?)
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        }
        found.insert(path);
    }
    Ok(found)
}

/// As a kubelet would start it, without a kubelet: the files are those of the image alone, and the
/// user is the image's in a namespace of its own.
fn start(
    root: &Path,
    config: &Value,
    container: &Container,
    environment: &[(&str, String)],
    log: &Path,
) -> Result<Process> {
    let settings = config.get("config").context("a configuration")?;
    let user = settings.get("User").and_then(Value::as_str);
    let (user, group) = user
        .and_then(|user| user.split_once(':'))
        .context("a user")?;
    let list = |name: &str| -> Vec<String> {
        let list = settings.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let mut command = vec!["-i".to_owned()];
    command.extend(list("Env"));
    command.extend(
        environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    command.extend([
        "/usr/bin/unshare".to_owned(),
        "--user".to_owned(),
        format!("--map-user={user}"),
        format!("--map-group={group}"),
        format!("--root={}", root.display()),
        "--wd=/".to_owned(),
    ]);
    command.extend(list("Entrypoint"));
    command.extend(container.args.clone().unwrap_or_default());
    Process::start("/usr/bin/env".as_ref(), &command, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_as_the_deployment_says() -> Result<()> {
    let image = built()?;
    let registry = Registry::start().await?;
    let repository = format!("{}/spillway/controller", registry.address());
    let access = Access {
        insecure: true,
        ..Access::default()
    };
    let name = push(&image, &format!("{repository}:test"), &access).await?;
    assert_eq!(name, format!("{repository}@{}", image.digest()));
    let filter = Image::filter(b"\0asm\x01\0\0\0", &Provenance::default())?;
    let filter = push(
        &filter,
        &format!("{}/filter:test", registry.address()),
        &access,
    )
    .await?;

    let clusters = Clusters::start(&["hub"]).await?;
    let hub = clusters.cluster("hub")?;
    let helm = Helm::with_cluster(&hub.kubeconfig(User::admin())?)?;
    helm.succeed(&[
        "install",
        "spillway",
        "spillway",
        &format!("--namespace={NAMESPACE}"),
        "--create-namespace",
        &format!("--set=image.repository={repository}"),
        &format!("--set=image.digest={}", image.digest()),
        &format!("--set=filter.image=oci://{filter}"),
        &format!("--set=registry.insecure={{{}}}", registry.address()),
    ])?;
    let client = hub.client(User::admin())?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let deployment = deployments.get("spillway-controller").await?;
    let pod = deployment
        .spec
        .context("a spec")?
        .template
        .spec
        .context("a pod")?;
    let container = pod.containers.first().context("a container")?;
    // What a node would pull is what was built.
    assert_eq!(container.image.as_deref(), Some(name.as_str()));

    let folder = TempDir::new()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    let config = pull(&name, &root).await?;
    let account = root.join(ACCOUNT);
    fs::create_dir_all(&account)?;
    let Identity::Token(token) = hub
        .service_account(NAMESPACE, "spillway-controller")
        .await?
    else {
        anyhow::bail!("an account has a token");
    };
    fs::write(account.join("token"), token)?;
    fs::write(account.join("ca.crt"), hub.ca_pem())?;
    fs::write(account.join("namespace"), NAMESPACE)?;
    let before = files(&root)?;

    let mut block = Block::take()?;
    let (listen, admin) = (block.next_address()?, block.next_address()?);
    let server = hub.url().trim_start_matches("https://");
    let (host, port) = server.rsplit_once(':').context("a port")?;
    let environment = [
        ("KUBERNETES_SERVICE_HOST", host.to_owned()),
        ("KUBERNETES_SERVICE_PORT", port.to_owned()),
        ("SPILLWAY_NAMESPACE", NAMESPACE.to_owned()),
        ("SPILLWAY_POD_NAME", POD.to_owned()),
        ("SPILLWAY_LISTEN", format!("{listen}:8080")),
        ("SPILLWAY_ADMIN", format!("{admin}:8081")),
    ];
    let log = folder.path().join("log");
    let mut running = start(&root, &config, container, &environment, &log)?;
    let said = || fs::read_to_string(&log).unwrap_or_default();

    let http = HttpClient::new(&Target {
        address: (listen, 8080).into(),
        host: "spillway-controller".to_owned(),
        http2: false,
    });
    let began = Instant::now();
    loop {
        let ready = http.call(&Call::get("/readyz")).await;
        if ready.is_ok_and(|answer| answer.status == 200) {
            break;
        }
        ensure!(
            running.is_running() && began.elapsed() < WITHIN,
            "not ready: {}",
            said()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let holder = loop {
        let lease = leases.get_opt("spillway-controller").await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        if let Some(holder) = holder {
            break holder;
        }
        ensure!(
            running.is_running() && began.elapsed() < WITHIN,
            "no leader: {}",
            said()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(holder.starts_with(POD), "{holder}");
    // A read-only root is no hindrance.
    assert_eq!(files(&root)?, before);
    Ok(())
}
