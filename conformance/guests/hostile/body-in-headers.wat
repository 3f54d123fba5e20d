;; Replaces a body before there is one.
(module
  (import "env" "proxy_set_buffer_bytes" (func $setbody (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $setbody (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
    (drop (call $setbody (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
    (drop (call $setbody (i32.const 99) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
    (i32.const 0)))
