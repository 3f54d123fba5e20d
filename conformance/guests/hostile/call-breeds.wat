;; Makes two HTTP calls for each answer to one.
(module
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "app")
  (data (i32.const 64) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\03\00\00\00:method\00GET\00:path\00/call\00:authority\00app\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $call (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 67) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 16)))
    (i32.const 0))
  (func (export "proxy_on_http_call_response") (param $root i32) (param $call i32) (param $headers i32) (param $body i32) (param $trailers i32)
    (drop (call $call (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 67) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 16)))
    (drop (call $call (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 67) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 16)))))
