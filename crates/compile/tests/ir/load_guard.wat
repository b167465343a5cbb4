;; A load without a comparison: the guard catches what misses.
(module (memory 1)
  (func (export "load") (param i32) (result i64)
    (i64.load offset=16 (local.get 0))))
