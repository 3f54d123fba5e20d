;; Appends 64 KB to each piece of a body, eleven hundred times.
(module
  (import "env" "proxy_set_buffer_bytes" (func $setbody (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
    (local $n i32)
    (loop $again
      (drop (call $setbody (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 65536)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 1100))))
    (i32.const 0)))
