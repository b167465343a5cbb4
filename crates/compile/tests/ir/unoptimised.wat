;; options: -O0
;; What is translated before LLVM optimises.
(module (memory 1)
  (func (export "max") (param i32 i32) (result i32)
    (select (local.get 0) (local.get 1) (i32.gt_s (local.get 0) (local.get 1))))
  (func (export "nan") (param f64) (result f64)
    (f64.add (local.get 0) (f64.const 1))))

;; | define hidden i32 @"wasm[0]:max"(ptr %0, i32 %1, i32 %2) section "awsm_text" {
;; |   %4 = icmp sgt i32 %1, %2
;; |   %5 = zext i1 %4 to i32
;; |   %6 = icmp ne i32 %5, 0
;; |   %7 = select i1 %6, i32 %1, i32 %2
;; |   br label %8
;; |
;; | 8:
;; |   %9 = phi i32 [ %7, %3 ]
;; |   ret i32 %9
;; | }
;; |
;; | define hidden double @"wasm[1]:nan"(ptr %0, double %1) section "awsm_text" {
;; |   %3 = fadd double %1, 1.000000e+00
;; |   br label %4
;; |
;; | 4:
;; |   %5 = phi double [ %3, %2 ]
;; |   ret double %5
;; | }
