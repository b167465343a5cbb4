;; Makes a command of QuickJS: the package has it as a library for hosts (a reactor), which this calls with
;; the command's own arguments. wasm-merge makes one module of both.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "qjs" "memory" (memory 1))
  (import "qjs" "_initialize" (func $initialize))
  (import "qjs" "malloc" (func $malloc (param i32) (result i32)))
  (import "qjs" "qjs_init_argv" (func $run (param i32 i32) (result i32)))
  (import "qjs" "qjs_destroy" (func $destroy))
  (func (export "_start") (local $sizes i32) (local $argc i32) (local $argv i32) (local $code i32)
    (call $initialize)
    (local.set $sizes (call $malloc (i32.const 8)))
    (drop (call $sizes (local.get $sizes) (i32.add (local.get $sizes) (i32.const 4))))
    (local.set $argc (i32.load (local.get $sizes)))
    ;; One pointer more than there are arguments: the last is null.
    (local.set $argv
      (call $malloc (i32.shl (i32.add (local.get $argc) (i32.const 1)) (i32.const 2))))
    (drop (call $args (local.get $argv) (call $malloc (i32.load offset=4 (local.get $sizes)))))
    (i32.store (i32.add (local.get $argv) (i32.shl (local.get $argc) (i32.const 2))) (i32.const 0))
    (local.set $code (call $run (local.get $argc) (local.get $argv)))
    (call $destroy)
    (call $exit (local.get $code))))
