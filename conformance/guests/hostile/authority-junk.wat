;; Sets an authority that is none.
(module
  (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) ":authority")
  (data (i32.const 64) "@:@:99999[")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $replace (i32.const 0) (i32.const 0) (i32.const 10) (i32.const 64) (i32.const 10)))
    (i32.const 0)))
