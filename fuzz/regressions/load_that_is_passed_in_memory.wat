;; What is loaded is passed in tail convention, in an argument cell, to a function that ignores it. The next call writes
;; the cell again, so LLVM dropped the first store, and the load (guard, -O3).
(module
  (memory (export "memory") 0 2)
  (func (export "passed") (result i64)
    (drop
      (call $ignores
        (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6)
        (i64.load (i32.const 70000))))
    (call $ignores
      (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6) (i64.const 7)))
  (func $ignores (param i64 i64 i64 i64 i64 i64 i64) (result i64)
    (return_call $plain (local.get 0)))
  (func $plain (param i64) (result i64) (local.get 0)))
