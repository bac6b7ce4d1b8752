//! What all subcommands share.

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use spillway_cli::reference;
use spillway_clusters::registry::Registry;

use crate::run::{
    BURST, CLUSTERS, IMAGE, POLICY, PRIMARY, WITH_CLUSTERS, WITH_HELM, folder, run, said, spillway,
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
        !WITH_CLUSTERS.contains(&name) && !WITH_HELM.contains(&name)
    };
    for command in command.get_subcommands().filter(apart) {
        let examples = reference::examples(command);
        assert!(
            !examples.is_empty(),
            "{} has no example",
            command.get_name()
        );
        for example in examples {
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
fn kubectl_finds_it_as_a_plugin() {
    let folder = folder(&[]);
    let plugin = folder.path().join("kubectl-spillway");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_spillway"), &plugin).unwrap();
    let output = Command::new(&plugin).arg("--help").output().unwrap();
    let said = said(&output);
    assert!(
        said.contains("Usage: kubectl spillway [OPTIONS] <COMMAND>"),
        "{said}"
    );
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

/// Each script names every subcommand; bash reads its own.
#[test]
fn shells_complete_it() {
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
    let asked = "source <(\"$0\" completion bash); COMP_WORDS=(spillway val); COMP_CWORD=1; \
                 _spillway spillway val spillway; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", asked, env!("CARGO_BIN_EXE_spillway")])
        .output();
    assert_eq!(said(&output.unwrap()), "validate\n--- status 0\n");
}
