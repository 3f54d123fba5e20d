;; Adds a thousand headers of 60 KB to the response.
(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-long")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_response_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (memory.fill (i32.const 16) (i32.const 97) (i32.const 61440))
    (loop $again
      (drop (call $add (i32.const 2) (i32.const 0) (i32.const 6) (i32.const 16) (i32.const 61440)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 1000))))
    (i32.const 0)))
