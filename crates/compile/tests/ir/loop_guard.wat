;; A loop over memory.
(module (memory 1)
  (func (export "sum") (param $at i32) (param $end i32) (result i32) (local $sum i32)
    (loop $more
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (br_if $more
        (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (local.get $end))))
    (local.get $sum)))
