;; Says that a response is chunked twice and compressed.
(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "transfer-encoding")
  (data (i32.const 64) "gzip, chunked, chunked")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_response_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $add (i32.const 2) (i32.const 0) (i32.const 17) (i32.const 64) (i32.const 22)))
    (i32.const 0)))
