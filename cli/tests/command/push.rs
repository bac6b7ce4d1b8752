//! `spillway push`.

use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use serde_json::Value;
use spillway_clusters::registry::{KNOWN, Registry, digest};
use spillway_controller::image::{Images, Registries};
use tokio::net::TcpListener;

use crate::run::{folder, run, said, spillway};

const MODULE: &str = "\0asm\u{1}\0\0\0";

/// The controller can have what was pushed, by the name that was printed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_can_be_pulled() {
    let registry = Registry::start().await.unwrap();
    let folder = folder(&[("filter.wasm", MODULE)]);
    let to = format!("{}/spillway/filter:latest", registry.address());
    let words = ["push", &to, "--filter", "filter.wasm", "--plain-http"];
    let dry = spillway(folder.path())
        .args(words)
        .arg("--dry-run")
        .output()
        .unwrap();
    let images = Images::new(
        Registries {
            insecure: vec![registry.address().to_owned()],
            ..Registries::default()
        },
        Duration::from_secs(20),
    );
    let name = String::from_utf8(dry.stdout).unwrap();
    assert!(images.available(name.trim()).await.is_err(), "{name}");
    let pushed = spillway(folder.path()).args(words).output().unwrap();
    assert_eq!(said(&pushed), format!("{name}--- status 0\n"));
    images.available(name.trim()).await.unwrap();
    assert!(name.starts_with(&format!(
        "oci://{}/spillway/filter@sha256:",
        registry.address()
    )));
}

/// Others read what was pushed: Debian's skopeo fetches it by the printed digest and checks it.
/// With and without TLS and a password; twice the same gives the same image.
#[tokio::test(flavor = "multi_thread")]
async fn other_clients_read_it() {
    let (name, password) = KNOWN;
    let creds = format!("--src-creds={name}:{password}");
    let (trusted, untrusted) = ("--src-cert-dir=.", "--src-tls-verify=false");
    let guarded = ["--authorities", "ca.crt", "--username", name];
    let plain = Registry::start().await.unwrap();
    let tls = Registry::start_with_tls().await.unwrap();
    let all = Registry::start_guarded().await.unwrap();
    let mut digests = Vec::new();
    for (registry, pushes, reads) in [
        (&plain, &["--plain-http"][..], &[untrusted][..]),
        (&tls, &guarded[..2], &[trusted]),
        (&all, &guarded, &[trusted, &creds]),
    ] {
        let folder = folder(&[("filter.wasm", MODULE), ("ca.crt", registry.ca_pem())]);
        let to = format!("{}/spillway/filter:latest", registry.address());
        let push = || {
            let mut command = spillway(folder.path());
            command.args(["push", &to, "--filter", "filter.wasm"]);
            command.args(pushes).env("REGISTRY_PASSWORD", password);
            said(&command.output().unwrap())
        };
        let pushed = push();
        assert_eq!(push(), pushed);
        let pinned = pushed.lines().next().unwrap().replace("oci:", "docker:");
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--preserve-digests"])
            .args(reads)
            .args([&pinned, "dir:copy"])
            .current_dir(folder.path())
            .output()
            .expect("no skopeo: `tools/setup skopeo` installs it");
        assert!(copied.status.success(), "{copied:?}");
        let manifest = std::fs::read(folder.path().join("copy/manifest.json")).unwrap();
        let digest = digest(&manifest);
        assert!(pinned.ends_with(&format!("@{digest}")), "{pinned}");
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let licences = &manifest["annotations"]["org.opencontainers.image.licenses"];
        assert_eq!(licences, "Apache-2.0", "{manifest}");
        digests.push(digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

/// With TLS and a password; without either it says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_registry() {
    let registry = Registry::start_guarded().await.unwrap();
    let folder = folder(&[("filter.wasm", MODULE), ("ca.pem", registry.ca_pem())]);
    let to = format!("{}/spillway/filter:latest", registry.address());
    let push = |words: &[&str], input: &str| {
        let mut command = spillway(folder.path());
        command
            .args(["push", &to, "--filter", "filter.wasm"])
            .args(words);
        let said = said(&command.write_stdin(input).output().unwrap());
        said.replace(registry.address(), "REGISTRY")
    };
    let (name, password) = KNOWN;
    let trusted = [
        "--authorities",
        "ca.pem",
        "--username",
        name,
        "--password-stdin",
    ];
    assert!(push(&trusted, password).ends_with("--- status 0\n"));
    let told = [
        push(&trusted, "wrong"),
        push(&trusted[..2], ""),
        push(&trusted[2..], password),
    ];
    for said in &told {
        assert!(
            said.ends_with("--- status 2\n") && !said.contains(password),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong() {
    let folder = folder(&[("filter.wasm", "text")]);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("{}/filter:latest", nobody.local_addr().unwrap());
    let missing = run(folder.path(), &["push", "127.0.0.1:9/filter:latest"]);
    let module = [
        "push",
        "127.0.0.1:9/filter:latest",
        "--filter",
        "filter.wasm",
    ];
    let text = run(folder.path(), &module);
    std::fs::write(folder.path().join("filter.wasm"), MODULE).unwrap();
    let mut command = spillway(folder.path());
    let no_password = said(
        &command
            .args(module)
            .args(["--username", "alice"])
            .output()
            .unwrap(),
    );
    let words = ["push", "127.0.0.1:9/Filter", "--filter", "filter.wasm"];
    let name = run(folder.path(), &words);
    // It takes the connection and never answers.
    let words = [
        "push",
        &to,
        "--filter",
        "filter.wasm",
        "--plain-http",
        "--timeout",
        "1",
    ];
    let late = run(folder.path(), &words).replace(&to, "REGISTRY");
    assert_snapshot!([missing, text, no_password, name, late].join(""));
}
