;; What is loaded is stored where something else is stored before anybody looks, or where it came from. LLVM dropped
;; the store and with it the load (guard, -O3).
(module
  (memory (export "memory") 1 1)
  (global $g (export "g") (mut i32) (i32.const 0))
  (func (export "overwritten global")
    (global.set $g (i32.load offset=70000 (i32.const 0)))
    (global.set $g (i32.const 1)))
  (func (export "overwritten later") (param i32)
    (global.set $g (i32.load offset=70000 (i32.const 0)))
    (if (local.get 0) (then (global.set $g (i32.const 1))) (else (global.set $g (i32.const 2)))))
  (func (export "overwritten memory") (param i32)
    (i32.store (i32.const 8) (i32.load offset=70000 (i32.const 0)))
    (i32.store (i32.const 8) (i32.const 1)))
  (func (export "stored where it was") (param i32)
    (i32.store offset=70000 (i32.and (local.get 0) (i32.const 0xff)) (i32.load offset=70000 (i32.and (local.get 0) (i32.const 0xff)))))
  (func (export "loop overwritten") (local i32)
    (local.set 0 (i32.const 65500))
    (loop
      (i32.store (i32.const 16) (i32.load (local.get 0)))
      (local.set 0 (i32.add (local.get 0) (i32.const 4)))
      (br_if 0 (i32.lt_u (local.get 0) (i32.const 65540))))
    (i32.store (i32.const 16) (i32.const 0))))
