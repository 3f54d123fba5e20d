;; Says that a request without a body is chunked.
(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "transfer-encoding")
  (data (i32.const 64) "chunked")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 17) (i32.const 64) (i32.const 7)))
    (i32.const 0)))
