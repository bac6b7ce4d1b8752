//! A host call in flight: the guest's memory, the stream on whose behalf the call is made, the fault of the
//! call.
//!
//! Every pointer is checked against the guest's memory. Envoy would answer with a status; here a bad pointer
//! ends the call with an error, since no filter has a reason to pass one.

use wasmtime::{Caller, Result, ensure, format_err};

use crate::callbacks::Exports;
use crate::faults::Fault;
use crate::state::State;
use crate::status::{HostFunction, Status};
use crate::stream::Stream;

pub(crate) struct Guest<'a> {
    caller: Caller<'a, State>,
    fault: Option<Fault>,
}

/// Counts the call, lets another thread run before it, and either does the fault of the call or its work.
pub(crate) fn serve(
    mut caller: Caller<'_, State>,
    function: HostFunction,
    work: impl FnOnce(&mut Guest<'_>) -> Result<Status>,
) -> Result<u32> {
    let state = caller.data_mut();
    state.cost.count(function);
    let faults = state.proxy.faults().clone();
    faults.run_hook(function);
    let fault = faults.of_call(function);
    if let Some(Fault::Status(status)) = fault {
        return Ok(status.0);
    }
    if let Some(Fault::Silent) = fault {
        return Ok(0);
    }
    let status = work(&mut Guest { caller, fault }).map_err(|e| e.context(function.name()))?;
    Ok(status.0)
}

impl Guest<'_> {
    pub(crate) fn state(&mut self) -> &mut State {
        self.caller.data_mut()
    }

    /// The stream on whose behalf the filter runs; none for root contexts.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        self.caller.data_mut().effective_stream()
    }

    /// Whether this call does nothing and says Ok.
    pub(crate) fn is_skipped(&self) -> bool {
        self.fault.is_some()
    }

    pub(crate) fn bytes(&mut self, pointer: u32, size: u32) -> Result<Vec<u8>> {
        let memory = self.exports()?.memory;
        let start = pointer as usize;
        let bytes = start
            .checked_add(size as usize)
            .and_then(|end| memory.data(&self.caller).get(start..end));
        let bytes = bytes
            .ok_or_else(|| format_err!("{size} bytes at {pointer:#x} are outside the memory"))?;
        Ok(bytes.to_vec())
    }

    pub(crate) fn text(&mut self, pointer: u32, size: u32) -> Result<String> {
        let bytes = self.bytes(pointer, size)?;
        String::from_utf8(bytes).map_err(|e| format_err!("not UTF-8: {e}"))
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<()> {
        let memory = self.exports()?.memory;
        memory
            .write(&mut self.caller, pointer as usize, bytes)
            .map_err(|_| {
                format_err!(
                    "{} bytes for {pointer:#x} are outside the memory",
                    bytes.len()
                )
            })
    }

    /// Hands a value over in memory that the guest allocates, or what the fault says instead.
    pub(crate) fn give(
        &mut self,
        pointer_to: u32,
        size_to: u32,
        value: impl FnOnce(&mut Self) -> Result<Result<Vec<u8>, Status>>,
    ) -> Result<Status> {
        let fault = self.fault.take();
        let value = match fault {
            Some(Fault::AllocatedEmpty) => {
                let pointer = self.allocate(0)?;
                self.write(pointer_to, &pointer.to_le_bytes())?;
                self.write(size_to, &[0; 4])?;
                return Ok(Status::OK);
            }
            Some(Fault::Status(status)) => return Ok(status),
            Some(Fault::Silent) => return Ok(Status::OK),
            Some(Fault::Value(bytes)) => bytes,
            None => match value(self)? {
                Ok(bytes) => bytes,
                Err(status) => return Ok(status),
            },
        };
        let size = u32::try_from(value.len())?;
        let mut pointer = 0;
        if size > 0 {
            pointer = self.allocate(size)?;
            self.write(pointer, &value)?;
        }
        self.write(pointer_to, &pointer.to_le_bytes())?;
        self.write(size_to, &size.to_le_bytes())?;
        Ok(Status::OK)
    }

    /// From here on, this call behaves as the fault says.
    pub(crate) fn set_fault(&mut self, fault: Option<Fault>) {
        if fault.is_some() {
            self.fault = fault;
        }
    }

    fn allocate(&mut self, size: u32) -> Result<u32> {
        let allocate = self.exports()?.allocate.clone();
        let pointer = allocate.call(&mut self.caller, size)?;
        ensure!(pointer != 0, "the filter's allocator has no {size} bytes");
        Ok(pointer)
    }

    fn exports(&self) -> Result<Exports> {
        self.caller
            .data()
            .exports
            .clone()
            .ok_or_else(|| format_err!("called before the module was ready"))
    }
}
