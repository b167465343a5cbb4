;; The load's value is needed on one path only. LLVM moved it there, and without that path there was no trap
;; (guard, -O3).
(module
  (memory (export "memory") 1 1)
  (global (export "result") (mut i32) (i32.const 0))
  (func (export "one path") (param i32 i32) (local i32)
    (local.set 2 (i32.load offset=70000 (i32.const 0)))
    (if (i32.eq (local.get 0) (i32.const 12345))
      (then (global.set 0 (local.get 2))))))
