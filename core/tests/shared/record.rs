//! Records that outlive the code that wrote them.

use spillway_core::gate::{Class, Gate};
use spillway_core::load::{Counts, MAX_RHO, Sums};
use spillway_core::rate::SECOND;
use spillway_core::record::{MAX_SIZE, Reader, Record, VERSION, Writer};
use spillway_core::switch::{Limits, Switch};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{each, per_second};

fn bytes<R: Record>(record: &R) -> Vec<u8> {
    record.encode(&mut [0xaa; MAX_SIZE]).to_vec()
}

/// What must hold for each kind; gives an encoding.
fn check<R: Record + PartialEq + core::fmt::Debug>(record: &R) -> Vec<u8> {
    let good = bytes(record);
    assert_eq!(good.len(), R::SIZE);
    assert!(R::SIZE <= MAX_SIZE);
    assert_eq!(good[..2], [R::KIND, VERSION]);
    assert_eq!(R::decode(&good).as_ref(), Some(record));

    assert_eq!(R::decode(&[]), None);
    for short in 0..good.len() {
        assert_eq!(R::decode(&good[..short]), None, "{short} bytes");
    }
    let mut long = good.clone();
    long.push(0);
    assert_eq!(R::decode(&long), None, "one byte too long");
    for version in (0..=255).filter(|v| *v != VERSION) {
        let mut other = good.clone();
        other[1] = version;
        assert_eq!(R::decode(&other), None, "version {version}");
    }
    for kind in (0..=255).filter(|k| *k != R::KIND) {
        let mut other = good.clone();
        other[0] = kind;
        assert_eq!(R::decode(&other), None, "kind {kind}");
    }
    for small in 0..R::SIZE {
        let mut buffer = vec![0; small];
        assert!(
            record.encode(&mut buffer).is_empty(),
            "a buffer of {small} bytes"
        );
    }
    good
}

#[test]
fn a_gate_comes_back_and_nothing_else_does() {
    check(&Gate::default());
    let good = check(&Gate {
        tat: 1,
        all: u64::MAX,
        in_flight: 0x0102_0304,
    });
    // The layout: whoever changes it raises the version.
    assert_eq!(good[2..10], 1_u64.to_le_bytes());
    assert_eq!(good[10..18], [0xff; 8]);
    assert_eq!(good[18..], [4, 3, 2, 1]);
}

#[test]
fn sums_come_back_and_nothing_else_does() {
    check(&Sums::default());
    let capacity = each(10, 1);
    let counts = Counts {
        own: 30,
        overflow: 20,
        admitted: 10,
    };
    let mut sums = Sums::default();
    for tick in 1..50 {
        sums = sums.tick(&capacity, tick * SECOND / 9, counts, 7);
    }
    let good = check(&sums);
    assert_eq!(good.len(), 74);

    // A load beyond what is ever told is cut.
    let mut foreign = good;
    foreign[66..].fill(0xff);
    let sums = Sums::decode(&foreign).unwrap();
    assert_eq!(sums.rho(Class::Own), MAX_RHO);
    assert_eq!(sums.rho(Class::Overflow), MAX_RHO);
}

#[test]
fn a_switch_comes_back_and_nothing_else_does() {
    let limits = Limits::new(per_second(15), per_second(10)).unwrap();
    check(&Switch::default());
    let mut switch = Switch::default();
    for tick in 1..100 {
        switch = switch.tick(&limits, tick * SECOND, 40);
    }
    assert!(switch.switched());
    let mut good = check(&switch);
    for neither in 2..=255 {
        *good.last_mut().unwrap() = neither;
        assert_eq!(Switch::decode(&good), None, "a truth value of {neither}");
    }
}

#[test]
fn kinds_differ() {
    let kinds = [Gate::KIND, Sums::KIND, Switch::KIND];
    for (i, kind) in kinds.iter().enumerate() {
        assert!(!kinds[..i].contains(kind));
    }
}

/// A record whose fields claim more than its size: what is too much is dropped, not written.
#[derive(Debug, Default, PartialEq)]
struct Greedy;

impl Record for Greedy {
    const KIND: u8 = b'x';
    const SIZE: usize = 2 + 4;

    fn write(&self, to: &mut Writer<'_>) {
        to.u32(1);
        to.u64(2);
        to.u8(3);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u32()?;
        assert_eq!(from.u8(), None);
        assert_eq!(from.u64(), None);
        Some(Self)
    }
}

#[test]
fn fields_beyond_the_size_do_no_harm() {
    let encoded = bytes(&Greedy);
    assert_eq!(encoded, [b'x', VERSION, 1, 0, 0, 0]);
    assert_eq!(Greedy::decode(&encoded), Some(Greedy));
}
