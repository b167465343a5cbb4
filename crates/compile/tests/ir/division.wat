;; Two traps: by zero, and the one quotient that does not fit.
(module
  (func (export "div") (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (local.get 1)))
  (func (export "third") (param i32) (result i32)
    (i32.div_s (local.get 0) (i32.const 3))))

;; | define hidden i32 @"wasm[0]:div"(ptr %0, i32 %1, i32 %2) section "awsm_text" {
;; |   %4 = icmp eq i32 %2, 0
;; |   br i1 %4, label %5, label %9
;; |
;; | 5:
;; |   %6 = getelementptr i8, ptr %0, i64 -65552
;; |   %7 = load ptr, ptr %6, align 8
;; |   %8 = load ptr, ptr %7, align 8
;; |   call void %8(ptr %0, i32 2)
;; |   unreachable
;; |
;; | 9:
;; |   %10 = icmp eq i32 %1, -2147483648
;; |   %11 = icmp eq i32 %2, -1
;; |   %12 = and i1 %10, %11
;; |   br i1 %12, label %13, label %17
;; |
;; | 13:
;; |   %14 = getelementptr i8, ptr %0, i64 -65552
;; |   %15 = load ptr, ptr %14, align 8
;; |   %16 = load ptr, ptr %15, align 8
;; |   call void %16(ptr %0, i32 3)
;; |   unreachable
;; |
;; | 17:
;; |   %18 = sdiv i32 %1, %2
;; |   ret i32 %18
;; | }
;; |
;; | define hidden range(i32 -715827882, 715827883) i32 @"wasm[1]:third"(ptr nocapture readnone %0, i32 %1) section "awsm_text" {
;; |   %3 = sdiv i32 %1, 3
;; |   ret i32 %3
;; | }
