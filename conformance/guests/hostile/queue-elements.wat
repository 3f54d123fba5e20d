;; Puts four thousand elements of 4 KB into its queue for each request, and takes none of them.
(module
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "q")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_configure") (param $root i32) (param $size i32) (result i32)
    (drop (call $register (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.const 1))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (loop $again
      (drop (call $enqueue (i32.load (i32.const 8)) (i32.const 0) (i32.const 4096)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 4000))))
    (i32.const 0)))
