;; Has its timer fire each millisecond, and takes eight of them each time.
(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_vm_start") (param $root i32) (param $size i32) (result i32)
    (drop (call $tick (i32.const 1)))
    (i32.const 1))
  (func (export "proxy_on_tick") (param $root i32)
    (local $until i64)
    (drop (call $time (i32.const 0)))
    (local.set $until (i64.add (i64.load (i32.const 0)) (i64.const 8000000)))
    (loop $again
      (drop (call $time (i32.const 0)))
      (br_if $again (i64.lt_u (i64.load (i32.const 0)) (local.get $until))))))
