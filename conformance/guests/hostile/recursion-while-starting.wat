;; Calls itself for ever when its machine starts.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func $deeper (param i32) (result i32)
    (call $deeper (i32.add (local.get 0) (i32.const 1))))
  (func (export "proxy_on_vm_start") (param $root i32) (param $size i32) (result i32)
    (call $deeper (i32.const 0))))
