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
      br 0)))
