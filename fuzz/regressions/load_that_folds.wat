;; The loads' values are used, by operations that do not depend on them. LLVM found out and dropped the loads
;; (guard, at every level; the last one in a loop).
(module
  (memory (export "memory") 0 0)
  (global (export "result") (mut v128) (v128.const i64x2 0 0))
  (global $meter (export "meter") (mut i32) (i32.const 100))
  (func (export "zero lanes")
    (v128.load16x4_s (i32.const 0))
    f32x4.demote_f64x2_zero
    i16x8.extend_high_i8x16_u
    global.set 0)
  (func (export "shifted out") (result i32)
    (i32.and (i32.shl (i32.load (i32.const 8)) (i32.const 16)) (i32.const 0xffff)))
  (func (export "loop")
    (loop
      (if (i32.eqz (global.get $meter)) (then unreachable))
      (global.set $meter (i32.sub (global.get $meter) (i32.const 1)))
      (v128.load16_splat align=1 (i32.const 0))
      i32x4.trunc_sat_f64x2_s_zero
      i32x4.extend_high_i16x8_u
      global.set 0
      br 0))
  (func (export "nothing times") (result i32)
    (i32.mul (i32.const 0) (i32.load (i32.const 65535))))
  (func (export "sixteen bits times") (result i32)
    (i32.and (i32.mul (i32.const 65536) (i32.load (i32.const 65533))) (i32.const 65535)))
  (func (export "what is nothing times") (result i32) (local f32)
    (i32.mul (i32.trunc_f32_s (local.get 0)) (i32.load (i32.const 65535))))
  (func (export "an address that is nothing times") (local f32)
    (drop (i32.load8_u (i32.mul (i32.trunc_f32_s (local.get 0)) (i32.load8_s (i32.const 65535)))))
    (unreachable))
  (func (export "what cancels out, times") (local i32)
    (local.set 0 (i32.load (i32.const 0)))
    (global.set $meter (i32.mul (i32.sub (local.get 0) (local.get 0)) (i32.load (i32.const 65535)))))
  (func (export "one of two that are the same") (local f32)
    (global.set $meter (select (i32.const 0) (i32.trunc_f32_s (local.get 0)) (i32.load (i32.const 65535))))))
