;; The load is outside of memory, so nothing after it happens. LLVM moved it behind the check of the
;; division, and the trap was another one (guard, -O3).
(module
  (memory (export "memory") 1 1)
  (func (export "division") (param i32) (result i32)
    (i32.load (i32.const 0x7fff0000))
    (i32.div_u (i32.const 7) (i32.and (local.get 0) (i32.const 0)))
    i32.add)
  (func (export "conversion") (param i32) (result i32)
    (i32.load offset=70000 (local.get 0))
    (i32.trunc_f32_s (f32.const nan))
    i32.add))
