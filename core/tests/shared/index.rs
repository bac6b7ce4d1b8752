//! The index by name.

use spillway_core::index::Index;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn names_are_told_apart_where_their_hashes_are_equal() {
    // Two pairs of words that FNV-1a in 32 bits does not tell apart.
    let names = ["liquid", "declinate", "costarring", "macallums", "liquid"];
    let index = Index::new(names.into_iter().zip(0..).collect());
    let of = |name: &str| index.get(name).copied().collect::<Vec<i32>>();
    assert_eq!(of("liquid"), [0, 4]);
    assert_eq!(of("costarring"), [2]);
    assert_eq!(of("declinate"), [1]);
    assert_eq!(of("macallums"), [3]);
    assert!(of("liqui").is_empty() && of("").is_empty());
}

#[test]
fn each_of_many_names_is_found() {
    let name = |i: i32| format!("service-{i}.default.svc.cluster.local");
    let index = Index::new((0..5_000).map(|i| (name(i), i)).collect());
    for i in 0..5_000 {
        assert_eq!(index.get(&name(i)).collect::<Vec<_>>(), [&i]);
    }
    assert_eq!(index.get(&name(5_000)).next(), None);
}
