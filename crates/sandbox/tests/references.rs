//! References of guests are not taken from outside: compiled code goes where they point, without a
//! look.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use awsm_sandbox::Val;
use awsm_sandbox::{Call, Limits, Pool, PoolConfig, Stop};
use awsm_testing::{InvokeError, Store};
use support::{Log, MODES, load, program};

const WAT: &str = r#"(module
    (type $f (func (result i32)))
    (func $seven (type $f) (i32.const 7))
    (elem declare func $seven)
    (func (export "give") (result (ref null $f)) (ref.func $seven))
    (func (export "any") (param funcref) (result i32) (ref.is_null (local.get 0)))
    (func (export "typed") (param (ref null $f)) (result i32)
        (if (result i32) (ref.is_null (local.get 0))
            (then (i32.const -1)) (else (call_ref $f (local.get 0)))))
    (func (export "never null") (param (ref $f)) (result i32) (call_ref $f (local.get 0)))
    (func (export "exception") (param exnref) (result i32) (ref.is_null (local.get 0)))
    (func (export "host's") (param externref) (result i32) (ref.is_null (local.get 0)))
    (func (export "run")))"#;

#[test]
fn a_store_takes_no_reference_but_the_hosts() {
    for isolation in MODES {
        let mut store = Store::new(Limits::default());
        let instance = store.instantiate(&load(WAT, isolation), &[]).expect("no imports");
        let given = store.invoke(instance, "give", &[]).expect("it returns")[0];
        assert!(matches!(given, Val::FuncRef(Some(_))));
        let mut invoke = |name: &str, arg| store.invoke(instance, name, &[arg]);
        for name in ["any", "typed", "never null"] {
            // Not even one of its own, which may be gone by now.
            let forged = [Val::I64(0x4141_4141), Val::I32(1), Val::ExternRef(Some(1)), given];
            for forged in forged {
                let answer = invoke(name, forged);
                assert!(
                    matches!(answer, Err(InvokeError::Type(_))),
                    "{name}: {forged:?}: {answer:?}"
                );
            }
        }
        let null = Val::FuncRef(None);
        assert!(matches!(invoke("never null", null), Err(InvokeError::Type(_))));
        assert_eq!(invoke("any", null), Ok(vec![Val::I32(1)]));
        assert_eq!(invoke("typed", null), Ok(vec![Val::I32(-1)]));
        assert_eq!(invoke("exception", Val::ExnRef(None)), Ok(vec![Val::I32(1)]));
        assert_eq!(invoke("host's", Val::ExternRef(Some(3))), Ok(vec![Val::I32(0)]));
    }
}

#[test]
fn a_pool_takes_no_reference_but_the_hosts() {
    let program = program(WAT, MODES[0], Limits::default());
    let mut pool = Pool::new(PoolConfig::default());
    let mut call = |name: &str, args: &[Val]| {
        let entry = program.module().exported_func(name).expect("an export");
        let call = Call { initialize: None, entry, args };
        let started = pool.start_call(&program, call, Log::default());
        let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
        assert_eq!(sandbox.resume(), Stop::Returned);
        let results = sandbox.results();
        pool.recycle(sandbox);
        results
    };
    let given = call("give", &[])[0];
    assert_eq!(call("any", &[Val::FuncRef(None)]), [Val::I32(1)]);
    assert_eq!(call("typed", &[Val::FuncRef(None)]), [Val::I32(-1)]);
    std::panic::set_hook(Box::new(|_| {}));
    for (name, arg) in [("any", given), ("typed", given), ("never null", Val::FuncRef(None))] {
        let refused = catch_unwind(AssertUnwindSafe(|| call(name, &[arg])));
        assert!(refused.is_err(), "{name}");
    }
}
