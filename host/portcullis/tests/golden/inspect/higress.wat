;; A plugin for Higress: its own marker and imports, TinyGo's marks.
(module
  (@producers (language "C99" "") (processed-by "TinyGo" "0.34.0"))
  (import "env" "proxy_redis_call" (func (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "proxy_abi_version_0_2_100"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_redis_call_response") (param i32 i32 i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0)))
