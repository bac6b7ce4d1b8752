//! Lives that nobody planned: hostile headers, failing functions, jumping clocks and changing configurations, in any
//! order, over two worker threads with a plugin of either side.

use std::time::Duration;

use proptest::prelude::*;
use spillway_tests::{
    Clock, Fault, HostFunction, Outcome, PluginId, Proxy, Result, Status, Vm, traffic,
};

use crate::hostile::{NAMES, values};
use crate::sidecar::{HOME, client, filter, inbound, outbound, server, stranger};

/// One step of a life that nobody planned.
#[derive(Clone, Debug)]
enum Step {
    Exchange {
        vm: usize,
        server: bool,
        name: usize,
        value: usize,
        status: u16,
        respond: bool,
    },
    Tick {
        vm: usize,
    },
    Pass {
        milliseconds: u64,
    },
    Jump {
        monotonic: u64,
    },
    Configure {
        vm: usize,
        document: usize,
    },
    Fault {
        function: usize,
        fault: usize,
    },
    Well,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let exchange = (
        0..2_usize,
        any::<bool>(),
        0..NAMES.len(),
        0..values().len(),
        200..600_u16,
        any::<bool>(),
    )
        .prop_map(
            |(vm, server, name, value, status, respond)| Step::Exchange {
                vm,
                server,
                name,
                value,
                status,
                respond,
            },
        );
    let step = prop_oneof![
        12 => exchange,
        2 => (0..2_usize).prop_map(|vm| Step::Tick { vm }),
        2 => (0..5_000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => any::<u64>().prop_map(|monotonic| Step::Jump { monotonic }),
        1 => (0..2_usize, 0..4_usize).prop_map(|(vm, document)| Step::Configure { vm, document }),
        2 => (0..HostFunction::ALL.len(), 0..12_usize).prop_map(|(function, fault)| Step::Fault { function, fault }),
        2 => Just(Step::Well),
    ];
    proptest::collection::vec(step, 1..120)
}

/// A proxy of two worker threads, each with a plugin of either side.
struct Life {
    proxy: Proxy,
    vms: Vec<(Vm, [PluginId; 2])>,
    values: Vec<Vec<u8>>,
}

impl Life {
    fn begin() -> Life {
        let proxy = Proxy::new(&Clock::default(), "primary", &[("app", "worker")]);
        let vms = (0..2)
            .map(|_| {
                let mut vm = Vm::start(filter(), &proxy).unwrap();
                let caller = vm.configure_as("client", &client()).unwrap();
                let server = vm.configure_as("server", &server()).unwrap();
                (vm, [caller, server])
            })
            .collect();
        Life {
            proxy,
            vms,
            values: values(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Exchange {
                vm,
                server,
                name,
                value,
                status,
                respond,
            } => {
                let (vm, plugins) = &mut self.vms[vm];
                let mut request = if server { inbound(HOME) } else { outbound() };
                request.headers = request.headers.set(NAMES[name], &self.values[value]);
                let mut response = traffic::response(status);
                response.headers = response.headers.set(NAMES[name], &self.values[value]);
                let (stream, outcome) = vm.open(plugins[usize::from(server)], &request)?;
                if respond && matches!(outcome, Outcome::Forwarded(_)) {
                    vm.respond(stream, &response)?;
                }
                vm.close(stream)?;
            }
            Step::Tick { vm } => {
                let (vm, plugins) = &mut self.vms[vm];
                for plugin in *plugins {
                    vm.tick(plugin)?;
                }
            }
            Step::Pass { milliseconds } => {
                self.proxy
                    .clock()
                    .advance(Duration::from_millis(milliseconds));
            }
            Step::Jump { monotonic } => self.proxy.clock().set_monotonic(monotonic),
            Step::Configure { vm, document } => {
                let (vm, plugins) = &mut self.vms[vm];
                let document = match document {
                    0 => client(),
                    1 => server(),
                    2 => "{}".to_owned(),
                    _ => String::new(),
                };
                for plugin in plugins {
                    *plugin = vm.reconfigure(*plugin, &document)?;
                }
            }
            Step::Fault { function, fault } => {
                let function = HostFunction::ALL[function];
                let fault = match fault {
                    0 => Fault::Silent,
                    1 => Fault::AllocatedEmpty,
                    2 => Fault::Value(vec![0xff; 40]),
                    status => Fault::Status(Status::every_error()[status]),
                };
                let lies = function == HostFunction::SendLocalResponse
                    && !matches!(fault, Fault::Status(_));
                let unnamed =
                    function == HostFunction::GetProperty && matches!(fault, Fault::Value(_));
                if !lies && !unnamed {
                    self.proxy.faults().always(function, fault);
                }
            }
            Step::Well => self.proxy.faults().clear(),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Any sequence of hostile headers, failing functions, jumping clocks and changing configurations.
    #[test]
    fn no_life_ends_in_a_trap(steps in steps()) {
        let mut life = Life::begin();
        for step in &steps {
            if let Err(error) = life.step(step) {
                prop_assert!(false, "{step:?}: {error:?}");
            }
        }
        life.step(&Step::Well).unwrap();
        let (vm, plugins) = &mut life.vms[0];
        vm.exchange(plugins[0], &outbound(), &traffic::response(200)).unwrap();
        vm.exchange(plugins[1], &stranger(), &traffic::response(200)).unwrap();
    }
}
