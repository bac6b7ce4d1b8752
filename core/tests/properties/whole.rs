//! Whole meshes of any shape: what holds for every request, checked by the mesh itself.

use proptest::prelude::*;
use spillway_core::rate::Capacity;

use crate::shared::help::{MILLI, count, per_second};
use crate::shared::mesh::{Callers, Cluster, Mesh, run};

fn cluster() -> impl Strategy<Value = Cluster> {
    let rate = prop::option::weighted(0.8, prop_oneof![5_u32..30, 30_u32..300]);
    let concurrency = prop::option::weighted(0.3, 1_u32..20);
    (1_usize..5, rate, concurrency, 1_u64..200).prop_map(|(endpoints, rate, concurrency, milli)| {
        let limited = rate.is_some() || concurrency.is_some();
        let of = Capacity::of_each(
            rate.map(per_second),
            concurrency.map(count),
            count(endpoints as u32),
        );
        Cluster {
            endpoints,
            capacity: limited.then_some(of),
            takes: milli * MILLI,
        }
    })
}

fn callers(clusters: usize) -> impl Strategy<Value = Callers> {
    let ladder = Just((0..clusters).collect::<Vec<_>>()).prop_shuffle();
    let share = || prop_oneof![Just(0.0), Just(1.0), 0.0_f64..1.0];
    let never = prop_oneof![3 => Just(0.0), 1 => 0.0_f64..1.0];
    let forged = prop::option::weighted(0.1, any::<u32>());
    (
        1_usize..5,
        1.0_f64..600.0,
        ladder,
        1..=clusters,
        share(),
        never,
        forged,
    )
        .prop_map(
            |(threads, rate, ladder, n, bounceable, never, forged_echo)| Callers {
                bounceable,
                never,
                forged_echo,
                ..Callers::new(threads, rate, &ladder[..n])
            },
        )
}

fn mesh() -> impl Strategy<Value = Mesh> {
    (2_usize..=3)
        .prop_flat_map(|n| {
            let clusters = prop::collection::vec(cluster(), n);
            let callers = prop::collection::vec(callers(n), 1..4);
            (clusters, callers, any::<bool>(), 0.0_f64..1.0, any::<u64>())
        })
        .prop_map(|(clusters, callers, shed, deaf, seed)| Mesh {
            shed,
            deaf: if deaf > 0.7 { 1.0 } else { deaf / 7.0 },
            seconds: 4,
            settle: 0,
            seed,
            ..Mesh::new(clusters, callers)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Each request is served by one cluster or shed; bounces keep to the table; what came home is
    /// not bounced; no endpoint admits more than its bound; echoes add up; nothing is left in
    /// flight.
    #[test]
    fn every_mesh_keeps_the_invariants(mesh in mesh()) {
        let report = run(&mesh);
        let ended: u64 = report.served.iter().sum::<u64>() + report.shed;
        prop_assert_eq!(ended, report.all());
        prop_assert_eq!(report.attempts, ended + report.bounced);
        if !mesh.shed {
            prop_assert_eq!(report.shed, 0);
        }
        if mesh.callers.iter().all(|c| c.bounceable == 0.0) {
            prop_assert_eq!(report.bounced, 0);
        }
    }
}
