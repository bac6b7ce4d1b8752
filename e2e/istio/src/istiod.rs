//! The control plane of one cluster.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use kube::Config;
use spillway_clusters::{Cluster, Server, User};

use crate::sandbox::istio;

const PROBES: u16 = 15080;

/// Describes istiod of a cluster, with its authority in `authority`. It is not started yet.
///
/// What a released proxy has in addition to a stock Envoy is switched off: the exchange of peer
/// metadata, and the filter for ALPN.
pub(crate) fn describe(
    cluster: &Cluster,
    address: Ipv4Addr,
    authority: &Path,
    folder: &Path,
) -> Result<Server> {
    let name = cluster.name();
    let kubeconfig = folder.join(format!("istiod-{name}.kubeconfig"));
    fs::write(&kubeconfig, cluster.kubeconfig(User::admin())?)?;
    let mesh = folder.join("mesh.yaml");
    fs::write(&mesh, MESH)?;
    let networks = folder.join("networks.yaml");
    fs::write(&networks, "networks: {}\n")?;
    let arguments = [
        format!("CLUSTER_ID={name}"),
        format!("POD_NAME=istiod-{name}"),
        "POD_NAMESPACE=istio-system".to_owned(),
        "ENABLE_LEADER_ELECTION=false".to_owned(),
        "INJECT_ENABLED=false".to_owned(),
        "VALIDATION_WEBHOOK_CONFIG_NAME=".to_owned(),
        "INJECTION_WEBHOOK_CONFIG_NAME=".to_owned(),
        "PILOT_ENABLE_GATEWAY_API=false".to_owned(),
        "PILOT_ENABLE_METADATA_EXCHANGE=false".to_owned(),
        "PILOT_ENABLE_ALPN_FILTER=false".to_owned(),
        "ENABLE_CA_SERVER=true".to_owned(),
        "PILOT_CERT_PROVIDER=istiod".to_owned(),
        format!("ROOT_CA_DIR={}", authority.display()),
        format!("{}/pilot-discovery", istio()),
        "discovery".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--meshConfig={}", mesh.display()),
        format!("--networksConfig={}", networks.display()),
        format!("--clusterID={name}"),
        format!("--grpcAddr={address}:15010"),
        format!("--secureGRPCAddr={address}:15012"),
        "--httpsAddr=".to_owned(),
        format!("--httpAddr={address}:{PROBES}"),
        format!("--monitoringAddr={address}:15014"),
        format!("--ctrlz_address={address}"),
    ];
    Ok(Server::new(
        "env".into(),
        arguments.to_vec(),
        folder.join(format!("istiod-{name}.log")),
        Config::new(format!("http://{address}:{PROBES}").parse()?),
        "/ready",
    ))
}

const MESH: &str = r#"
ingressControllerMode: "OFF"
accessLogFile: /dev/stdout
accessLogFormat: "access %REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% peer=%DOWNSTREAM_PEER_URI_SAN%\n"
"#;
