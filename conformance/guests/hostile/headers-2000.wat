;; Adds two thousand headers.
(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-0000")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (loop $again
      (i32.store8 (i32.const 2) (i32.add (i32.const 97) (i32.rem_u (local.get $n) (i32.const 26))))
      (i32.store8 (i32.const 3) (i32.add (i32.const 97) (i32.rem_u (i32.div_u (local.get $n) (i32.const 26)) (i32.const 26))))
      (i32.store8 (i32.const 4) (i32.add (i32.const 97) (i32.div_u (local.get $n) (i32.const 676))))
      (drop (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 2000))))
    (i32.const 0)))
