;; Three checks: the element exists, is not null, and has the type.
(module
  (type $f (func (param i32) (result i32)))
  (table 3 funcref)
  (func (export "call") (param i32 i32) (result i32)
    (call_indirect (type $f) (local.get 0) (local.get 1))))

;; | define hidden i32 @"wasm[0]:call"(ptr %0, i32 %1, i32 %2) section "awsm_text" {
;; |   %4 = zext i32 %2 to i64
;; |   %5 = getelementptr i8, ptr %0, i64 -65632
;; |   %6 = load i64, ptr %5, align 8
;; |   %.not = icmp ugt i64 %6, %4
;; |   br i1 %.not, label %11, label %7
;; |
;; | 7:
;; |   %8 = getelementptr i8, ptr %0, i64 -65552
;; |   %9 = load ptr, ptr %8, align 8
;; |   %10 = load ptr, ptr %9, align 8
;; |   call void %10(ptr nonnull %0, i32 7)
;; |   unreachable
;; |
;; | 11:
;; |   %12 = getelementptr i8, ptr %0, i64 -65640
;; |   %13 = load ptr, ptr %12, align 8
;; |   %14 = getelementptr i64, ptr %13, i64 %4
;; |   %15 = load ptr, ptr %14, align 8
;; |   %16 = icmp eq ptr %15, null
;; |   br i1 %16, label %17, label %21
;; |
;; | 17:
;; |   %18 = getelementptr i8, ptr %0, i64 -65552
;; |   %19 = load ptr, ptr %18, align 8
;; |   %20 = load ptr, ptr %19, align 8
;; |   call void %20(ptr nonnull %0, i32 8)
;; |   unreachable
;; |
;; | 21:
;; |   %22 = getelementptr i8, ptr %15, i64 16
;; |   %23 = load i32, ptr %22, align 4
;; |   %24 = getelementptr i8, ptr %0, i64 -65608
;; |   %25 = load i32, ptr %24, align 4
;; |   %.not2 = icmp eq i32 %23, %25
;; |   br i1 %.not2, label %30, label %26
;; |
;; | 26:
;; |   %27 = getelementptr i8, ptr %0, i64 -65552
;; |   %28 = load ptr, ptr %27, align 8
;; |   %29 = load ptr, ptr %28, align 8
;; |   call void %29(ptr nonnull %0, i32 9)
;; |   unreachable
;; |
;; | 30:
;; |   %31 = load ptr, ptr %15, align 8
;; |   %32 = getelementptr i8, ptr %15, i64 8
;; |   %33 = load ptr, ptr %32, align 8
;; |   %34 = call i32 %31(ptr %33, i32 %1)
;; |   ret i32 %34
;; | }
