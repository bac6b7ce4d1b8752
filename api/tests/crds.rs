//! The definitions that the chart installs are those that the types make today.

use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts/spillway/crds")
}

#[test]
fn the_charts_definitions_are_up_to_date() {
    let update = std::env::var_os("SPILLWAY_UPDATE").is_some();
    let mut stale = Vec::new();
    for crd in spillway_api::crds::all().unwrap() {
        let name = crd.metadata.name.clone().unwrap();
        let path = folder().join(format!("{name}.yaml"));
        let text = serde_saphyr::to_string(&crd).unwrap();
        if update {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(path.display().to_string());
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {}\nSPILLWAY_UPDATE=1 writes them anew",
        stale.join(", ")
    );
}
