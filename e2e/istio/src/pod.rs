//! A pod: namespaces that a first process holds, as a kubelet makes them, and what runs inside.
//!
//! Network, mounts and processes of a pod are its own. Requests are intercepted by the rules that
//! Istio's own init container writes, and the agent runs as the user 1337, which these rules know.
//! When the first process ends, all others of the pod end with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use spillway_e2e::client::{Answer, Call, HttpClient, Target};
use spillway_e2e::process::Process;
use tokio::runtime::Runtime;

use crate::network::{NODE, Network};
use crate::sandbox::{istio, succeed};
use crate::wait;

/// Where the agent keeps images, and here all else that it reads and writes.
const AGENT: &str = "/var/lib/istio";
const ADMIN: u16 = 15000;
const READY: u16 = 15021;
const STARTED_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// What stands between a pod's code and everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Requests are intercepted both ways.
    Sidecar,
    /// It is a gateway for the world, and is asked itself.
    Ingress,
    /// It is a gateway for other networks.
    EastWest,
    /// The pod is outside the mesh.
    None,
}

/// A pod that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct PodOptions<'m> {
    pub(crate) name: &'m str,
    pub(crate) namespace: &'m str,
    pub(crate) cluster: &'m str,
    pub(crate) proxy: Proxy,
    /// Its own address first.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// The clusters that it reaches without a gateway, by number; all if none is named.
    pub(crate) reached: Vec<u8>,
}

/// A running pod; all that runs in it ends when this is dropped.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: String,
    cluster: String,
    proxy: Proxy,
    address: Ipv4Addr,
    /// Code that runs inside. Taken out only when it ends.
    runtime: Option<Runtime>,
    agent: Option<Process>,
    /// The first process, as the sandbox sees it.
    first: u32,
    holder: Process,
    log: PathBuf,
}

/// What an agent has to know of its place in the mesh.
pub(crate) struct AgentOptions<'m> {
    pub(crate) workload: &'m str,
    /// The labels of its object.
    pub(crate) labels: &'m BTreeMap<String, String>,
    /// The network that it lies on, where there are several.
    pub(crate) network: Option<&'m str>,
    /// The control plane of its cluster.
    pub(crate) istiod: Ipv4Addr,
    pub(crate) root_certificate: &'m str,
    /// Of its service account, for istiod.
    pub(crate) token: &'m str,
    pub(crate) envoy: &'m str,
    /// The registry has no TLS.
    pub(crate) registry: &'m str,
    /// Of the agent, over what it has otherwise.
    pub(crate) environment: &'m [(&'m str, &'m str)],
}

impl Pod {
    /// Makes the namespaces of a pod, ties them to the network, and lets requests be intercepted.
    pub(crate) fn start(
        network: &mut Network,
        folder: &Path,
        options: &PodOptions<'_>,
    ) -> Result<Self> {
        let name = options.name;
        let address = *options.addresses.first().context("a pod has an address")?;
        let log = folder.join(format!("{name}.log"));
        let arguments = ["--net", "--mount", "--pid", "--fork", "--kill-child"];
        let arguments = [&arguments[..], &["--mount-proc", "sleep", "infinity"]].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let holder = Process::start(Path::new("unshare"), &arguments, &log)?;
        let first = first_process(holder.id()).with_context(|| format!("no pod {name}"))?;
        network.connect(first)?;
        let this = Self {
            name: name.to_owned(),
            namespace: options.namespace.to_owned(),
            cluster: options.cluster.to_owned(),
            proxy: options.proxy,
            address,
            runtime: Some(inside(first)?),
            agent: None,
            first,
            holder,
            log,
        };
        this.shell(&this.script(options))?;
        Ok(this)
    }

