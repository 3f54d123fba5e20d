;; Takes nearly all the time that it may, in each of four callbacks.
(module
  (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func $spin
    (local $until i64)
    (drop (call $time (i32.const 0)))
    (local.set $until (i64.add (i64.load (i32.const 0)) (i64.const 3000000)))
    (loop $again
      (drop (call $time (i32.const 0)))
      (br_if $again (i64.lt_u (i64.load (i32.const 0)) (local.get $until)))))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (call $spin)
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (call $spin)
    (i32.const 0))
  (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
    (call $spin)
    (i32.const 0))
  (func (export "proxy_on_log") (param $context i32)
    (call $spin)))
