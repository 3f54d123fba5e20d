;; Goes deep into its stack, and then has the host call its allocator, which goes as deep again.
(module
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (call $deeper (i32.const 1000000)))
  (func $deeper (param $left i32) (result i32)
    (if (result i32) (local.get $left)
      (then (i32.add (call $deeper (i32.sub (local.get $left) (i32.const 1))) (i32.const 1)))
      (else (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $deeper (i32.const 5000)))
    (i32.const 0)))
