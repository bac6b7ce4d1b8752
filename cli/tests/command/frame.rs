//! What all subcommands share.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use spillway_cli::reference;
use spillway_clusters::registry::Registry;

use crate::run::{
    BURST, CLUSTERS, FLIGHT, IMAGE, POLICY, PRIMARY, WITH_CLUSTERS, WITH_HELM, folder, run, said,
    spillway,
};

#[test]
fn help_lists_what_there_is() {
    let folder = folder(&[]);
    assert_snapshot!(run(folder.path(), &["--help"]));
}

/// Every subcommand's help has examples, and each of them runs; those that need clusters elsewhere.
#[tokio::test]
async fn every_example_runs() {
    let folder = folder(&[
        ("policy.yaml", POLICY),
        (
            "fleet.yaml",
            "{apiVersion: spillway.dev/v1alpha1, kind: Fleet, metadata: {name: cloud}, spec: {clusterSelector: {matchLabels: {site: cloud}}}}",
        ),
        ("mesh/policy.yaml", POLICY),
        ("mesh/clusters.yaml", CLUSTERS),
        ("mesh/clusters/primary/seen.yaml", PRIMARY),
        ("mesh/clusters/burst/seen.yaml", BURST),
        ("tokens", "mesh-token-1"),
        ("spillway-filter.wasm", "\0asm"),
        ("access.log", "GET /a 200 over-limit"),
        ("day.csv", "time,rate\n0,5\n60,75\n120,5\n"),
    ]);
    let registry = Registry::start().await.unwrap();
    let command = spillway_cli::command(None);
    let apart = |command: &&clap::Command| {
        let name = command.get_name();
        !WITH_CLUSTERS.contains(&name) && !WITH_HELM.contains(&name) && name != FLIGHT
    };
    for command in command.get_subcommands().filter(apart) {
        let examples = reference::examples(command);
        assert!(
            !examples.is_empty(),
            "{} has no example",
            command.get_name()
        );
        // What clusters are compared with is tried where there are some.
        for example in examples.iter().filter(|it| !it.ends_with("--live")) {
            let example = example.replace("127.0.0.1:5000", registry.address());
            let words: Vec<&str> = example.split(' ').skip(1).collect();
            assert_eq!(words[0], command.get_name(), "{example}");
            let mut command = spillway(folder.path());
            command
                .env("SPILLWAY_IMAGE", IMAGE)
                .env("SPILLWAY_TOKENS", "tokens");
            let output = command.args(words).output().unwrap();
            assert!(output.status.success(), "{example}: {}", said(&output));
            assert!(!output.stdout.is_empty(), "{example} says nothing");
        }
    }
    let of_all = reference::examples(&command).into_iter();
    for example in of_all.filter(|it| !WITH_CLUSTERS.iter().any(|name| it.ends_with(name))) {
        let words: Vec<&str> = example.split(' ').skip(1).collect();
        let said = run(folder.path(), &words);
        assert!(said.ends_with("--- status 0\n"), "{example}: {said}");
    }
}

/// The page is made from the help.
#[test]
fn the_reference_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    let page = reference::page();
    if std::env::var_os("SPILLWAY_UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/cli.md is stale; SPILLWAY_UPDATE=1 writes it anew"
    );
}

#[test]
fn what_is_written_wrongly_has_a_status_of_its_own() {
    let folder = folder(&[]);
    for words in [
        &["validat"][..],
        &["validate"],
        &["validate", "--colour", "x"],
        &[],
    ] {
        let said = run(folder.path(), words);
        assert!(said.ends_with("--- status 64\n"), "{said}");
    }
    assert_snapshot!(run(folder.path(), &["validate", "nowhere.yaml"]));
}

#[test]
fn colours_are_for_terminals() {
    let folder = folder(&[("policy.yaml", POLICY)]);
    let coloured = |name: &str, value: &str| {
        let mut command = spillway(folder.path());
        let output = command
            .args(["validate", "policy.yaml"])
            .env(name, value)
            .output();
        output.unwrap().stdout.contains(&0x1b)
    };
    assert!(!coloured("TERM", "xterm"), "no terminal");
    assert!(coloured("CLICOLOR_FORCE", "1"));
    assert!(!coloured("NO_COLOR", "1"));
}

/// Each script names every subcommand.
#[test]
fn completion_knows_all() {
    let folder = folder(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(folder.path(), &["completion", shell]);
        for command in spillway_cli::command(None).get_subcommands() {
            assert!(
                script.contains(command.get_name()),
                "{shell}: {}",
                command.get_name()
            );
        }
    }
}

/// Whatever the form of what is said, and whatever was found.
#[test]
fn the_status_does_not_depend_on_the_form() {
    let folder = folder(&[
        ("policy.yaml", POLICY),
        ("wrong.yaml", &POLICY.replace("15/s", "15")),
        ("mesh/policy.yaml", POLICY),
        ("mesh/clusters.yaml", CLUSTERS),
        ("tokens", "mesh-token-1"),
        ("day.csv", "time,rate\n0,5\n60,75\n120,5\n"),
    ]);
    for (words, status) in [
        ("validate policy.yaml", 0),
        ("validate wrong.yaml", 1),
        ("validate nowhere.yaml", 65),
        ("render mesh --out out --dry-run", 1),
        ("diff mesh --against out", 1),
        ("simulate policy.yaml day.csv", 0),
        ("simulate wrong.yaml day.csv", 65),
        ("why policy.yaml --rate 75/s", 0),
        ("status --kubeconfig nowhere", 65),
        ("test-flight 127.0.0.1:1 --rate 5 --for 1s", 2),
        ("test-flight worker --rate 50 --for 1h", 64),
    ] {
        for form in ["text", "json", "yaml"] {
            let mut command = spillway(folder.path());
            command
                .env("SPILLWAY_IMAGE", IMAGE)
                .env("SPILLWAY_TOKENS", "tokens");
            let output = command.args(words.split(' ')).args(["-o", form]).output();
            let output = output.unwrap();
            assert_eq!(
                output.status.code(),
                Some(status),
                "{words} -o {form}: {}",
                said(&output)
            );
        }
    }
}
