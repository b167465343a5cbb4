;; Loads in loops that neither call nor trap, and values that do not matter, or on one path only. LLVM dropped or
;; moved the loads (guard, -O3).
(module
  (memory (export "memory") 1 1)
  (func (export "loop meets") (local i32)
    (local.set 0 (i32.const 65500))
    (loop
      (if (i32.load (local.get 0)) (then nop))
      (local.set 0 (i32.add (local.get 0) (i32.const 4)))
      (br_if 0 (i32.lt_u (local.get 0) (i32.const 65540)))))
  (func (export "loop last value") (result i32) (local i32 i32)
    (local.set 0 (i32.const 65500))
    (loop
      (local.set 1 (i32.load (local.get 0)))
      (local.set 0 (i32.sub (local.get 0) (i32.const -4)))
      (br_if 0 (i32.lt_u (local.get 0) (i32.const 65540))))
    (i32.load (i32.const 0)))
  (func (export "selected") (result i32) (local i32 i32)
    (local.set 0 (i32.const 65500))
    (loop
      (local.set 1 (i32.add (local.get 1) (select (i32.load (local.get 0)) (i32.const 5) (i32.lt_u (local.get 0) (i32.const 65000)))))
      (local.set 0 (i32.sub (local.get 0) (i32.const -4)))
      (br_if 0 (i32.lt_u (local.get 0) (i32.const 65540))))
    (local.get 1))
  (func (export "on one path") (param i32) (result i32) (local i32 i32 i32)
    (local.set 1 (i32.const 65500))
    (loop
      (local.set 3 (i32.load (local.get 1)))
      (if (i32.eq (local.get 0) (i32.const 12345)) (then (local.set 2 (i32.add (local.get 2) (local.get 3)))))
      (local.set 1 (i32.sub (local.get 1) (i32.const -4)))
      (br_if 0 (i32.lt_u (local.get 1) (i32.const 65540))))
    (local.get 2))
  (func (export "round and round") (local i32)
    (local.set 0 (i32.const 65536))
    (loop (local.set 0 (i32.load8_s (local.get 0))) (br 0))))
