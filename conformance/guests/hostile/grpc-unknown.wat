;; Sends on gRPC streams that it never opened.
(module
  (import "env" "proxy_grpc_send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_cancel" (func $cancel (param i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $cancel (i32.const -1)))
    (drop (call $send (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 1)))
    (drop (call $reply (i32.add (i32.const 400)
        (call $send (i32.const 4098) (i32.const 0) (i32.const 4) (i32.const 0)))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1)))
