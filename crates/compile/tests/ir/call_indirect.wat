;; Three checks: the element exists, is not null, and has the type.
(module
  (type $f (func (param i32) (result i32)))
  (table 3 funcref)
  (func (export "call") (param i32 i32) (result i32)
    (call_indirect (type $f) (local.get 0) (local.get 1))))
