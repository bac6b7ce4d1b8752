//! Shells and kubectl, as people use them.

use std::path::Path;
use std::process::Command;

use spillway_cli::reference;
use spillway_clusters::programs;

use crate::run::{folder, said};
use crate::terminal::Terminal;

/// How each shell is started with nothing of its user's, and takes the script.
const SHELLS: [(&str, &str, &str); 3] = [
    (
        "bash",
        "bash --norc --noprofile",
        "source <(spillway completion bash)",
    ),
    (
        "zsh",
        "zsh -f",
        "autoload -U compinit && compinit -u -D && source <(spillway completion zsh)",
    ),
    (
        "fish",
        "fish --no-config",
        "spillway completion fish | source",
    ),
];

/// A search path with the command under a name of its own, before that of the tests.
fn path_with(folder: &Path, name: &str, others: &[&Path]) -> String {
    let program = env!("CARGO_BIN_EXE_spillway");
    std::os::unix::fs::symlink(program, folder.join(name)).unwrap();
    let own = std::env::var("PATH").unwrap_or_default();
    let others = others.iter().map(|path| format!("{}:", path.display()));
    format!("{}:{}{own}", folder.display(), others.collect::<String>())
}

/// A key press in a real shell finishes a subcommand's name, and an argument's.
#[test]
fn shells_complete_it() {
    for (shell, start, take) in SHELLS {
        let folder = folder(&[]);
        let path = path_with(folder.path(), "spillway", &[]);
        let home = folder.path().display();
        let start = format!("env -i PATH={path} HOME={home} TERM=xterm LC_ALL=C.UTF-8 {start}");
        let terminal = Terminal::start(150, 20, &start);
        terminal.type_line(take);
        terminal.type_line("echo ready | tr a-z A-Z");
        terminal.until(&format!("{shell} is ready"), |it| it.contains("READY"));
        terminal.type_text("spillway test-f");
        terminal.press("Tab");
        let completed = "spillway test-flight";
        terminal.until(&format!("{shell} completes a name"), |it| {
            it.contains(completed)
        });
        terminal.type_text("--dry-r");
        terminal.press("Tab");
        let completed = "spillway test-flight --dry-run";
        terminal.until(&format!("{shell} completes an argument"), |it| {
            it.contains(completed)
        });
    }
}

/// kubectl finds the plugin by its name, and passes arguments and status on.
#[test]
fn kubectl_runs_it_as_a_plugin() {
    let folder = folder(&[(
        "wrong.yaml",
        "{apiVersion: spillway.dev/v1alpha1, kind: Fleet, metadata: {name: a}, spec: {}}",
    )]);
    let kubectl = programs::kubernetes("kubectl").unwrap();
    let path = path_with(
        folder.path(),
        "kubectl-spillway",
        &[kubectl.parent().unwrap()],
    );
    let run = |words: &str| {
        let mut command = Command::new(&kubectl);
        command
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", &path);
        said(
            &command
                .env("HOME", folder.path())
                .args(words.split(' '))
                .output()
                .unwrap(),
        )
    };
    let help = run("spillway --help");
    assert!(
        help.contains("Usage: kubectl spillway [OPTIONS] <COMMAND>"),
        "{help}"
    );
    let wrong = run("spillway validate wrong.yaml");
    assert!(wrong.ends_with("--- status 1\n"), "{wrong}");
    let listed = run("plugin list");
    assert!(listed.contains("kubectl-spillway"), "{listed}");
}

/// What the help of the command itself begins with is written as in the helps of its subcommands.
#[test]
fn examples_name_subcommands_that_exist() {
    let command = spillway_cli::command(None);
    let examples = reference::examples(&command);
    assert!(!examples.is_empty());
    for example in examples {
        let name = example.split(' ').nth(1).unwrap();
        assert!(command.find_subcommand(name).is_some(), "{example}");
    }
}
