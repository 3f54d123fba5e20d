;; Makes an HTTP call with a body of 32 MB each time its timer fires, to an upstream that does not answer.
(module
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (memory (export "memory") 520)
  (data (i32.const 0) "mute")
  (data (i32.const 64) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\03\00\00\00:method\00GET\00:path\00/call\00:authority\00app\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_configure") (param $root i32) (param $size i32) (result i32)
    (drop (call $tick (i32.const 10)))
    (i32.const 1))
  (func (export "proxy_on_tick") (param $root i32)
    (drop (call $call (i32.const 0) (i32.const 4) (i32.const 64) (i32.const 67) (i32.const 0) (i32.const 0x2000000) (i32.const 0) (i32.const 0) (i32.const 60000) (i32.const 16)))))
