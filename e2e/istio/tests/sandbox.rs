//! A machine that cannot run the tests says what it lacks: nothing passes there silently.

use std::env;
use std::process::Command;

use anyhow::{Result, ensure};
use spillway_istio::sandbox;

/// Set where the sandbox is to be refused.
const REFUSED: &str = "SPILLWAY_TEST_REFUSED";

#[test]
fn a_machine_without_namespaces_says_so() -> Result<()> {
    const NAME: &str = "a_machine_without_namespaces_says_so";
    if env::var_os(REFUSED).is_some() {
        return sandbox::run(NAME, async || Ok(()));
    }
    for (taken, missing) in [
        ("-sys_admin", "cannot run pods: they need namespaces"),
        ("-net_admin", "REDIRECT in the NAT table"),
    ] {
        let output = Command::new("setpriv")
            .args(["--bounding-set", taken, "--"])
            .arg(env::current_exe()?)
            .args(["--exact", NAME, "--nocapture"])
            .env(REFUSED, "1")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "it passed without {taken}");
        ensure!(said.contains(missing), "{taken}: {said}");
    }
    Ok(())
}
