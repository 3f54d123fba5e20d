;; Changes the request and the response when the exchange is over.
(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $setbody (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $setproperty (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-late")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_log") (param $context i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6)))
    (drop (call $add (i32.const 2) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6)))
    (drop (call $setbody (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 6)))
    (drop (call $setproperty (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6)))))
