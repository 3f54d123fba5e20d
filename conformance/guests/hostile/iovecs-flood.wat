;; Writes all of its memory to stderr 8000 times over in one call.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (loop $again
      (i64.store (local.get $n) (i64.const 0xffff00000000))
      (local.set $n (i32.add (local.get $n) (i32.const 8)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 64000))))
    (drop (call $reply (i32.add (i32.const 400)
        (call $write (i32.const 2) (i32.const 0) (i32.const 8000) (i32.const 65000)))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1)))
