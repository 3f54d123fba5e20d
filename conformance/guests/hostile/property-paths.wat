;; Asks for properties by paths of sixty thousand segments, and of no text.
(module
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $property (i32.const 0) (i32.const 60000) (i32.const 60000) (i32.const 60004)))
    (memory.fill (i32.const 0) (i32.const 255) (i32.const 1000))
    (drop (call $reply (i32.add (i32.const 400)
        (call $property (i32.const 0) (i32.const 1000) (i32.const 60000) (i32.const 60004)))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1)))
