;; Stores ten thousand properties with one exchange.
(module
  (import "env" "proxy_set_property" (func $setproperty (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "p000")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (loop $again
      (i32.store (i32.const 0) (local.get $n))
      (drop (call $setproperty (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 64)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 10000))))
    (i32.const 0)))
