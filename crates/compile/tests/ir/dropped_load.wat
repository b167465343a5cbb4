;; A load whose value nobody wants still traps.
(module (memory 1)
  (func (export "touch") (param i32)
    (drop (i32.load (local.get 0)))))

;; | define hidden void @"wasm[0]:touch"(ptr nocapture readonly %0, i32 %1) section "awsm_text" {
;; |   %3 = zext i32 %1 to i64
;; |   %4 = getelementptr i8, ptr %0, i64 %3
;; |   %5 = load i32, ptr %4, align 1
;; |   call void asm sideeffect "", "r"(i32 %5)
;; |   ret void
;; | }
