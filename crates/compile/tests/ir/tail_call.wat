;; A call in tail position leaves nothing on the stack.
(module
  (func $even (export "even") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
      (else (return_call $odd (i32.sub (local.get 0) (i32.const 1))))))
  (func $odd (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
      (else (return_call $even (i32.sub (local.get 0) (i32.const 1)))))))

;; | define hidden tailcc range(i32 0, 2) i32 @"wasm[0]:even"(ptr nocapture readnone %0, i32 %1) section "awsm_text" {
;; |   switch i32 %1, label %3 [
;; |     i32 0, label %common.ret
;; |     i32 1, label %common.ret.fold.split
;; |   ]
;; |
;; | 3:
;; |   %4 = add i32 %1, -2
;; |   %5 = musttail call tailcc range(i32 0, 2) i32 @"wasm[0]:even"(ptr %0, i32 %4)
;; |   ret i32 %5
;; |
;; | common.ret.fold.split:
;; |   br label %common.ret
;; |
;; | common.ret:
;; |   %common.ret.op = phi i32 [ 1, %2 ], [ 0, %common.ret.fold.split ]
;; |   ret i32 %common.ret.op
;; | }
;; |
;; | define hidden range(i32 0, 2) i32 @"wasm[0]:even[entry]"(ptr nocapture readnone %0, i32 %1) section "awsm_text" {
;; |   %3 = call tailcc i32 @"wasm[0]:even"(ptr %0, i32 %1)
;; |   ret i32 %3
;; | }
