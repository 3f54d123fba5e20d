;; Logs 64 KB of line ends, again and again, for as long as it may.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (memory.fill (i32.const 0) (i32.const 10) (i32.const 65536))
    (loop $again (drop (call $log (i32.const 5) (i32.const 0) (i32.const 65536))) (br $again))
    (i32.const 0)))
