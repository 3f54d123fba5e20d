;; Makes a gRPC call with a message that lies past memory.
(module
  (import "env" "proxy_grpc_call" (func $grpc (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "deaf")
  (data (i32.const 8) "app")
  (data (i32.const 16) "SM")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $reply (i32.add (i32.const 400)
        (call $grpc (i32.const 8) (i32.const 3) (i32.const 16) (i32.const 1) (i32.const 17) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const -1) (i32.const 1000) (i32.const 32)))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1)))
