;; Imports in groups: of one module, and of one module and type.
(module
  (import "spectest" (item "global_i32" (global i32)) (item "print" (func)) (item "memory" (memory 1)))
  (import "spectest" (item "print_i32") (item "print_i32") (func (param i32)))
  (import "spectest" "global_i64" (global i64))
  (import "spectest" (item "global_f32") (global f32))
  (func (export "sum") (result i64)
    (call 0) (call 1 (i32.const 1)) (call 2 (i32.const 2))
    (i64.add (i64.extend_i32_u (global.get 0)) (global.get 1)))
  (func (export "last") (result f32) (global.get 2)))
(assert_return (invoke "sum") (i64.const 1332))
(assert_return (invoke "last") (f32.const 666.6))

;; The same in bytes: one function of a group of one module, two of a group of one type.
(module binary
  "\00asm" "\01\00\00\00"
  "\01\08\02" "\60\00\00" "\60\01\7f\00"                ;; types
  "\02\37\02"                                           ;; imports: two groups
    "\08spectest" "\00\7f\01" "\05print" "\00\00"
    "\08spectest" "\00\7e\00\01\02" "\09print_i32" "\09print_i32"
  "\03\02\01\00"                                        ;; a function
  "\07\08\01\04" "call\00\03"                           ;; its name
  "\0a\0e\01\0c\00" "\10\00\41\01\10\01\41\02\10\02\0b" ;; its code
)
(assert_return (invoke "call"))

(assert_unlinkable
  (module (import "spectest" (item "print" (func)) (item "nothing" (func))))
  "unknown import")
(assert_malformed
  (module binary
    "\00asm" "\01\00\00\00"
    "\01\04\01" "\60\00\00"
    "\02\0e\01" "\08spectest" "\00\7f\02" "\00")
  "unexpected end")
