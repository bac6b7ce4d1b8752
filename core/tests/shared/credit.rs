//! The echo credit: honest claims are counted in full, forged ones are cut to what the load
//! explains.

use spillway_core::gate::Class;
use spillway_core::header::{Flags, Hop};
use spillway_core::load::{Counts, Sums};
use spillway_core::rate::SECOND;
use spillway_core::server::Server;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{MILLI, each};

const fn hop(echo: u32) -> Hop<'static> {
    Hop {
        target: "a",
        token: "mesh-token-1",
        home: "a",
        policy: "worker",
        echo,
        flags: Flags {
            bounceable: true,
            returned: false,
            shadow: false,
        },
    }
}

/// A server that was told this own load, thousandths, and what was told.
fn at_load(own: u64) -> (Server, u64) {
    let counts = Counts {
        own,
        overflow: 0,
        admitted: 0,
    };
    let sums = (1..200).fold(Sums::default(), |sums, second| {
        sums.tick(&each(1_000, 1), second * SECOND, counts, 0)
    });
    let mut server = Server::default();
    server.on_sums(&sums, 200 * SECOND);
    (server, u64::from(sums.rho(Class::Own)))
}

/// What `n` requests with this echo count for, thousandths.
fn claim(server: &mut Server, echo: u32, n: u64) -> u64 {
    for _ in 0..n {
        server.on_request(Some(&hop(echo)), 1, "a", false);
    }
    server.drain().own * 1_000
}

/// Claims of any size count at most max(1.1, ρ) a request and the cap once.
#[test]
fn forged_claims_are_cut() {
    for load in [0, 500, 1_000, 1_500, 3_000, 10_000] {
        for echo in [1, 2, 100, 999_999_999, u32::MAX] {
            let (mut server, rho) = at_load(load);
            let n = 1_000;
            let counted = claim(&mut server, echo, n);
            let cap = 16 * rho.max(1_000) + 16_000;
            assert!(counted <= n * rho.max(1_100) + cap, "{load} {echo}");
        }
    }
}

/// After many small claims, one large one counts the cap at most.
#[test]
fn credit_is_saved_up_to_the_cap() {
    for load in [0, 1_000, 3_000] {
        let (mut server, rho) = at_load(load);
        claim(&mut server, 1, 10_000);
        let cap = 16 * rho.max(1_000) + 16_000;
        assert_eq!(claim(&mut server, u32::MAX, 1), cap / 1_000 * 1_000);
    }
}

#[test]
fn a_claim_of_nothing_counts_one() {
    let (mut server, _) = at_load(0);
    assert_eq!(claim(&mut server, 0, 5), 5_000);
}

/// Callers that divert what does not fit claim ρ on average; fractions must not get lost, or the
/// load that is told sinks below the true one.
#[test]
fn honest_claims_count_in_full() {
    for load in [1_100, 1_300, 1_500, 1_900, 2_500, 3_300] {
        let (mut server, rho) = at_load(load);
        let (mut acc, mut owed, mut claimed, mut sent) = (0, 0, 0, 0);
        for _ in 0..100_000 {
            owed += 1;
            acc += 1_000_000 / rho;
            if acc >= 1_000 {
                acc -= 1_000;
                server.on_request(Some(&hop(owed)), 1, "a", false);
                claimed += u64::from(owed);
                sent += 1;
                owed = 0;
            }
        }
        let counted = server.drain().own;
        assert!(
            counted * 1_000 >= claimed * 995,
            "at {rho}: {counted} of {claimed} in {sent} requests"
        );
    }
}

/// An endpoint that has just started knows no load, while its callers know theirs. Their claims
/// are cut at first, so that it tells a load that is too low; they send more home by that, and it
/// learns the true one.
#[test]
fn a_new_endpoint_learns_the_load() {
    let capacity = each(100, 1);
    let (mut server, mut sums) = (Server::default(), Sums::default());
    let (mut told, mut acc, mut owed) = (2_500, 0, 0);
    for tick in 1..=300 {
        // 250/s are offered.
        for _ in 0..25 {
            owed += 1;
            acc += (1_020_000 / told.max(1)).min(1_000);
            if acc >= 1_000 {
                acc -= 1_000;
                server.on_request(Some(&hop(owed)), 1, "a", false);
                owed = 0;
            }
        }
        sums = sums.tick(&capacity, tick * 100 * MILLI, server.drain(), 0);
        server.on_sums(&sums, tick * 100 * MILLI);
        told = sums.rho(Class::Own);
    }
    assert!(
        (2_350..=2_550).contains(&told),
        "{told} is told, 2500 is true"
    );
}

/// The classes have their own credit: forged overflow costs own traffic nothing.
#[test]
fn credit_is_kept_by_class() {
    let (mut server, _) = at_load(0);
    let overflow = Hop {
        home: "z",
        ..hop(1_000)
    };
    server.on_request(Some(&overflow), 1, "a", false);
    let before = server.drain();
    assert_eq!((before.own, before.overflow), (0, 1));
    for _ in 0..100 {
        server.on_request(Some(&hop(1)), 1, "a", false);
        server.on_request(Some(&overflow), 1, "a", false);
    }
    let after = server.drain();
    assert_eq!(after.own, 100);
    assert!(after.overflow <= 110 + 32, "{}", after.overflow);
}
