;; Has two memories.
(module
  (memory (export "memory") 1)
  (memory (export "other") 1)
  (func (export "proxy_abi_version_0_2_1")))
