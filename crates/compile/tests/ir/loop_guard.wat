;; A loop over memory.
(module (memory 1)
  (func (export "sum") (param $at i32) (param $end i32) (result i32) (local $sum i32)
    (loop $more
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (br_if $more
        (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (local.get $end))))
    (local.get $sum)))

;; | define hidden i32 @"wasm[0]:sum"(ptr nocapture readonly %0, i32 %1, i32 %2) section "awsm_text" {
;; |   br label %4
;; |
;; | 4:
;; |   %.01 = phi i32 [ 0, %3 ], [ %8, %4 ]
;; |   %.0 = phi i32 [ %1, %3 ], [ %9, %4 ]
;; |   %5 = zext i32 %.0 to i64
;; |   %6 = getelementptr i8, ptr %0, i64 %5
;; |   %7 = load i32, ptr %6, align 1
;; |   %8 = add i32 %7, %.01
;; |   %9 = add i32 %.0, 4
;; |   %10 = icmp ult i32 %9, %2
;; |   br i1 %10, label %4, label %11
;; |
;; | 11:
;; |   call void asm sideeffect "", "r"(i32 %8)
;; |   ret i32 %8
;; | }
