;; Exceptions on their way through calls of every kind, and the legacy encoding.
(module $thrower
  (tag $t (export "t") (param i32 i64 v128))
  (func (export "throw") (param i32)
    (throw $t (local.get 0) (i64.const 2) (v128.const i64x2 3 4))))
(register "thrower" $thrower)

(module
  (import "thrower" "t" (tag $t (param i32 i64 v128)))
  (import "thrower" "throw" (func $throw (param i32)))
  (tag $own (param i32))
  (tag $same (param i32))
  (tag $empty)
  (table $table 2 funcref)
  (elem (table $table) (i32.const 0) func $throw $tail)
  (type $unary (func (param i32)))
  (global $kept (mut exnref) (ref.null exn))
  (table $exceptions 3 exnref)

  (func $deep (param i32) (call $middle (local.get 0)))
  (func $middle (param i32) (call_indirect $table (type $unary) (local.get 0) (i32.const 0)))
  (func $tail (param i32) (return_call $throw (local.get 0)))

  (func $catch (export "through calls") (param i32) (result i32 i64 v128)
    (block $h (result i32 i64 v128)
      (try_table (catch $t $h) (call $deep (local.get 0)))
      (unreachable)))
  (func (export "through a tail call") (param i32) (result i32 i64 v128)
    (block $h (result i32 i64 v128)
      (try_table (catch $t $h)
        (call_indirect $table (type $unary) (local.get 0) (i32.const 1)))
      (unreachable)))

  ;; A tail call leaves the block that it stands in: its handler is not asked.
  (func $leaves (param i32)
    (block $h
      (try_table (catch_all $h) (return_call $throw (local.get 0)))))
  (func (export "tail call in a try") (param i32) (result i32)
    (block $h
      (try_table (catch_all $h) (call $leaves (local.get 0)))
      (return (i32.const 0)))
    (i32.const 1))

  (func (export "other tag of the same type") (result i32)
    (block $outer (result i32)
      (block $inner (result i32)
        (try_table (result i32) (catch $own $outer)
          (try_table (result i32) (catch $same $inner) (throw $own (i32.const 7)))))
      (drop) (i32.const 0)))
  (func (export "locals keep what the body set") (result i32) (local i32)
    (block $h
      (try_table (catch_all $h)
        (local.set 0 (i32.const 5))
        (throw $empty)))
    (local.get 0))
  (func (export "uncaught") (call $deep (i32.const 1)))

  (func (export "keep") (param i32)
    (block $h (result exnref)
      (try_table (catch_all_ref $h) (throw $own (local.get 0)))
      (unreachable))
    (global.set $kept)
    (table.set $exceptions (i32.const 1) (global.get $kept)))
  (func (export "kept") (result i32)
    (block $h (result i32)
      (try_table (catch $own $h) (throw_ref (table.get $exceptions (i32.const 1))))
      (unreachable)))
  (func (export "null") (throw_ref (ref.null exn)))

  (func (export "legacy") (param i32) (result i32)
    try (result i32)
      (if (i32.eqz (local.get 0)) (then (throw $empty)))
      (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $own (i32.const 11))))
      (if (i32.eq (local.get 0) (i32.const 2)) (then (call $deep (i32.const 1))))
      i32.const 99
    catch $own
    catch $empty
      i32.const 10
    catch_all
      i32.const 12
    end)
  (func (export "legacy rethrow") (result i32)
    try (result i32)
      try (result i32)
        (throw $own (i32.const 3))
      catch_all
        try throw $empty catch_all end
        rethrow 0
      end
    catch $own
    end)
  (func (export "legacy delegate") (result i32)
    try $outer (result i32)
      try (result i32)
        try (result i32)
          (throw $own (i32.const 4))
        delegate $outer
      catch_all
        i32.const 0
      end
    catch $own
    end)
  (func (export "legacy delegate to the caller") (param i32)
    try
      try
        (throw $own (i32.const 4))
      delegate 1
    catch_all
    end)
  (func (export "legacy not caught here") (result i32)
    try (result i32)
      try
        (throw $own (i32.const 6))
      catch $empty
      end
      i32.const 0
    catch $own
    end))

(assert_return (invoke "through calls" (i32.const 1)) (i32.const 1) (i64.const 2) (v128.const i64x2 3 4))
(assert_return (invoke "through a tail call" (i32.const 9))
  (i32.const 9) (i64.const 2) (v128.const i64x2 3 4))
(assert_return (invoke "tail call in a try" (i32.const 1)) (i32.const 1))
(assert_return (invoke "other tag of the same type") (i32.const 7))
(assert_return (invoke "locals keep what the body set") (i32.const 5))
(assert_exception (invoke "uncaught"))
(assert_return (invoke "through calls" (i32.const 2)) (i32.const 2) (i64.const 2) (v128.const i64x2 3 4))
(invoke "keep" (i32.const 42))
(assert_return (invoke "kept") (i32.const 42))
(assert_return (invoke "kept") (i32.const 42))
(assert_trap (invoke "null") "null exception reference")
(assert_return (invoke "legacy" (i32.const 0)) (i32.const 10))
(assert_return (invoke "legacy" (i32.const 1)) (i32.const 11))
(assert_return (invoke "legacy" (i32.const 2)) (i32.const 12))
(assert_return (invoke "legacy" (i32.const 3)) (i32.const 99))
(assert_return (invoke "legacy rethrow") (i32.const 3))
(assert_return (invoke "legacy delegate") (i32.const 4))
(assert_exception (invoke "legacy delegate to the caller" (i32.const 1)))
(assert_return (invoke "legacy not caught here") (i32.const 6))
