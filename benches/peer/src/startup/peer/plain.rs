//! A module as it comes, compiled in this process: for measuring code rather than start-up.

use anyhow::Result;
use wasmtime::{Engine, InstancePre, Linker, Module, Store};

use super::{Exports, ON_DEMAND, State, add_host_functions, config, told};

/// A command, compiled, and its standard input.
pub(crate) struct Plain {
    engine: Engine,
    pre: InstancePre<State>,
    exports: Exports,
    input: &'static [u8],
}

impl Plain {
    /// Compiles the module. The input stays for the life of the process.
    pub(crate) fn new(wasm: &[u8], input: &[u8]) -> Result<Self> {
        let engine = Engine::new(&config(ON_DEMAND, 1)).map_err(told)?;
        let module = Module::new(&engine, wasm).map_err(told)?;
        let mut linker = Linker::new(&engine);
        add_host_functions(&mut linker).map_err(told)?;
        let pre = linker.instantiate_pre(&module).map_err(told)?;
        let exports = Exports::of(&module)?;
        Ok(Self { engine, pre, exports, input: Box::leak(Box::from(input)) })
    }

    /// Runs it in a fresh store: what it wrote on standard output.
    pub(crate) fn run(&self) -> Result<Vec<u8>> {
        let mut store = Store::new(&self.engine, State::new(self.input, self.exports));
        let instance = self.pre.instantiate(&mut store).map_err(told)?;
        let entry = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(told)?;
        entry.call(&mut store, ()).map_err(told)?;
        Ok(store.into_data().output)
    }
}
