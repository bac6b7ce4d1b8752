//! One VM of one worker thread: it starts plugins and passes streams through them, calling the filter's exports in
//! Envoy's order.
//!
//! A configuration change is a new root context in the same VM, as in Envoy: the new one is configured while
//! the old one still has streams, and the old one is done and deleted afterwards.

use wasmtime::{
    Linker, Memory, Result, Store, TypedFunc, WasmParams, WasmResults, bail, ensure, format_err,
};

use crate::artefact::Filter;
use crate::callbacks::{Callbacks, Exports, export};
use crate::cost::Cost;
use crate::headers::Headers;
use crate::imports;
use crate::proxy::Proxy;
use crate::state::{Plugin, State};
use crate::stream::{Answer, Outcome, Phase, Request, Response, Stream, StreamId};

/// More than any callback may use: beyond it, the filter is in a loop.
const FUEL_PER_CALL: u64 = 1_000_000_000;
const CONTINUE: u32 = 0;

/// A root context: one plugin with one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PluginId(pub(crate) u32);

/// One VM.
pub struct Vm {
    store: Store<State>,
    memory: Memory,
    callbacks: Callbacks,
    last_context: u32,
    failed: bool,
}

impl Vm {
    /// Starts a VM of the proxy.
    ///
    /// # Errors
    /// When the module is no proxy-wasm module of ABI 0.2.1, or traps in its initialisation.
    pub fn start(filter: &Filter, proxy: &Proxy) -> Result<Vm> {
        let engine = filter.module.engine();
        let mut store = Store::new(engine, State::new(proxy));
        store.limiter(|state| &mut state.limits);
        store.set_fuel(FUEL_PER_CALL)?;
        let mut linker = Linker::new(engine);
        imports::link(&mut linker)?;
        linker.define_unknown_imports_as_traps(&filter.module)?;
        let instance = linker.instantiate(&mut store, &filter.module)?;
        ensure!(
            instance
                .get_func(&mut store, "proxy_abi_version_0_2_1")
                .is_some(),
            "the module does not export proxy_abi_version_0_2_1"
        );
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| format_err!("the module does not export its memory"))?;
        let allocate = export(&instance, &mut store, "proxy_on_memory_allocate")?
            .or(export(&instance, &mut store, "malloc")?)
            .ok_or_else(|| format_err!("the module does not export an allocator"))?;
        store.data_mut().exports = Some(Exports { memory, allocate });
        let start: Option<TypedFunc<(), ()>> = export(&instance, &mut store, "_initialize")?
            .or(export(&instance, &mut store, "_start")?);
        let callbacks = Callbacks::of(&instance, &mut store)?;
        let mut vm = Vm {
            store,
            memory,
            callbacks,
            last_context: 0,
            failed: false,
        };
        vm.call("_initialize", start, 0, ())?;
        Ok(vm)
    }

    /// Creates a root context of the plugin `spillway` and configures it.
    ///
    /// # Errors
    /// When the filter traps, or refuses to start or to be configured, which no filter of ours may.
    pub fn configure(&mut self, configuration: &str) -> Result<PluginId> {
        self.configure_as("spillway", configuration)
    }

    /// The same for the plugin of this name.
    ///
    /// # Errors
    /// As `configure`.
    pub fn configure_as(&mut self, name: &str, configuration: &str) -> Result<PluginId> {
        let id = self.next_context();
        let plugin = Plugin {
            name: name.to_owned(),
            ..Plugin::default()
        };
        self.state_mut().plugins.insert(id, plugin);
        self.call(
            "proxy_on_context_create",
            self.callbacks.context_create.clone(),
            id,
            (id, 0),
        )?;
        let started = self.call(
            "proxy_on_vm_start",
            self.callbacks.vm_start.clone(),
            id,
            (id, 0),
        )?;
        ensure!(started != Some(0), "proxy_on_vm_start answered false");
        let size = u32::try_from(configuration.len())?;
        self.state_mut().configuring = Some(configuration.as_bytes().to_vec());
        let configured = self.call(
            "proxy_on_configure",
            self.callbacks.configure.clone(),
            id,
            (id, size),
        );
        self.state_mut().configuring = None;
        ensure!(configured? != Some(0), "proxy_on_configure answered false");
        let state = self.state_mut();
        let now = state.proxy.clock().monotonic();
        if let Some(plugin) = state.plugins.get_mut(&id) {
            plugin.next_tick_ns = now.saturating_add(plugin.period_ns());
        }
        Ok(PluginId(id))
    }

    /// Ends a root context, whose configuration has been replaced or removed.
    ///
    /// # Errors
    /// When the filter traps.
    pub fn retire(&mut self, plugin: PluginId) -> Result<()> {
        self.call(
            "proxy_on_done",
            self.callbacks.done.clone(),
            plugin.0,
            plugin.0,
        )?;
        self.call(
            "proxy_on_delete",
            self.callbacks.delete.clone(),
            plugin.0,
            plugin.0,
        )?;
        self.state_mut().plugins.remove(&plugin.0);
        Ok(())
    }

    /// A new configuration instead of the old one, and the old root context ended.
    ///
    /// # Errors
    /// As `configure` and `retire`.
    pub fn reconfigure(&mut self, old: PluginId, configuration: &str) -> Result<PluginId> {
        let name = self.state().plugins.get(&old.0).map(|p| p.name.clone());
        let new = self.configure_as(&name.unwrap_or_default(), configuration)?;
        self.retire(old)?;
        Ok(new)
    }

    /// Passes a request's headers, and the body if there is one, through the filter.
    ///
    /// # Errors
    /// When the filter traps, or holds the request back without an answer.
    pub fn open(&mut self, plugin: PluginId, request: &Request) -> Result<(StreamId, Outcome)> {
        let id = self.next_context();
        self.state_mut()
            .streams
            .insert(id, Stream::new(plugin.0, request));
        self.call(
            "proxy_on_context_create",
            self.callbacks.context_create.clone(),
            id,
            (id, plugin.0),
        )?;
        let params = (id, count(&request.headers)?, u32::from(!request.body));
        let action = self.call(
            "proxy_on_request_headers",
            self.callbacks.request_headers.clone(),
            id,
            params,
        )?;
        if let Some(answer) = self.stream(id)?.local_reply.take() {
            let headers = self.stream(id)?.local_reply_headers(&answer)?;
            let body = !answer.body.is_empty();
            let headers = self.pass_response(
                id,
                Response {
                    headers,
                    ..Response::default()
                },
                body,
            )?;
            return Ok((
                StreamId(id),
                Outcome::Answered(Answer { headers, ..answer }),
            ));
        }
        ensure!(
            action.unwrap_or(CONTINUE) == CONTINUE,
            "the request is held back and nothing will free it"
        );
        if request.body {
            self.call(
                "proxy_on_request_body",
                self.callbacks.request_body.clone(),
                id,
                (id, 512, 1),
            )?;
        }
        let stream = self.stream(id)?;
        stream.phase = Phase::Upstream;
        let headers = stream.request.clone();
        Ok((StreamId(id), Outcome::Forwarded(headers)))
    }

    /// Passes the upstream's response, with a body, through the filter; gives the headers that leave.
    ///
    /// # Errors
    /// When the filter traps, or holds the response back.
    pub fn respond(&mut self, stream: StreamId, response: &Response) -> Result<Headers> {
        self.pass_response(stream.0, response.clone(), true)
    }

    fn pass_response(&mut self, id: u32, response: Response, body: bool) -> Result<Headers> {
        let params = (id, count(&response.headers)?, u32::from(!body));
        self.stream(id)?
            .begin_response(response.headers, &response.properties);
        let action = self.call(
            "proxy_on_response_headers",
            self.callbacks.response_headers.clone(),
            id,
            params,
        )?;
        ensure!(
            action.unwrap_or(CONTINUE) == CONTINUE,
            "the response is held back and nothing will free it"
        );
        if body {
            self.call(
                "proxy_on_response_body",
                self.callbacks.response_body.clone(),
                id,
                (id, 512, 1),
            )?;
        }
        let stream = self.stream(id)?;
        ensure!(
            stream.local_reply.is_none(),
            "a response is answered by itself"
        );
        Ok(stream.response.clone())
    }

    /// The stream ends, whether or not it came to a response.
    ///
    /// # Errors
    /// When the filter traps.
    pub fn close(&mut self, stream: StreamId) -> Result<()> {
        let id = stream.0;
        self.stream(id)?.phase = Phase::Logged;
        self.call("proxy_on_log", self.callbacks.log.clone(), id, id)?;
        let done = self.call("proxy_on_done", self.callbacks.done.clone(), id, id)?;
        ensure!(
            done != Some(0),
            "proxy_on_done keeps the context of a stream"
        );
        self.call("proxy_on_delete", self.callbacks.delete.clone(), id, id)?;
        self.state_mut().streams.remove(&id);
        Ok(())
    }

    /// A whole exchange: request, response (unless the filter answered by itself), end. Gives the outcome of
    /// the request and the headers that reach downstream.
    ///
    /// # Errors
    /// When the filter traps.
    pub fn exchange(
        &mut self,
        plugin: PluginId,
        request: &Request,
        response: &Response,
    ) -> Result<(Outcome, Headers)> {
        let (stream, outcome) = self.open(plugin, request)?;
        let headers = match &outcome {
            Outcome::Forwarded(_) => self.respond(stream, response)?,
            Outcome::Answered(answer) => answer.headers.clone(),
        };
        self.close(stream)?;
        Ok((outcome, headers))
    }

    /// One tick, whether or not it is due.
    ///
    /// # Errors
    /// When the filter traps.
    pub fn tick(&mut self, plugin: PluginId) -> Result<()> {
        self.call(
            "proxy_on_tick",
            self.callbacks.tick.clone(),
            plugin.0,
            plugin.0,
        )?;
        Ok(())
    }

    /// The filter state of a stream: what an access log prints as `%FILTER_STATE(wasm.NAME:PLAIN)%`.
    #[must_use]
    pub fn filter_state(&self, stream: StreamId, name: &str) -> Option<String> {
        let state = &self.state().streams.get(&stream.0)?.filter_state;
        state
            .get(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether the filter made Envoy choose the route of this stream's request anew.
    #[must_use]
    pub fn route_was_chosen_anew(&self, stream: StreamId) -> bool {
        self.state()
            .streams
            .get(&stream.0)
            .is_some_and(|s| s.routes_chosen_anew > 0)
    }

    /// Milliseconds between the ticks that this plugin asked for; 0 is none.
    #[must_use]
    pub fn tick_period_ms(&self, plugin: PluginId) -> u32 {
        self.state()
            .plugins
            .get(&plugin.0)
            .map_or(0, |p| p.tick_period_ms)
    }

    /// What was spent since the last time that this was asked.
    pub fn take_cost(&mut self) -> Cost {
        std::mem::take(&mut self.state_mut().cost)
    }

    /// The size of the guest's memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    pub(crate) fn state(&self) -> &State {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        self.store.data_mut()
    }

    fn next_context(&mut self) -> u32 {
        self.last_context += 1;
        self.last_context
    }

    fn stream(&mut self, id: u32) -> Result<&mut Stream> {
        self.state_mut()
            .streams
            .get_mut(&id)
            .ok_or_else(|| format_err!("stream {id} has ended"))
    }

    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
        callback: Option<TypedFunc<P, R>>,
        context: u32,
        params: P,
    ) -> Result<Option<R>> {
        let Some(callback) = callback else {
            return Ok(None);
        };
        if self.failed {
            bail!("the VM has failed before, and Envoy calls it no more");
        }
        self.state_mut().effective = context;
        self.store.set_fuel(FUEL_PER_CALL)?;
        let result = callback.call(&mut self.store, params);
        let spent = FUEL_PER_CALL.saturating_sub(self.store.get_fuel()?);
        self.state_mut().cost.fuel += spent;
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.failed = true;
                let logs = self.state().proxy.last_logs(3);
                let logs: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
                Err(error.context(format!(
                    "{name} failed in context {context}; last logged: {logs:?}"
                )))
            }
        }
    }
}

fn count(headers: &Headers) -> Result<u32> {
    Ok(u32::try_from(headers.len())?)
}
