;; A load whose value nobody wants still traps.
(module (memory 1)
  (func (export "touch") (param i32)
    (drop (i32.load (local.get 0)))))
