;; Greets whoever the body names: writes "Hello, ", what it reads up to the line's end, and the rest.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; Three buffers to write: the greeting, the name at 256, the end.
  (data (i32.const 0) "\40\00\00\00\07\00\00\00" "\00\01\00\00\05\00\00\00" "\50\00\00\00\0c\00\00\00")
  ;; One to read the name into.
  (data (i32.const 32) "\00\01\00\00\64\00\00\00")
  (data (i32.const 64) "Hello, ")
  (data (i32.const 80) ", from WAT!\n")
  (data (i32.const 128) "world")
  (func (export "_start") (local $len i32) (local $end i32)
    (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 48)))
    (local.set $end (i32.add (i32.const 256) (i32.load (i32.const 48))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (i32.add (i32.const 256) (local.get $len)) (local.get $end)))
      (br_if $done (i32.eq (i32.load8_u offset=256 (local.get $len)) (i32.const 10)))
      (local.set $len (i32.add (local.get $len) (i32.const 1)))
      (br $next)))
    (if (local.get $len)
      (then (i32.store (i32.const 12) (local.get $len)))
      (else (i32.store (i32.const 8) (i32.const 128))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 48)))))
