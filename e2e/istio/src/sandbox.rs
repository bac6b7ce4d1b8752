//! Each test has a machine of its own.
//!
//! A mesh needs addresses, routes, packet filters and mounts, none of which a test may leave behind
//! on the machine that it runs on, whatever becomes of it. So a test runs itself once more as a
//! process in namespaces of its own: network, mounts and processes. There it is the first process,
//! and when that ends, also by SIGKILL, the kernel ends all others and takes the namespaces away,
//! with all that was in them. The machine's own network is never touched: nothing listens in it.
//!
//! ```no_run
//! use spillway_istio::sandbox;
//!
//! fn the_name_of_this_test() -> anyhow::Result<()> {
//!     sandbox::run("the_name_of_this_test", async || Ok(()))
//! }
//! ```

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use spillway_e2e::folder;

use crate::programs;

/// Set in the process inside.
const VARIABLE: &str = "SPILLWAY_SANDBOX";
/// Where programs are, for users who may not enter the folders that they are in outside.
const PROGRAMS: &str = "/mnt";
/// What a pod needs, each by itself, so that what is missing says so.
const PROBE: &str = "
    mount -t tmpfs probe /mnt
    ip link add probe type bridge
    ip link add probe-a type veth peer name probe-b
    iptables --table nat --append OUTPUT --protocol tcp --jump REDIRECT --to-ports 1";

/// Runs a test inside a sandbox: `name` is the name that the test's own program knows it by.
///
/// # Errors
/// When the test fails, or this machine cannot make a sandbox; with what is missing.
pub fn run(name: &str, test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    if env::var_os(VARIABLE).is_none() {
        return outside(name);
    }
    prepare()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(test())
}

fn outside(name: &str) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "pods are network namespaces, which only root makes: run this test as root"
    );
    for program in ["ip", "iptables", "nsenter", "setpriv", "unshare"] {
        ensure!(
            is_in_path(program),
            "no {program} in the PATH: `tools/setup netns` installs it"
        );
    }
    probe()?;
    // Whatever the test leaves in its temporary folder goes with this one.
    let folder = folder::create("spillway-istio")?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(["unshare", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "--"])
        .arg(env::current_exe()?)
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(VARIABLE, "1")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        // Indented: what counts results must not count this one too.
        println!("  {line}");
    }
    let status = child.wait()?;
    ensure!(status.success(), "{name} failed inside its sandbox");
    Ok(())
}

/// Root may not be enough: a container's has no right to make namespaces, and a kernel may lack what
/// networks and interception stand on.
fn probe() -> Result<()> {
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["sh", "-ec", PROBE])
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "this machine cannot run pods: they need namespaces of networks, mounts and processes \
         (CAP_SYS_ADMIN, CAP_NET_ADMIN), bridges, veth pairs, and REDIRECT in the NAT table of \
         iptables: {errors}"
    );
    Ok(())
}

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What the test's own namespaces need before anything runs in them.
fn prepare() -> Result<()> {
    succeed("ip", &["link", "set", "lo", "up"])?;
    succeed("mount", &["-t", "tmpfs", "programs", PROGRAMS])?;
    bind(&programs::istio()?, &istio())
}

/// Istio's folder, as everybody here may enter it.
pub(crate) fn istio() -> String {
    format!("{PROGRAMS}/istio")
}

/// A version of Envoy, as everybody here may run it.
pub(crate) fn envoy(version: &str) -> Result<String> {
    let place = format!("{PROGRAMS}/envoy-{version}");
    if !Path::new(&place).exists() {
        let program = spillway_e2e::artefacts::envoy(version)?.canonicalize()?;
        let folder = program.parent().context("a program is in a folder")?;
        bind(folder, &place)?;
    }
    Ok(format!("{place}/envoy"))
}

fn bind(folder: &Path, place: &str) -> Result<()> {
    std::fs::create_dir_all(place)?;
    let folder = folder.to_str().context("a folder's name is text")?;
    succeed("mount", &["--bind", folder, place])
}

/// Runs a program of the system to its end.
pub(crate) fn succeed(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let arguments = arguments.join(" ");
    ensure!(output.status.success(), "{program} {arguments}: {errors}");
    Ok(())
}
