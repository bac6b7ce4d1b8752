//! A kubeconfig from a Secret to a client's configuration.
//!
//! Whoever may write the Secret must not gain anything by it. A kubeconfig can name files, which
//! would be the controller's own (its token, sent to an address of the writer's choice), and
//! programs, which would run in the controller. So both are refused, programs unless they were
//! allowed. What it holds is never repeated in an error: every message is a constant.

use std::fmt;

use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};

/// Everything that is wrong with a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(Vec<&'static str>);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its kubeconfig cannot be used: ")?;
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Unusable {}

/// Reads a kubeconfig and takes its current context.
///
/// # Errors
/// Everything that is wrong with it, with what to write instead.
pub async fn config(text: &[u8], allow_exec: bool) -> Result<Config, Unusable> {
    let unreadable = || {
        Unusable(vec![
            "it is not a kubeconfig: write one as `kubectl config view --raw --minify --flatten` prints it",
        ])
    };
    let text = std::str::from_utf8(text).map_err(|_| unreadable())?;
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| unreadable())?;
    let (cluster, user) = current(&kubeconfig).map_err(|problem| Unusable(vec![problem]))?;
    let mut problems = cluster_problems(cluster);
    problems.extend(user_problems(user, allow_exec));
    if !problems.is_empty() {
        return Err(Unusable(problems));
    }
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|_| {
            Unusable(vec![
                "its certificates or keys are not PEM in base64: write it with --flatten",
            ])
        })
}

fn current(kubeconfig: &Kubeconfig) -> Result<(&Cluster, &AuthInfo), &'static str> {
    let name = kubeconfig.current_context.as_deref();
    let context = kubeconfig
        .contexts
        .iter()
        .find(|context| Some(context.name.as_str()) == name)
        .and_then(|context| context.context.as_ref())
        .ok_or("current-context names no context: write the name of one of contexts")?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.as_ref())
        .ok_or("contexts[].context.cluster names no cluster: write the name of one of clusters")?;
    let user = kubeconfig
        .auth_infos
        .iter()
        .find(|user| Some(&user.name) == context.user.as_ref())
        .and_then(|user| user.auth_info.as_ref())
        .ok_or("contexts[].context.user names no user: write the name of one of users")?;
    Ok((cluster, user))
}

fn cluster_problems(cluster: &Cluster) -> Vec<&'static str> {
    let https = cluster
        .server
        .as_ref()
        .is_some_and(|server| server.starts_with("https://"));
    let checks = [
        (
            https,
            "cluster.server: write the https:// address of the API server",
        ),
        (
            cluster.certificate_authority.is_none(),
            "cluster.certificate-authority names a file: write certificate-authority-data",
        ),
        (
            cluster.insecure_skip_tls_verify != Some(true),
            "cluster.insecure-skip-tls-verify would send credentials to anybody: write certificate-authority-data",
        ),
        (
            cluster.proxy_url.is_none(),
            "cluster.proxy-url is not supported: leave it out",
        ),
    ];
    broken(checks)
}

fn user_problems(user: &AuthInfo, allow_exec: bool) -> Vec<&'static str> {
    let has_token = user.token.is_some();
    let has_certificate = user.client_certificate_data.is_some() && user.client_key_data.is_some();
    let has_exec = user.exec.is_some();
    let checks = [
        (
            !has_exec || allow_exec,
            "user.exec would run a program in the controller: write a token or a client certificate, or allow it with --allow-exec",
        ),
        (
            user.auth_provider.is_none(),
            "user.auth-provider is not supported: write a token or a client certificate",
        ),
        (
            user.token_file.is_none(),
            "user.tokenFile names a file: write token",
        ),
        (
            user.client_certificate.is_none(),
            "user.client-certificate names a file: write client-certificate-data",
        ),
        (
            user.client_key.is_none(),
            "user.client-key names a file: write client-key-data",
        ),
        (
            user.username.is_none() && user.password.is_none(),
            "user.username and password are not supported: write a token or a client certificate",
        ),
        (
            has_token || has_certificate || has_exec,
            "user has no credentials: write token, or client-certificate-data and client-key-data",
        ),
    ];
    broken(checks)
}

fn broken<const N: usize>(checks: [(bool, &'static str); N]) -> Vec<&'static str> {
    let problems = checks.into_iter().filter(|(holds, _)| !holds);
    problems.map(|(_, problem)| problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kubeconfig with these lines for its cluster and its user.
    fn with(cluster: &str, user: &str) -> String {
        format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{{cluster}}}}}], users: [{{name: u, user: {{{user}}}}}]}}"
        )
    }

    async fn problems(text: &str, allow_exec: bool) -> String {
        match config(text.as_bytes(), allow_exec).await {
            Ok(_) => String::new(),
            Err(unusable) => unusable.to_string(),
        }
    }

    const SERVER: &str = "server: 'https://127.0.0.1:1'";

    #[tokio::test]
    async fn a_token_is_enough() {
        assert_eq!(problems(&with(SERVER, "token: t"), false).await, "");
    }

    #[tokio::test]
    async fn all_problems_are_told_at_once_and_no_secret_is() {
        let text = with(
            "server: 'http://s3cret', certificate-authority: /s3cret, insecure-skip-tls-verify: true, proxy-url: 'http://s3cret'",
            "tokenFile: /s3cret, client-certificate: /s3cret, client-key: /s3cret, username: s3cret, password: s3cret",
        );
        let told = problems(&text, false).await;
        for part in [
            "cluster.server",
            "certificate-authority names",
            "insecure-skip-tls-verify",
            "proxy-url",
            "tokenFile",
            "client-certificate names",
            "client-key names",
            "username",
            "no credentials",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[tokio::test]
    async fn programs_are_refused_unless_allowed() {
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: 'true', interactiveMode: Never}";
        let text = with(SERVER, exec);
        assert!(problems(&text, false).await.contains("user.exec"));
        assert_eq!(problems(&text, true).await, "");
    }

    #[tokio::test]
    async fn what_is_no_kubeconfig_is_not_repeated() {
        for text in ["s3cret", "{token: s3cret", "[s3cret]", "users: s3cret"] {
            let told = problems(text, false).await;
            assert!(told.contains("cannot be used"), "{told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
        let broken = with(
            &format!("{SERVER}, certificate-authority-data: s3cret"),
            "token: t",
        );
        let told = problems(&broken, false).await;
        assert!(told.contains("PEM") && !told.contains("s3cret"), "{told}");
    }

    #[tokio::test]
    async fn a_context_that_leads_nowhere_is_told() {
        let text = with(SERVER, "token: t");
        for (from, to, part) in [
            (
                "current-context: c",
                "current-context: x",
                "current-context",
            ),
            ("cluster: c, user", "cluster: x, user", "context.cluster"),
            ("user: u}", "user: x}", "context.user"),
        ] {
            let told = problems(&text.replace(from, to), false).await;
            assert!(told.contains(part), "{told}");
        }
    }
}
