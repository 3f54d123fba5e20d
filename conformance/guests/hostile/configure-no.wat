;; Does not like its configuration, and says so at the highest level in bytes that are no text.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\ff\00\0d\0aforged\1b[31m")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_configure") (param $root i32) (param $size i32) (result i32)
    (drop (call $log (i32.const 5) (i32.const 0) (i32.const 15)))
    (i32.const 0)))
