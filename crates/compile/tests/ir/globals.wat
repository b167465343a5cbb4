;; A global lies below the context pointer; one that never changes is loaded once.
(module (memory 1)
  (global $counter (export "counter") (mut i32) (i32.const 7))
  (func (export "count") (param i32) (result i32)
    (i32.store (local.get 0) (i32.const 1))
    (global.set $counter (i32.add (global.get $counter) (i32.const 1)))
    (global.get $counter)))
