;; options: --memory checked
;; A load behind a comparison with the memory's size.
(module (memory 1)
  (func (export "load") (param i32) (result i64)
    (i64.load offset=16 (local.get 0))))

;; | define hidden i64 @"wasm[0]:load"(ptr %0, i32 %1) section "awsm_text" {
;; |   %3 = zext i32 %1 to i64
;; |   %4 = add nuw nsw i64 %3, 24
;; |   %5 = getelementptr i8, ptr %0, i64 -65592
;; |   %6 = load i64, ptr %5, align 8
;; |   %7 = icmp ult i64 %6, %4
;; |   br i1 %7, label %8, label %awsm.check.exit
;; |
;; | 8:
;; |   %9 = getelementptr i8, ptr %0, i64 -65552
;; |   %10 = load ptr, ptr %9, align 8
;; |   %11 = load ptr, ptr %10, align 8
;; |   call void %11(ptr nonnull %0, i32 5)
;; |   unreachable
;; |
;; | awsm.check.exit:
;; |   %12 = getelementptr i8, ptr %0, i64 %3
;; |   %13 = getelementptr i8, ptr %12, i64 16
;; |   %14 = load i64, ptr %13, align 1
;; |   ret i64 %14
;; | }
