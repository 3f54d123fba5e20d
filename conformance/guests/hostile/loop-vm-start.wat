;; Loops for ever when its machine starts.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_vm_start") (param $root i32) (param $size i32) (result i32)
    (loop $spin (br $spin))
    (i32.const 1)))
