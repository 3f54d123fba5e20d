;; Registers two hundred queues with names of 60 KB for each request, and puts 60 KB into each.
(module
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "q")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (local $n i32)
    (local.set $n (i32.const 0))
    (loop $again
      (i32.store (i32.const 4) (i32.add (i32.load (i32.const 4)) (i32.const 1)))
      (drop (call $register (i32.const 0) (i32.const 60000) (i32.const 64000)))
      (drop (call $enqueue (i32.load (i32.const 64000)) (i32.const 0) (i32.const 60000)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 200))))
    (i32.const 0)))
