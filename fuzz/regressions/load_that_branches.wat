;; A branch on what was loaded goes to one place, or to places that turn out to be the same. LLVM dropped the
;; branch and with it the load (guard, at every level; seeds 3362 and 3396 of the first generator).
(module
  (memory (export "memory") 1 1)
  (global $g (export "g") (mut i32) (i32.const 0))
  (func (export "table of one target")
    (block (br_table 0 0 (i32.load (i32.const 65534)))))
  (func (export "ways that meet") (param i32)
    (if (i32.load offset=70000 (i32.const 0)) (then nop) (else nop)))
  (func (export "br_if")
    (block (br_if 0 (i32.load offset=70000 (i32.const 0)))))
  (func (export "same arms")
    (if (i32.load offset=70000 (i32.const 0)) (then (global.set $g (i32.const 1))) (else (global.set $g (i32.const 1)))))
  (func (export "to the end either way") (br_if 0 (i32.load16_u (i32.const 65535))) (br 0))
  (func (export "to a trap either way") (local f32)
    (if (i32.load (i32.const 65535))
      (then (drop (i64.trunc_sat_f32_s (local.get 0))) (loop (unreachable)))
      (else (unreachable)))))
