;; A load without a comparison: the guard catches what misses.
(module (memory 1)
  (func (export "load") (param i32) (result i64)
    (i64.load offset=16 (local.get 0))))

;; | define hidden i64 @"wasm[0]:load"(ptr nocapture readonly %0, i32 %1) section "awsm_text" {
;; |   %3 = zext i32 %1 to i64
;; |   %4 = getelementptr i8, ptr %0, i64 %3
;; |   %5 = getelementptr i8, ptr %4, i64 16
;; |   %6 = load i64, ptr %5, align 1
;; |   call void asm sideeffect "", "r"(i64 %6)
;; |   ret i64 %6
;; | }
