//! Switch mode against its rule in plain arithmetic.

use proptest::prelude::*;
use spillway_core::rate::SECOND;
use spillway_core::record::{MAX_SIZE, Record};
use spillway_core::switch::{Limits, Switch};

use crate::shared::help::per_second;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The state changes at a crossing of Bs = max(15, 1 s × enter) and nowhere else, and survives
    /// being stored and read at any time.
    #[test]
    fn a_switch_only_at_a_crossing(
        enter in 2_u32..2_000,
        leave_share in 0.05_f64..0.95,
        ticks in prop::collection::vec((1_u64..400, 0.0_f64..3.0), 1..400),
    ) {
        let leave = ((f64::from(enter) * leave_share) as u32).clamp(1, enter - 1);
        let limits = Limits::new(per_second(enter), per_second(leave)).unwrap();
        let bs = f64::from(enter).max(15.0);
        let mut switch = Switch::default().tick(&limits, SECOND, 5);
        let mut now = SECOND;
        let (mut up, mut down, mut switched) = (0.0_f64, 0.0_f64, false);
        for (milli, times) in ticks {
            now += milli * 1_000_000;
            let dt = milli as f64 / 1_000.0;
            let count = (f64::from(enter) * times * dt) as u64;
            up = (up + count as f64 - f64::from(enter) * dt).max(0.0);
            down = (down + f64::from(leave) * dt - count as f64).max(0.0);
            let near = |sum: f64| (sum - bs).abs() < 1e-3;
            let crossing = if switched { down } else { up };
            let mut buffer = [0; MAX_SIZE];
            switch = Switch::decode(switch.encode(&mut buffer)).unwrap();
            switch = switch.tick(&limits, now, count);
            if near(crossing) {
                return Ok(()); // too near to tell by floating point
            }
            if !switched && up > bs {
                (switched, down) = (true, 0.0);
            } else if switched && down > bs {
                (switched, up) = (false, 0.0);
            }
            prop_assert_eq!(switch.switched(), switched, "up {} down {} of {}", up, down, bs);
            // Sums beyond the threshold are not told apart.
            (up, down) = (up.min(bs + 1e-6), down.min(bs + 1e-6));
        }
    }

    #[test]
    fn no_count_and_no_time_is_too_large(
        ticks in prop::collection::vec((any::<u64>(), any::<u64>(), 0_u32..64), 1..40),
    ) {
        let limits = Limits::new(per_second(1_000_000), per_second(1)).unwrap();
        let mut switch = Switch::default();
        for (now, count, shift) in ticks {
            switch = switch.tick(&limits, now >> shift, count >> shift);
        }
    }
}
