;; Imports a host call under another type.
(module
  (import "env" "proxy_log" (func (param i64)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))
