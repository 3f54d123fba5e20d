;; Wants the host to bring a table.
(module
  (import "env" "table" (table 1 funcref))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))
