;; options: -O0
;; What is translated before LLVM optimises.
(module (memory 1)
  (func (export "max") (param i32 i32) (result i32)
    (select (local.get 0) (local.get 1) (i32.gt_s (local.get 0) (local.get 1))))
  (func (export "nan") (param f64) (result f64)
    (f64.add (local.get 0) (f64.const 1))))
