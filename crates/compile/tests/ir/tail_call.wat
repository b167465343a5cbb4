;; A call in tail position leaves nothing on the stack.
(module
  (func $even (export "even") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
      (else (return_call $odd (i32.sub (local.get 0) (i32.const 1))))))
  (func $odd (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
      (else (return_call $even (i32.sub (local.get 0) (i32.const 1)))))))

;; | define hidden range(i32 0, 2) i32 @"wasm[0]:even"(ptr nocapture readnone %0, i64 %1, i64 %2, i64 %3, i64 %4, i64 %5, <16 x i8> %6, <16 x i8> %7, <16 x i8> %8, <16 x i8> %9, <16 x i8> %10, <16 x i8> %11, <16 x i8> %12, <16 x i8> %13) section "awsm_text" {
;; |   %15 = and i64 %1, 4294967295
;; |   %16 = icmp eq i64 %15, 0
;; |   br i1 %16, label %common.ret, label %17
;; |
;; | 17:
;; |   %18 = add i64 %1, 4294967295
;; |   %19 = and i64 %18, 4294967295
;; |   %20 = icmp eq i64 %19, 0
;; |   br i1 %20, label %common.ret, label %21
;; |
;; | 21:
;; |   %22 = add i64 %1, 4294967294
;; |   %23 = and i64 %22, 4294967295
;; |   %24 = musttail call range(i32 0, 2) i32 @"wasm[0]:even"(ptr %0, i64 %23, i64 poison, i64 poison, i64 poison, i64 poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison)
;; |   ret i32 %24
;; |
;; | common.ret:
;; |   %common.ret.op = phi i32 [ 0, %17 ], [ 1, %14 ]
;; |   ret i32 %common.ret.op
;; | }
;; |
;; | define hidden range(i32 0, 2) i32 @"wasm[0]:even[entry]"(ptr nocapture readnone %0, i32 %1) section "awsm_text" {
;; |   %3 = zext i32 %1 to i64
;; |   %4 = call i32 @"wasm[0]:even"(ptr %0, i64 %3, i64 poison, i64 poison, i64 poison, i64 poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison, <16 x i8> poison)
;; |   ret i32 %4
;; | }
