;; Two traps: by zero, and the one quotient that does not fit.
(module
  (func (export "div") (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (local.get 1)))
  (func (export "third") (param i32) (result i32)
    (i32.div_s (local.get 0) (i32.const 3))))
