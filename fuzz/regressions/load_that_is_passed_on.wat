;; What is loaded is passed to a function that ignores it. LLVM found out and dropped the load (guard, -O3; seed 3851).
(module
  (memory (export "memory") 0 2)
  (func (export "passed") (call $ignores (f64.load (i32.const 70000))))
  (func (export "passed in tail position") (return_call $ignores (f64.load (i32.const 70000))))
  (func $ignores (param f64) unreachable))
