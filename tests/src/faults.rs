//! What the host does wrong on purpose.
//!
//! A fault belongs to a function and lasts until it is taken back, or for a number of calls. Those of a
//! [`Proxy`](crate::Proxy) hold for all of its VMs.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use crate::{HostFunction, Status};

/// What a function does instead of its work.
#[derive(Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and writes nothing.
    Status(Status),
    /// Answers Ok with these bytes as the value (no bytes: a null pointer and the size 0, as Envoy has it). A
    /// function that returns no value answers Ok and does nothing.
    Value(Vec<u8>),
    /// Answers Ok with memory that was allocated for no bytes at all: a pointer and the size 0.
    AllocatedEmpty,
    /// Answers Ok and writes nothing, neither pointer nor size.
    Silent,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(status) => write!(f, "{status:?}"),
            Fault::Value(bytes) => write!(f, "Ok with {} bytes", bytes.len()),
            Fault::AllocatedEmpty => write!(f, "Ok with an allocation of nothing"),
            Fault::Silent => write!(f, "Ok and nothing written"),
        }
    }
}

type Hook = Box<dyn FnOnce()>;

#[derive(Default)]
struct Script {
    always: HashMap<HostFunction, Fault>,
    once: HashMap<HostFunction, (u32, Fault)>,
    properties: HashMap<Vec<u8>, Fault>,
    before: HashMap<HostFunction, VecDeque<Hook>>,
    cas_loses: u64,
}

/// The faults of one proxy; clones are the same.
#[derive(Clone, Default)]
pub struct Faults(Rc<RefCell<Script>>);

impl Faults {
    /// From now on, every call of the function does this.
    pub fn always(&self, function: HostFunction, fault: Fault) {
        self.0.borrow_mut().always.insert(function, fault);
    }

    /// One call of the function does this, after so many that work.
    pub fn after(&self, function: HostFunction, works: u32, fault: Fault) {
        self.0.borrow_mut().once.insert(function, (works, fault));
    }

    /// Reading this property does this.
    pub fn property(&self, path: &[&str], fault: Fault) {
        self.0
            .borrow_mut()
            .properties
            .insert(path.join("\0").into_bytes(), fault);
    }

    /// The next `times` compare-and-swaps lose: another thread has just written the same bytes.
    pub fn cas_loses(&self, times: u64) {
        self.0.borrow_mut().cas_loses = times;
    }

    /// Runs once, before the next call of the function does its work: what another thread does meanwhile.
    pub fn before(&self, function: HostFunction, hook: impl FnOnce() + 'static) {
        self.0
            .borrow_mut()
            .before
            .entry(function)
            .or_default()
            .push_back(Box::new(hook));
    }

    /// All is well again.
    pub fn clear(&self) {
        *self.0.borrow_mut() = Script::default();
    }

    pub(crate) fn run_hook(&self, function: HostFunction) {
        let hook = self
            .0
            .borrow_mut()
            .before
            .get_mut(&function)
            .and_then(VecDeque::pop_front);
        if let Some(hook) = hook {
            hook();
        }
    }

    pub(crate) fn of_call(&self, function: HostFunction) -> Option<Fault> {
        let mut script = self.0.borrow_mut();
        match script.once.get_mut(&function) {
            Some((0, _)) => return script.once.remove(&function).map(|(_, fault)| fault),
            Some((works, _)) => *works -= 1,
            None => {}
        }
        script.always.get(&function).cloned()
    }

    pub(crate) fn of_property(&self, path: &[u8]) -> Option<Fault> {
        self.0.borrow().properties.get(path).cloned()
    }

    pub(crate) fn cas_is_lost(&self) -> bool {
        let mut script = self.0.borrow_mut();
        let lost = script.cas_loses > 0;
        script.cas_loses = script.cas_loses.saturating_sub(1);
        lost
    }
}
