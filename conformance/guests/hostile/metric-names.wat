;; Defines metrics whose names are empty, hold the syntax of metrics, or are 64 KB long.
(module
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "a\22} 1\0aforged 7\0a{\ff")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_vm_start") (param $root i32) (param $size i32) (result i32)
    (drop (call $define (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128)))
    (drop (call $define (i32.const 0) (i32.const 0) (i32.const 18) (i32.const 128)))
    (drop (call $increment (i32.load (i32.const 128)) (i64.const 1)))
    (drop (call $define (i32.const 2) (i32.const 0) (i32.const 65000) (i32.const 128)))
    (i32.const 1)))
