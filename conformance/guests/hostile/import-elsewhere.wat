;; Imports a function of a module that is no part of the ABI.
(module
  (import "kernel" "open" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))
