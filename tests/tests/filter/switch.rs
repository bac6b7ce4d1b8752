//! Switch mode: all home, or all to the rung, with hysteresis.

use serde_json::json;

use crate::sidecar::{Sidecar, client, hop, outbound, policy};

fn switching() -> String {
    policy("Client", |p| {
        p["mode"] = json!("Switch");
        p["switch"] = json!({"enter": "15/s", "leave": "10/s"});
    })
}

/// Requests at an even rate for so many seconds; the part of the last ones that went to the rung.
fn run(callers: &mut [&mut Sidecar], per_second: u64, seconds: u64) -> f64 {
    let (mut last, mut away) = (0, 0);
    for i in 0..per_second * seconds {
        let turn = i as usize % callers.len();
        let target = callers[turn].send(&outbound(), &[])[0].clone();
        if i >= per_second * (seconds - 1) {
            last += 1;
            away += u32::from(target == "burst");
        }
        callers[0].pass(1_000 / per_second);
        for other in callers.iter_mut().skip(1) {
            other.vm.tick(other.plugin).unwrap();
        }
    }
    f64::from(away) / f64::from(last)
}

#[test]
fn all_goes_away_above_the_limit_and_comes_back_below_the_lower_one() {
    let mut caller = Sidecar::start("primary", &switching());
    assert_eq!(run(&mut [&mut caller], 10, 10), 0.0);
    assert_eq!(run(&mut [&mut caller], 25, 5), 1.0);
    assert_eq!(
        run(&mut [&mut caller], 12, 10),
        1.0,
        "between the limits it stays"
    );
    assert_eq!(run(&mut [&mut caller], 5, 6), 0.0);
    assert_eq!(
        run(&mut [&mut caller], 14, 10),
        0.0,
        "between the limits it stays"
    );
}

#[test]
fn the_switch_survives_a_reload_and_holds_in_all_threads() {
    let mut one = Sidecar::start("primary", &switching());
    let mut two = Sidecar::of(&one.proxy, &switching());
    assert_eq!(
        run(&mut [&mut one, &mut two], 40, 4),
        1.0,
        "each thread alone stays below 25/s"
    );
    one.reconfigure(&switching());
    assert_eq!(hop(&one.forward(&outbound()))[0], "burst");
    let mut three = Sidecar::of(&one.proxy, &switching());
    assert_eq!(
        hop(&three.forward(&outbound()))[0],
        "burst",
        "a thread that starts now knows"
    );
}

#[test]
fn another_mode_forgets_the_switch() {
    let mut caller = Sidecar::start("primary", &switching());
    run(&mut [&mut caller], 40, 4);
    caller.reconfigure(&client());
    assert_eq!(hop(&caller.forward(&outbound()))[0], "primary");
}
