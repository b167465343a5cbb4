;; A global lies below the context pointer; one that never changes is loaded once.
(module (memory 1)
  (global $counter (export "counter") (mut i32) (i32.const 7))
  (func (export "count") (param i32) (result i32)
    (i32.store (local.get 0) (i32.const 1))
    (global.set $counter (i32.add (global.get $counter) (i32.const 1)))
    (global.get $counter)))

;; | define hidden i32 @"wasm[0]:count"(ptr nocapture %0, i32 %1) section "awsm_text" {
;; |   %3 = zext i32 %1 to i64
;; |   %4 = getelementptr i8, ptr %0, i64 %3
;; |   store i32 1, ptr %4, align 1
;; |   %5 = getelementptr i8, ptr %0, i64 -65616
;; |   %6 = load i32, ptr %5, align 4
;; |   %7 = add i32 %6, 1
;; |   store i32 %7, ptr %5, align 4
;; |   ret i32 %7
;; | }
