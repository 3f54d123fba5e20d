;; Defines ten thousand metrics.
(module
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "metric-0000")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_vm_start") (param $root i32) (param $size i32) (result i32)
    (local $n i32)
    (loop $again
      (i32.store (i32.const 7) (i32.add (i32.const 0x30303030) (local.get $n)))
      (drop (call $define (i32.rem_u (local.get $n) (i32.const 3)) (i32.const 0) (i32.const 11) (i32.const 64)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 10000))))
    (i32.const 1)))
