//! `spillway why`.

use insta::assert_snapshot;

use crate::run::{POLICY, folder, run};

const LADDER: &str = "
apiVersion: spillway.dev/v1alpha1
kind: BurstPolicy
metadata: {name: ladder, namespace: shop}
spec:
  targetRefs: [{name: worker}]
  home: primary
  overflow: [{cluster: burst, maxRate: 5/s}, {fleet: cloud}]
  capacity:
    perEndpoint: {rate: 10/s}
    overrides: [{cluster: burst, total: {rate: 20/s}}, {fleet: cloud, total: {rate: 600/m}}]
  routes: [{match: {pathPrefix: /checkout}, class: Never}]
  override: {force: Home, until: \"2021-12-01T08:00:00Z\"}
  onExhausted: Shed
  enforcement: Shadow
";

const SWITCH: &str = "
apiVersion: spillway.dev/v1alpha1
kind: BurstPolicy
metadata: {name: switch}
spec:
  targetRefs: [{name: worker}]
  overflow: [{cluster: burst}]
  mode: Switch
  switch: {enter: 15/s, leave: 10/s}
";

#[test]
fn a_policy_at_a_rate() {
    let folder = folder(&[
        ("policy.yaml", POLICY),
        ("ladder.yaml", LADDER),
        ("switch.yaml", SWITCH),
        (
            "forced.yaml",
            &SWITCH.replace(
                "  mode",
                "  override: {force: Overflow, until: \"2126-12-01T08:00:00Z\"}\n  mode",
            ),
        ),
    ]);
    let cases = [
        ("policy.yaml", "10/s"),
        ("policy.yaml", "75/s"),
        ("ladder.yaml", "75/s"),
        ("switch.yaml", "16/s"),
        ("switch.yaml", "12/s"),
        ("switch.yaml", "540/m"),
        ("forced.yaml", "1/s"),
    ];
    let told = cases.map(|(policy, rate)| run(folder.path(), &["why", policy, "--rate", rate]));
    assert_snapshot!(told.join("\n"));
}

/// Forms differ; a path that is called as a reason is none.
#[test]
fn an_access_log() {
    let json = r#"{"path":"/probe","reason":"over-limit","cluster":"outbound|80|spillway-burst|worker.shop.svc.cluster.local"}"#;
    let text = r#"[2026-11-21T10:00:00.000Z] "GET /probe HTTP/1.1" 200 - via_upstream - "outbound|80||worker.shop.svc.cluster.local""#;
    let log = [
        json,
        json,
        text,
        r#"10:00:01 "POST /a" 429 spillway_bounced over-limit"#,
        r#"10:00:02 "GET /a" 200 shadow:exhausted "outbound|80|spillway-home|worker.shop.svc.cluster.local""#,
        "",
    ];
    let folder = folder(&[("access.log", &log.join("\n")), ("empty.log", "\n")]);
    let told = ["access.log", "empty.log"].map(|log| run(folder.path(), &["why", "--log", log]));
    assert_snapshot!(told.join("\n"));
}

#[test]
fn what_cannot_be_explained() {
    let folder = folder(&[
        ("two.yaml", &format!("{POLICY}---\n{SWITCH}")),
        ("wrong.yaml", &POLICY.replace("15/s", "15")),
    ]);
    let told = [
        run(folder.path(), &["why", "two.yaml", "--rate", "1/s"]),
        run(folder.path(), &["why", "wrong.yaml", "--rate", "1/s"]),
        run(folder.path(), &["why", "wrong.yaml"]),
        run(folder.path(), &["why", "wrong.yaml", "--rate", "1"]),
    ];
    assert_snapshot!(told.join("\n"));
}
