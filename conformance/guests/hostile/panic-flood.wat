;; Reports a panic of 60 KB, in control characters, and stops.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (memory.fill (i32.const 0) (i32.const 27) (i32.const 61440))
    (drop (call $log (i32.const 5) (i32.const 0) (i32.const 61440)))
    unreachable))