    /// What is done in a pod before anything runs there.
    fn script(&self, options: &PodOptions<'_>) -> String {
        let mut lines = vec!["ip link set lo up".to_owned()];
        let addresses = options.addresses.iter();
        lines.extend(addresses.map(|it| format!("ip address add {it}/32 dev eth0")));
        lines.push("ip link set eth0 up".to_owned());
        let all = "10.200.0.0/16";
        let reached: Vec<String> = match &options.reached[..] {
            [] => vec![all.to_owned()],
            reached => {
                lines.push(format!("ip route add unreachable {all}"));
                let reached = [0].iter().chain(reached);
                reached.map(|it| format!("10.200.{it}.0/24")).collect()
            }
        };
        lines.extend(
            reached
                .iter()
                .map(|it| format!("ip route add {it} dev eth0")),
        );
        // Addresses of services lie nowhere: there must be some route until they are intercepted.
        lines.push(format!("ip route add default via {NODE}"));
        if self.proxy == Proxy::Sidecar {
            lines.push(format!(
                "{}/pilot-agent istio-iptables -p 15001 -z 15006 -u 1337 -g 1337 -m REDIRECT \
                    -i '*' -b '*' -d 15090,15021,15020",
                istio()
            ));
        }
        lines.push(format!(
            "mount -t tmpfs agent /var/lib && mkdir -p {AGENT}/data"
        ));
        lines.join(" &&\n")
    }

    /// Starts the agent, which starts Envoy.
    pub(crate) fn start_agent(&mut self, options: &AgentOptions<'_>) -> Result<()> {
        // As the pod sees it.
        let root = self.folder();
        let secrets = root.join("var/run/secrets");
        let hosts = format!(
            "127.0.0.1 localhost\n{} istiod.istio-system.svc\n",
            options.istiod
        );
        for (file, content) in [
            (
                secrets.join("istio/root-cert.pem"),
                options.root_certificate,
            ),
            (secrets.join("tokens/istio-token"), options.token),
            (root.join("hosts"), &hosts),
        ] {
            fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
            fs::write(file, content)?;
        }
        self.shell(&format!(
            "mount --bind {AGENT}/hosts /etc/hosts && chown -R 1337:1337 {AGENT}"
        ))?;
        // Envoy opens its output anew, as a user who may not write everywhere.
        let log = File::options().create(true).append(true).open(&self.log)?;
        log.set_permissions(fs::Permissions::from_mode(0o666))?;
        let arguments = self.arguments(options);
        self.agent = Some(Process::start(Path::new("nsenter"), &arguments, &self.log)?);
        Ok(())
    }

    fn arguments(&self, options: &AgentOptions<'_>) -> Vec<String> {
        let (namespace, workload) = (&self.namespace, options.workload);
        let settings = format!(
            "{{binaryPath: {}, configPath: ./proxy, discoveryAddress: 'istiod.istio-system.svc:15012', \
              concurrency: 2, drainDuration: 1s, terminationDrainDuration: 1s, \
              proxyBootstrapTemplatePath: {}/envoy_bootstrap.json}}",
            options.envoy,
            istio()
        );
        let labels = serde_json::json!(options.labels).to_string();
        let inside = format!("--target={}", self.first);
        let directory = format!("--chdir={AGENT}");
        let mut arguments: Vec<String> = [&inside, "--net", "--mount", "--pid", "setpriv"]
            .into_iter()
            .chain(["--reuid=1337", "--regid=1337", "--clear-groups"])
            .chain(["env", "--ignore-environment", &directory])
            .map(str::to_owned)
            .collect();
        let environment = [
            ("PATH", "/usr/bin:/bin"),
            ("POD_NAME", &self.name),
            ("POD_NAMESPACE", namespace),
            ("INSTANCE_IP", &self.address.to_string()),
            ("SERVICE_ACCOUNT", "default"),
            ("TRUST_DOMAIN", "cluster.local"),
            ("PILOT_CERT_PROVIDER", "istiod"),
            ("JWT_POLICY", "third-party-jwt"),
            ("ISTIO_META_CLUSTER_ID", &self.cluster),
            ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
            ("ISTIO_META_WORKLOAD_NAME", workload),
            ("ISTIO_META_UNPRIVILEGED_POD", "true"),
            ("ISTIO_METAJSON_LABELS", &labels),
            ("WASM_INSECURE_REGISTRIES", options.registry),
            ("WASM_MODULE_EXPIRY", "8760h"),
            ("PROXY_CONFIG", &settings),
        ];
        arguments.extend(environment.map(|(name, value)| format!("{name}={value}")));
        if let Some(network) = options.network {
            arguments.push(format!("ISTIO_META_NETWORK={network}"));
            if self.proxy == Proxy::EastWest {
                // It leads to its own side, and to no other gateway.
                arguments.push(format!("ISTIO_META_REQUESTED_NETWORK_VIEW={network}"));
            }
        }
        let more = options.environment.iter();
        arguments.extend(more.map(|(name, value)| format!("{name}={value}")));
        let program = format!("{}/pilot-agent", istio());
        let domain = format!("{namespace}.svc.cluster.local");
        let kind = match self.proxy {
            Proxy::Ingress | Proxy::EastWest => "router",
            Proxy::Sidecar | Proxy::None => "sidecar",
        };
        let words = [&program, "proxy", kind, "--domain", &domain];
        arguments.extend(words.map(str::to_owned));
        arguments
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of its object.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it is of the mesh.
    #[must_use]
    pub fn has_proxy(&self) -> bool {
        self.proxy != Proxy::None
    }

    /// The cluster that it belongs to.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The agent's folder, as it is seen from outside.
    pub(crate) fn folder(&self) -> PathBuf {
        format!("/proc/{}/root{AGENT}", self.first).into()
    }

    /// What its agent and Envoy log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs code inside: the sockets that it makes are the pod's.
    ///
    /// # Errors
    /// As the code, or when it panics.
    pub async fn run<T>(&self, code: impl Future<Output = Result<T>> + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
    {
        let runtime = self.runtime.as_ref().context("the pod has ended")?;
        runtime.spawn(code).await?
    }

    /// Sends one request from inside, over a connection of its own.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, target: Target, call: Call) -> Result<Answer> {
        self.run(async move { HttpClient::new(&target).call(&call).await })
            .await
    }

    /// What Envoy's admin interface answers.
    ///
    /// # Errors
    /// When it does not answer 200.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let answer = self.call(local(ADMIN), Call::get(path)).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status.is_success(), "{path}: {}: {text}", self.name);
        Ok(text)
    }

