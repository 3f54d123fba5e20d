;; Sets the status of a response to 1.
(module
  (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) ":status")
  (data (i32.const 64) "1")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_response_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $replace (i32.const 2) (i32.const 0) (i32.const 7) (i32.const 64) (i32.const 1)))
    (i32.const 0)))
