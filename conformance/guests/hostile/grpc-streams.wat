;; Opens ten thousand gRPC streams to an upstream that does not read, and cancels every other one.
(module
  (import "env" "proxy_grpc_stream" (func $stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_cancel" (func $cancel (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "deaf")
  (data (i32.const 8) "app")
  (data (i32.const 16) "SM")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (loop $again
      (drop (call $stream (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 1) (i32.const 17) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 32)))
      (if (i32.and (local.get $n) (i32.const 1)) (then (drop (call $cancel (i32.load (i32.const 32))))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 10000))))
    (i32.const 0)))