    /// The numbers whose names match.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn stats(&self, filter: &str) -> Result<Vec<(String, u64)>> {
        let text = self.admin(&format!("/stats?filter={filter}")).await?;
        let stats = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(stats.collect())
    }

    /// Waits until the sidecar takes requests.
    ///
    /// # Errors
    /// When it does not; with the end of its log.
    pub async fn wait_ready(&self) -> Result<()> {
        let ready = async || {
            let answer = self.call(local(READY), Call::get("/healthz/ready")).await;
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        };
        let waited = wait::until(&format!("{} is ready", self.name), ready).await;
        waited.with_context(|| end(&self.log())).map(drop)
    }

    fn shell(&self, script: &str) -> Result<()> {
        let target = format!("--target={}", self.first);
        let inside = [&target, "--net", "--mount", "--pid", "sh", "-c", script];
        succeed("nsenter", &inside).with_context(|| format!("in {}", self.name))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.holder.kill();
        if let Some(runtime) = self.runtime.take() {
            // A runtime may not wait for its end inside of another.
            runtime.shutdown_background();
        }
    }
}

fn local(port: u16) -> Target {
    Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        host: "localhost".to_owned(),
        http2: false,
    }
}

/// The child of `unshare`, once it is the program that it was told to run.
fn first_process(parent: u32) -> Result<u32> {
    let began = Instant::now();
    loop {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        if let Some(child) = children.split_whitespace().next() {
            let name = fs::read_to_string(format!("/proc/{child}/comm"))?;
            if name == "sleep\n" {
                return Ok(child.parse()?);
            }
        }
        if began.elapsed() > STARTED_WITHIN {
            bail!("its first process does not start");
        }
        std::thread::sleep(LOOK);
    }
}

/// A runtime whose threads are in the network of a process.
fn inside(first: u32) -> Result<Runtime> {
    let network = File::open(format!("/proc/{first}/ns/net"))?;
    let enter = move || {
        let kind = Some(LinkNameSpaceType::Network);
        if move_into_link_name_space(network.as_fd(), kind).is_err() {
            // Its requests would come from somewhere else.
            std::process::abort();
        }
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(2)
        .enable_all()
        .on_thread_start(enter);
    Ok(runtime.build()?)
}

/// The last lines of a log.
pub(crate) fn end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
